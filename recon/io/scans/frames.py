"""Arrays that a scan.yaml names: .npy, TIFF (one file, many pages, or one file per view), or raw numbers.

Raw numbers need their layout, since a file of bytes says nothing about itself:

    raw: {dtype: uint16, shape: [720, 512, 512], offset: 1024, byteorder: big}

``shape`` is that of one file: (view, row, column), or (row, column) where each view is a file of its own.
"""

import math
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Real
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_within, read_npy
from priors.runtime.files.reads import note_read
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

    def load(self, file: Path) -> np.ndarray:
        """Return the numbers in ``file``.

        Raises:
            InputError: the file has another size.
        """
        kind = np.dtype(self.dtype).newbyteorder("<" if self.byteorder == "little" else ">")
        wanted, found = self.offset + math.prod(self.shape) * kind.itemsize, file.stat().st_size
        if found != wanted:
            told = f"{self.offset} + {' x '.join(map(str, self.shape))} x {kind.itemsize}"
            raise InputError(f"{file.name}: found {found} bytes, expected {told} = {wanted}")
        array = np.fromfile(file, kind, offset=self.offset).reshape(self.shape)
        return array.astype(kind.newbyteorder("="))


def load_frames(
    folder: Path, pattern: str, *, views: bool = True, raw: RawLayout | None = None
) -> Real[np.ndarray, "v r c"]:
    """Return the arrays of all files that match ``pattern``, in the order of the numbers in their names.

    Args:
        folder: where they are.
        pattern: name or glob.
        views: whether a single plane is a sinogram (view, column) rather than a frame (row, column).
        raw: layout of files without a header.

    Raises:
        InputError: none match, one cannot be read, or their shapes differ.
    """
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise InputError(f"{pattern}: expected files beside the YAML file")
    try:
        files = natural_order_of(folder.glob(pattern))
    except (OSError, ValueError):  # no name of a file: empty, too long, with a null byte
        files = []
    if not files:
        raise InputError(f"{pattern}: does not exist beside the YAML file")
    frames = [_load(file, raw) for file in files]
    if len({frame.shape for frame in frames}) > 1:
        raise InputError(f"{pattern}: files of different shapes, found {sorted({f.shape for f in frames})}")
    # Files of several frames each follow one another, as single frames do.
    several = frames[0].ndim == 3
    array = frames[0] if len(frames) == 1 else np.concatenate(frames) if several else np.stack(frames)
    if array.ndim == 2:
        # One file of a scan is a sinogram (view, column); one file of a field is a frame (row, column).
        array = array[:, None] if views else array[None]
    if array.ndim != 3 or array.dtype.kind not in "iuf" or 0 in array.shape:
        raise InputError(
            f"{pattern}: found {array.dtype} values of shape {array.shape}, expected (view, row, column)"
        )
    return array


def _load(file: Path, raw: RawLayout | None) -> np.ndarray:
    note_read(file)
    check_within(file.parent, [file])
    name = file.name.lower()
    if name.endswith(ENDINGS):
        return load_tiff(file).values
    if raw is not None:
        return raw.load(file)
    if not name.endswith(".npy"):
        raise InputError(f"{file.name}: expected .npy or TIFF, or the layout of its numbers in the key raw")
    try:
        with file.open("rb") as stream:
            return read_npy(stream, file.name)
    except InputError:
        raise
    except Exception as error:
        # numpy reads headers with the tokens of Python: damage shows in many kinds of errors.
        raise InputError(f"{file.name}: is not a readable .npy file") from error
