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

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_array
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.io.scans.format import ScanOptions
from recon.preprocess.centre_search import Axis, search_axis
from recon.preprocess.radiographs import BLOCK, Fields, LineIntegrals, correct

ROWS = 64
"""Rows that stand for the whole detector."""
SAMPLE_BYTES = 2**26
"""Bytes of line integrals and weights that stand for a scan in a plan or a look."""
LOOKED_AT = 9
"""Rows among which the one with the most contrast shows its rotation axis."""
FAR = 2.0
"""Columns between a recorded and a searched axis that are told."""

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
    start, stop = (0, rows) if options.pick is None else options.pick(rows)
    low, high = _middle(start, stop, _some(options.sample, turn.shape))
    # Line integrals and their weights.
    check_array("scan", (2, turn.shape[0], high - low, columns), np.float32)
    every = slice(0, rows, max(1, rows // ROWS))
    stands_for = (turn.dark(every), turn.flat(every))
    axis = _axis(turn, options, stands_for)
    height, width = turn.pixel_mm or (1.0, 1.0)
    geometry = parallel_orbit(turn.angles_deg, (rows, columns), (height, width), axis.column).geometry()
    grid = Grid((rows, columns, columns), (height, width, width))
    whole = geometry.rows(start, stop), grid.slices(start, stop)
    lines = _lines(turn, slice(low, high), stands_for)
    return Scan(
        lines.sinogram,
        geometry.rows(low, high),
        grid.slices(low, high),
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
        whole=whole if (low, high) != (start, stop) else None,
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


def _some(sample: int | None, shape: tuple[int, int, int]) -> int | None:
    """Return how many rows stand for all: as asked for, fewer of a scan whose rows are large."""
    views, _, columns = shape
    return None if sample is None else max(1, min(sample, SAMPLE_BYTES // (8 * views * columns)))


def _middle(start: int, stop: int, sample: int | None) -> tuple[int, int]:
    if sample is None or sample >= stop - start:
        return start, stop
    first = min(max(start, (start + stop) // 2 - sample // 2), stop - sample)
    return first, first + sample


def _axis(turn: Turn, options: ScanOptions, stands_for: tuple[np.ndarray, np.ndarray]) -> Axis:
    """Return the rotation axis: a person's, the file's or, where the estimates agree, the data's.

    Raises:
        InputError: nobody says it, and the estimates disagree.
    """
    if options.centre is not None:
        return Axis(options.centre, "high", {"stated": options.centre})
    arc = float(np.ptp(turn.angles_deg))
    if len(turn.angles_deg) >= 16 and min(abs(arc - np.pi), abs(arc - 2 * np.pi)) < 0.3:
        turn.warnings.append(
            f"the angles span {arc:.3g} degrees, as if they were radians without saying so in units"
        )
    try:
        found = search_axis(_busiest_row(turn, stands_for), turn.angles_deg)
    except InputError as error:
        if not turn.axis:
            raise InputError("; ".join([str(error), *turn.warnings[-1:]])) from error
        return Axis(turn.axis[0], "fair", {"recorded": turn.axis[0]})
    if turn.axis:
        recorded = min(turn.axis, key=lambda column: abs(column - found.column))
        if found.confidence == "high" and abs(recorded - found.column) > FAR:
            turn.warnings.append(
                f"the recorded rotation axis {recorded:.2f} is used, but the data say {found.column:.2f} "
                f"({found.told()})"
            )
        return Axis(recorded, "high", {"recorded": recorded, **found.estimates})
    if found.confidence == "low":
        doubt = f"centre of rotation: the estimates disagree ({found.told()})"
        if not options.doubtful_centre:
            raise InputError(
                f"{doubt}, so none is used; state it: 'preprocess=[{{name: centre, column: X}}]'"
            )
        turn.warnings.append(f"{doubt}; {found.column:.2f} was taken, a reconstruction asks for it")
    return found


def _busiest_row(turn: Turn, stands_for: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the line integrals of the row with the most contrast among a few."""
    views, rows, columns = turn.shape
    count = max(1, min(LOOKED_AT, rows, 16 * BLOCK // max(views * columns, 1)))
    chosen = sorted({int(row) for row in np.linspace(0, rows - 1, count + 2)[1:-1].round()})
    best, contrast = None, -1.0
    dark: InputError | None = None
    for row in chosen:
        try:
            lines = _lines(turn, slice(row, row + 1), stands_for).sinogram[:, 0]
        except InputError as error:
            # A row without light does not stop the others; where none has any, that is the mistake.
            if "every value is zero" not in str(error):
                raise
            dark = error
            continue
        if float(lines.std()) > contrast:
            best, contrast = lines, float(lines.std())
    if best is None:
        raise dark or InputError("data: found no row to look at")
    return best


def _sizes(height: float, width: float) -> float | str:
    return width if height == width else f"{height} x {width} (row, column)"
