"""Radiographs of a half or full turn of parallel views in a file, read row by row as they are asked for.

Fields first: what corrects the rows asked for, and the noise of the detector from at most ``ROWS`` of its rows, so
that weights do not depend on which part of a scan is read. Then the rotation axis, recorded or searched on one row;
then the views, in blocks. A scan of tens of gigabytes is planned, looked at or reconstructed in slabs with the
memory of a slab.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Real

from priors.runtime.files.bounds import check_array
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.io.scans.format import ScanOptions
from recon.io.scans.rows.axis import Rows, axis_of
from recon.io.scans.rows.parts import part_of
from recon.preprocess.radiographs import Fields, LineIntegrals, correct

ROWS = 64
"""Rows that stand for the whole detector."""

Frames = Callable[[slice], Real[np.ndarray, "f r c"]]


@dataclass(frozen=True, eq=False)
class Turn:
    """A parallel scan in a file.

    Attributes:
        shape: views, rows, columns.
        read: radiographs of views START to STOP on some rows (or rows with a step).
        dark, flat: frames on some rows.
        angles_deg: of the views.
        pixel_mm: height and width of a pixel on the sample, None where they are not recorded.
        axis: recorded columns of the rotation axis, of which the data decide; empty where it is not recorded.
        kind: name of the file format.
        warnings: what was assumed or left out so far.
    """

    shape: tuple[int, int, int]
    read: Callable[[int, int, slice], Real[np.ndarray, "v r c"]]
    dark: Frames
    flat: Frames
    angles_deg: Float64[np.ndarray, " v"]
    pixel_mm: tuple[float, float] | None
    axis: tuple[float, ...] = ()
    kind: str = ""
    warnings: list[str] = field(default_factory=list)


def parallel_orbit(
    angles_deg: Float64[np.ndarray, " v"],
    shape: tuple[int, int],
    pixel_mm: tuple[float, float],
    centre: float,
) -> Parallel:
    """Return the orbit whose rotation axis falls on column ``centre`` of a detector of ``shape`` (rows, columns)."""
    rows, columns = shape
    return Parallel(
        angles_deg=tuple(float(a) for a in angles_deg),
        columns=columns,
        column_mm=pixel_mm[1],
        rows=rows,
        row_mm=pixel_mm[0],
        offset_columns=(columns - 1) / 2 - centre,
    )


def scan_of(turn: Turn, options: ScanOptions) -> Scan:
    """Return the rows of a scan that the options pick, its unit 1/mm.

    Raises:
        InputError: the fields or values are not those of a scan, or the rotation axis cannot be found.
    """
    _, rows, columns = turn.shape
    part = part_of(options, turn.shape)
    # Line integrals and their weights.
    check_array("scan", (2, turn.shape[0], part.high - part.low, columns), np.float32)
    every = slice(0, rows, max(1, rows // ROWS))
    stands_for = (turn.dark(every), turn.flat(every))
    rows_of = Rows(
        lambda some: _lines(turn, some, stands_for), turn.shape, turn.angles_deg, turn.axis, turn.warnings
    )
    axis = axis_of(rows_of, options)
    height, width = turn.pixel_mm or (1.0, 1.0)
    geometry = parallel_orbit(turn.angles_deg, (rows, columns), (height, width), axis.column).geometry()
    grid = Grid((rows, columns, columns), (height, width, width))
    lines = _lines(turn, part.read, stands_for)
    return Scan(
        lines.sinogram,
        geometry.rows(part.low, part.high),
        grid.slices(part.low, part.high),
        lines.weights,
        unit="1/mm",
        provenance={
            "kind": "measured",
            "format": turn.kind,
            "centre_column": round(axis.column, 3),
            "centre_estimates": f"{axis.told()} (confidence {axis.confidence})",
            "pixel_mm": _sizes(height, width) if turn.pixel_mm else "not recorded, taken as 1",
        },
        warnings=tuple(turn.warnings),
        whole=part.whole(geometry, grid),
        partial=part.partial,
    )


def frames_of(stored: Callable[[np.ndarray | slice, slice], np.ndarray], index: np.ndarray) -> Frames:
    """Return a reader of the frames ``index`` on some rows; runs of neighbours are read at once."""

    def read(rows: slice) -> np.ndarray:
        consecutive = len(index) > 0 and index[-1] - index[0] == len(index) - 1
        return stored(slice(int(index[0]), int(index[-1]) + 1) if consecutive else index, rows)

    return read


def _lines(turn: Turn, rows: slice, stands_for: tuple[np.ndarray, np.ndarray]) -> LineIntegrals:
    fields = Fields.of(turn.dark(rows), turn.flat(rows), stands_for)
    return correct(lambda start, stop: turn.read(start, stop, rows), turn.shape[0], fields, rows.start)


def _sizes(height: float, width: float) -> float | str:
    return width if height == width else f"{height} x {width} (row, column)"
