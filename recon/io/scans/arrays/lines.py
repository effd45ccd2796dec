"""Arrays of a scan.yaml as line integrals of some rows; what all rows share is taken from a few of them.

The noise of a detector with flat fields is that of at most ``ROWS`` of its rows. Where line integrals are given without
photons, their noise is that of every row of a small scan, and of rows spread over a large one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from priors.runtime.errors import InputError
from recon.data.noise import Exposure, estimate_i0, line_integrals, weights_without_counts
from recon.io.scans.arrays.description import ArrayScan
from recon.io.scans.arrays.frames import RawLayout, StoredFrames, open_frames
from recon.io.scans.parallel import ROWS
from recon.preprocess.radiographs import BLOCK, Fields, LineIntegrals, correct


@dataclass(frozen=True, eq=False)
class Measured:
    """What is in the files, as line integrals of some rows; what all rows share is known.

    Attributes:
        lines: returns line integrals and weights of some rows.
        i0: photons per ray without an object, None where the flat fields tell the weights.
    """

    lines: Callable[[slice], LineIntegrals]
    i0: float | None

    @classmethod
    def of(cls, description: ArrayScan, folder: Path, data: StoredFrames) -> "Measured":
        """Return the measurement that a description and its data make."""
        if description.flat is not None and description.dark is not None:
            return cls(_corrected(description, folder, data), None)
        if description.kind == "counts" and description.i0 is not None:
            return cls(partial(_counted, data, description.i0), description.i0)
        i0 = description.i0
        if i0 is None:
            looked_at = _float32(data, _noise_rows(data))
            if not np.isfinite(looked_at).all():
                raise InputError(f"{description.data}: holds NaN or infinite values, expected finite ones")
            i0 = estimate_i0(looked_at)
        return cls(partial(_stated, data, i0), i0)


def _corrected(description: ArrayScan, folder: Path, data: StoredFrames) -> Callable[[slice], LineIntegrals]:
    """Return the reader of counts that dark and flat fields correct."""
    views, rows, columns = data.shape
    dark, flat = (
        open_frames(folder, str(pattern), views=False, raw=_frame_layout(description.raw, data))
        for pattern in (description.dark, description.flat)
    )
    for name, frames in (("dark", dark), ("flat", flat)):
        if frames.shape[1:] != (rows, columns):
            found = f"{frames.shape[1:]} rows and columns"
            raise InputError(f"{name} field: found {found}, expected those of the data, {(rows, columns)}")
    every = slice(0, rows, max(1, rows // ROWS))
    stands_for = dark.on(every), flat.on(every)

    def lines(some: slice) -> LineIntegrals:
        fields = Fields.of(dark.on(some), flat.on(some), stands_for)
        return correct(lambda start, stop: data.read(start, stop, some), views, fields, some.start)

    return lines


def _counted(data: StoredFrames, i0: float, rows: slice) -> LineIntegrals:
    """Return line integrals of photons."""
    some = len(range(*rows.indices(data.shape[1]))) < data.shape[1]
    return LineIntegrals(*line_integrals(_float32(data, rows), Exposure(i0), partial=some))


def _stated(data: StoredFrames, i0: float, rows: slice) -> LineIntegrals:
    """Return line integrals as they are stored, with the weights of so many photons."""
    sinogram = _float32(data, rows)
    return LineIntegrals(sinogram, weights_without_counts(sinogram, i0))


def _float32(data: StoredFrames, rows: slice) -> Float32[np.ndarray, "v r c"]:
    """Return some rows of all views, converted a block of views at a time."""
    views, _, columns = data.shape
    count = len(range(*rows.indices(data.shape[1])))
    values = np.empty((views, count, columns), np.float32)
    block = max(1, BLOCK // max(count * columns, 1))
    for start in range(0, views, block):
        stop = min(start + block, views)
        values[start:stop] = data.read(start, stop, rows)
    return values


def _noise_rows(data: StoredFrames) -> slice:
    """Return the rows whose noise stands for that of all: every one of a small scan."""
    views, rows, columns = data.shape
    count = min(rows, max(1, BLOCK // max(views * columns, 1)))
    step = max(1, rows // count)
    return slice((rows - 1) % step // 2 if step > 1 else 0, rows, step)


def _frame_layout(raw: RawLayout | None, data: StoredFrames) -> RawLayout | None:
    """Return the layout of a field in raw numbers: one frame of the data's detector, without a header."""
    return None if raw is None else raw.model_copy(update={"shape": data.shape[1:], "offset": 0})
