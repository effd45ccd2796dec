"""The rotation axis of a parallel scan read row by row: a person's, the file's, or the data's where estimates agree."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError
from recon.io.scans.format import ScanOptions
from recon.preprocess.centre_search import Axis, search_axis
from recon.preprocess.radiographs import BLOCK, LineIntegrals

LOOKED_AT = 9
"""Rows among which the one with the most contrast shows its rotation axis."""
FAR = 2.0
"""Columns between a recorded and a searched axis that are told."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of a scan before its rows are read.

    Attributes:
        lines: line integrals of some rows.
        shape: views, rows, columns.
        angles_deg: of the views.
        recorded: columns of the rotation axis, of which the data decide; empty where none is recorded.
        warnings: what was assumed or left out so far; more is added.
    """

    lines: Callable[[slice], LineIntegrals]
    shape: tuple[int, int, int]
    angles_deg: Float64[np.ndarray, " v"]
    recorded: tuple[float, ...]
    warnings: list[str]


def axis_of(scan: Rows, options: ScanOptions) -> Axis:
    """Return the rotation axis.

    Raises:
        InputError: nobody says it, and the estimates disagree.
    """
    if options.centre is not None:
        return Axis(options.centre, "high", {"stated": options.centre})
    arc = float(np.ptp(scan.angles_deg))
    if len(scan.angles_deg) >= 16 and min(abs(arc - np.pi), abs(arc - 2 * np.pi)) < 0.3:
        scan.warnings.append(
            f"the angles span {arc:.3g} degrees, as if they were radians without saying so in units"
        )
    try:
        found = search_axis(_busiest_row(scan), scan.angles_deg)
    except InputError as error:
        if not scan.recorded:
            raise InputError("; ".join([str(error), *scan.warnings[-1:]])) from error
        return Axis(scan.recorded[0], "fair", {"recorded": scan.recorded[0]})
    if scan.recorded:
        recorded = min(scan.recorded, key=lambda column: abs(column - found.column))
        if found.confidence == "high" and abs(recorded - found.column) > FAR:
            scan.warnings.append(
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
        scan.warnings.append(f"{doubt}; {found.column:.2f} was taken, a reconstruction asks for it")
    return found


def _busiest_row(scan: Rows) -> np.ndarray:
    """Return the line integrals of the row with the most contrast among a few."""
    views, rows, columns = scan.shape
    count = max(1, min(LOOKED_AT, rows, 16 * BLOCK // max(views * columns, 1)))
    chosen = sorted({int(row) for row in np.linspace(0, rows - 1, count + 2)[1:-1].round()})
    best, contrast = None, -1.0
    dark: InputError | None = None
    for row in chosen:
        try:
            lines = scan.lines(slice(row, row + 1)).sinogram[:, 0]
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
