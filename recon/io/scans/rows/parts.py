"""Which rows of a scan are read: those that a job picks, or some in their middle that stand for all of them."""

from dataclasses import dataclass

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.io.scans.format import ScanOptions

SAMPLE_BYTES = 2**26
"""Bytes of line integrals and weights that stand for a scan in a plan or a look."""


@dataclass(frozen=True)
class Part:
    """Rows START to STOP of a scan of so many ``rows`` are asked for, and LOW to HIGH of them are read."""

    start: int
    stop: int
    low: int
    high: int
    rows: int

    @property
    def read(self) -> slice:
        """The rows that are read."""
        return slice(self.low, self.high)

    @property
    def partial(self) -> bool:
        """Whether the scan has rows that are not read."""
        return self.high - self.low < self.rows

    def whole(self, geometry: ScanGeometry, grid: Grid) -> tuple[ScanGeometry, Grid] | None:
        """Return geometry and grid of all rows asked for, from those of the detector; None where all are read."""
        if (self.low, self.high) == (self.start, self.stop):
            return None
        return geometry.rows(self.start, self.stop), grid.slices(self.start, self.stop)


def part_of(options: ScanOptions, shape: tuple[int, int, int], *, crossed: str | None = None) -> Part:
    """Return the rows to read of a scan of a shape (views, rows, columns).

    Args:
        options: of the reader.
        shape: of the radiographs.
        crossed: beam whose rays cross slices, so that all rows are needed; None of a stack.

    Raises:
        InputError: some rows are picked where all are needed, or the pick picks none.
    """
    views, rows, columns = shape
    if crossed is not None:
        if options.pick is not None:
            raise InputError(f"slices: the rays of a {crossed} beam cross slices, expected all of them")
        return Part(0, rows, 0, rows, rows)
    start, stop = (0, rows) if options.pick is None else options.pick(rows)
    sample = options.sample
    if sample is not None:
        # Fewer of a scan whose rows are large.
        sample = max(1, min(sample, SAMPLE_BYTES // (8 * views * columns)))
    if sample is None or sample >= stop - start:
        return Part(start, stop, start, stop, rows)
    low = min(max(start, (start + stop) // 2 - sample // 2), stop - sample)
    return Part(start, stop, low, low + sample, rows)
