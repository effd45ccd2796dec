"""A NIfTI file (.nii, float32, not compressed) that is written slab by slab and read without being loaded.

Header of 352 bytes, then the slices one after the other, so that a slab is one piece of the file. Written with plain
writes, not through a memory map: on a full disk those fail with an error, while a map ends the process.
"""

from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Float32, Float64

from priors.runtime.errors import InputError
from recon.data.volume import Unit
from recon.io.volumes.nifti.file import describe

_OFFSET = 352
_LARGEST = 32767


class NiftiSlabs:
    """A volume on disk.

    Args:
        path: of the file.
        shape: slices, rows, columns.

    Raises:
        InputError: an axis is longer than NIfTI can say.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        """Name the file; `create` makes it."""
        self.path, self.shape = path, shape
        self._slice = 4 * shape[1] * shape[2]
        if max(shape) > _LARGEST:
            raise InputError(
                f"{path}: found {shape} voxels, expected at most {_LARGEST} along an axis of NIfTI"
            )

    def create(self, affine: Float64[np.ndarray, "4 4"], unit: Unit) -> None:
        """Write the header, and zeros that take no room yet.

        Raises:
            InputError: the file cannot be written.
        """
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.float32)
        header.set_data_shape(self.shape[::-1])
        describe(header, affine, unit)
        header["vox_offset"], header["magic"] = _OFFSET, b"n+1"
        try:
            with self.path.open("wb") as stream:
                stream.write(header.binaryblock + bytes(4))
                stream.truncate(_OFFSET + self.shape[0] * self._slice)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def is_whole(self) -> bool:
        """Tell whether the file is there with room for every slice."""
        wanted = _OFFSET + self.shape[0] * self._slice
        return self.path.is_file() and self.path.stat().st_size == wanted

    def write(self, start: int, values: Float32[np.ndarray, "z y x"]) -> None:
        """Write slices from number ``start`` on.

        Raises:
            InputError: the disk is full, or the file cannot be written.
        """
        try:
            with self.path.open("r+b") as stream:
                stream.seek(_OFFSET + start * self._slice)
                for plane in values:
                    stream.write(np.ascontiguousarray(plane, dtype="<f4").data)
                stream.flush()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def read(self, start: int, stop: int) -> Float32[np.ndarray, "z y x"]:
        """Return slices START to STOP."""
        _, height, width = self.shape
        with self.path.open("rb") as stream:
            stream.seek(_OFFSET + start * self._slice)
            values = np.fromfile(stream, "<f4", (stop - start) * height * width)
        return values.reshape(stop - start, height, width)

    def values(self) -> Float32[np.ndarray, "z y x"]:
        """Return the values as a map of the file: what is not looked at takes no memory."""
        return np.memmap(self.path, "<f4", "r", _OFFSET, self.shape)
