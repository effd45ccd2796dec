"""Arrays that a scan.yaml names: .npy, TIFF (one file, many pages, or one file per view), or raw numbers.

Raw numbers need their layout, since a file of bytes says nothing about itself:

    raw: {dtype: uint16, shape: [720, 512, 512], offset: 1024, byteorder: big}

``shape`` is that of one file: (view, row, column), or (row, column) where each view is a file of its own.

Files are opened first and read as rows are asked for: numbers that lie in a file as they are (.npy, raw, TIFF without
compression) row by row, compressed TIFF page by page, other files whole.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_array, check_regular, check_within, read_npy
from priors.runtime.files.reads import note_read
from recon.io.volumes.tiff.layout import layout_of, page_reader
from recon.io.volumes.tiff.pages import ENDINGS, load_tiff, natural_order_of


class RawLayout(BaseModel):
    """How numbers lie in a file without a header.

    Attributes:
        dtype: their type.
        shape: of one file, slowest axis first.
        offset: bytes to skip at the start.
        byteorder: little or big endian.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
    shape: tuple[PositiveInt, ...] = Field(min_length=2, max_length=3)
    offset: int = Field(0, ge=0)
    byteorder: Literal["little", "big"] = "little"

    def opened(self, file: Path) -> "StoredFrames":
        """Return the frames in ``file``.

        Raises:
            InputError: the file has another size.
        """
        kind = np.dtype(self.dtype).newbyteorder("<" if self.byteorder == "little" else ">")
        wanted, found = self.offset + math.prod(self.shape) * kind.itemsize, file.stat().st_size
        if found != wanted:
            told = f"{self.offset} + {' x '.join(map(str, self.shape))} x {kind.itemsize}"
            raise InputError(f"{file.name}: found {found} bytes, expected {told} = {wanted}")
        return _numbers(file, kind, self.shape, self.offset)


Reader = Callable[[int, int, slice], np.ndarray]


@dataclass(frozen=True, eq=False)
class StoredFrames:
    """Frames in files.

    Attributes:
        shape: frames, rows, columns; of a file of one plane the last two.
        dtype: of the values read.
        read: returns frames START to STOP, of each some rows.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Reader

    def all(self) -> np.ndarray:
        """Return all frames (frame, row, column)."""
        return self.read(0, self.shape[0], slice(0, self.shape[1]))

    def on(self, rows: slice) -> np.ndarray:
        """Return some rows of all frames."""
        return self.read(0, self.shape[0], rows)


def open_frames(
    folder: Path, pattern: str, *, views: bool = True, raw: RawLayout | None = None
) -> StoredFrames:
    """Return the frames of all files that match ``pattern``, in the order of the numbers in their names.

    Args:
        folder: where they are.
        pattern: name or glob.
        views: whether a single plane is a sinogram (view, column) rather than a frame (row, column).
        raw: layout of files without a header.

    Raises:
        InputError: none match, one cannot be read, or their shapes differ.
    """
    files = matching(folder, pattern)
    for file in files:
        note_read(file)
    check_within(folder, files)
    first = _opened(files[0], raw)
    if len(first.shape) == 2 and len(files) == 1:
        # One file of a scan is a sinogram (view, column); one file of a field is a frame (row, column).
        frames = _as_sinogram(first) if views else _planes(files, [first], raw)
    elif len(first.shape) == 2:
        frames = _planes(files, [first], raw)
    else:
        frames = _concatenated(pattern, [first, *(_opened(file, raw) for file in files[1:])])
    if len(frames.shape) != 3 or frames.dtype.kind not in "iuf" or 0 in frames.shape:
        raise InputError(
            f"{pattern}: found {frames.dtype} values of shape {frames.shape}, expected (view, row, column)"
        )
    return frames


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files beside a YAML file that match ``pattern``.

    Raises:
        InputError: none do, or it leads elsewhere.
    """
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise InputError(f"{pattern}: expected files beside the YAML file")
    try:
        files = natural_order_of(folder.glob(pattern))
    except (OSError, ValueError):  # no name of a file: empty, too long, with a null byte
        files = []
    if not files:
        raise InputError(f"{pattern}: does not exist beside the YAML file")
    check_regular(Path(pattern), files)
    return files


def _as_sinogram(plane: StoredFrames) -> StoredFrames:
    """Return a plane (view, column) as views of one row."""
    views, columns = plane.shape

    def read(start: int, stop: int, rows: slice) -> np.ndarray:
        values: np.ndarray = plane.read(0, 1, slice(start, stop))[0][:, None][:, rows]
        return values

    return StoredFrames((views, 1, columns), plane.dtype, read)


