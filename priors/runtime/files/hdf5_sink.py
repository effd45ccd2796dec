"""Writing HDF5 so that a full disk is an error: the library ends the process where a write fails as it closes a file.

It writes through a file of Python's that keeps the first error and from then on takes everything without writing. The
library never sees a failure, closes in peace, and the error is raised after it.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def hdf5_sink(path: Path) -> Iterator[io.RawIOBase]:
    """Yield what h5py, h5netcdf and xarray write an existing file through.

    Raises:
        OSError: a write failed.
    """
    with path.open("r+b", buffering=0) as raw:
        sink = _Sink(raw)
        try:
            yield sink
        except Exception:
            if sink.failed is not None:
                raise sink.failed from None
            raise
        if sink.failed is not None:
            raise sink.failed


class _Sink(io.RawIOBase):
    """A file that remembers its first error instead of raising it."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self.failed: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        read = self._raw.readinto(view) or 0
        if self.failed is not None and read < len(view):
            # What was not written reads as zeros: the file is lost, but the library need not notice.
            view[read:] = bytes(len(view) - read)
            read = len(view)
        return read

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        left = view
        while self.failed is None and len(left):
            try:
                left = left[self._raw.write(left) or 0 :]
            except OSError as error:
                self.failed = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return size or 0

    def flush(self) -> None:
        """Nothing is held back."""