def _planes(files: Sequence[Path], known: list[StoredFrames], raw: RawLayout | None) -> StoredFrames:
    """Return files of one plane each, of which the first is open, as frames; the others are opened when read."""
    first = known[0]

    def read(start: int, stop: int, rows: slice) -> np.ndarray:
        planes = []
        for number in range(start, stop):
            plane = first if number == 0 else _opened(files[number], raw)
            if plane.shape != first.shape:
                found = sorted({first.shape, plane.shape})
                raise InputError(f"{files[number].name}: files of different shapes, found {found}")
            planes.append(plane.read(0, 1, rows)[0])
        return np.stack(planes)

    return StoredFrames((len(files), *first.shape), first.dtype, read)


def _concatenated(pattern: str, several: Sequence[StoredFrames]) -> StoredFrames:
    """Return files of several frames each as frames that follow one another, as single frames do."""
    if len({frames.shape for frames in several}) > 1:
        found = sorted({frames.shape for frames in several})
        raise InputError(f"{pattern}: files of different shapes, found {found}")
    if len(several) == 1:
        return several[0]
    ends = list(accumulate(frames.shape[0] for frames in several))

    def read(start: int, stop: int, rows: slice) -> np.ndarray:
        parts = []
        for frames, end in zip(several, ends, strict=True):
            begin = end - frames.shape[0]
            low, high = max(start, begin), min(stop, end)
            if low < high:
                parts.append(frames.read(low - begin, high - begin, rows))
        return np.concatenate(parts)

    first = several[0]
    return StoredFrames((ends[-1], *first.shape[1:]), np.result_type(*(one.dtype for one in several)), read)


def _opened(file: Path, raw: RawLayout | None) -> StoredFrames:
    """Return the frames of one file."""
    name = file.name.lower()
    if name.endswith(ENDINGS):
        found = layout_of(file)
        if found is None:
            return _whole(load_tiff(file).values)
        if found.offset is not None:
            return _numbers(file, found.dtype, found.shape, found.offset)
        return StoredFrames(found.shape, found.dtype, page_reader(file))
    if raw is not None:
        return raw.opened(file)
    if not name.endswith(".npy"):
        raise InputError(f"{file.name}: expected .npy or TIFF, or the layout of its numbers in the key raw")
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version in ((1, 0), (2, 0)):
                v1 = version == (1, 0)
                header = np.lib.format.read_array_header_1_0 if v1 else np.lib.format.read_array_header_2_0
                shape, by_columns, dtype = header(stream)
                size, offset = math.prod(shape) * dtype.itemsize, stream.tell()
                plain = dtype.kind in "iuf" and not by_columns and len(shape) in (2, 3)
                if plain and 0 < size <= file.stat().st_size - offset:
                    return _numbers(file, dtype, shape, offset)
            stream.seek(0)
            return _whole(read_npy(stream, file.name))
    except InputError:
        raise
    except Exception as error:
        # numpy reads headers with the tokens of Python: damage shows in many kinds of errors.
        raise InputError(f"{file.name}: is not a readable .npy file") from error


def _whole(values: np.ndarray) -> StoredFrames:
    """Return the frames of an array in memory."""

    def read(start: int, stop: int, rows: slice) -> np.ndarray:
        return values[start:stop, rows] if values.ndim == 3 else values[None, rows]

    return StoredFrames(values.shape, values.dtype, read)


def _numbers(file: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> StoredFrames:
    """Return frames whose numbers lie in a file as they are, from a byte on, the last axis fastest."""
    native = dtype.newbyteorder("=")
    rows, columns = shape[-2:]

    def read(start: int, stop: int, some: slice) -> np.ndarray:
        first, end, step = some.indices(rows)
        count = max(0, end - first) * columns
        check_array(file.name, (stop - start, count), native)
        frames = np.empty((stop - start, count), native)
        with file.open("rb") as stream:
            for number, frame in enumerate(frames):
                stream.seek(offset + ((start + number) * rows + first) * columns * dtype.itemsize)
                values = np.fromfile(stream, dtype, count)
                if len(values) != count:
                    raise InputError(f"{file.name}: ends in frame {start + number}, expected {shape[-2:]}")
                frame[:] = values
        return frames.reshape(stop - start, -1, columns)[:, ::step]

    return StoredFrames(tuple(int(n) for n in shape), native, read)
