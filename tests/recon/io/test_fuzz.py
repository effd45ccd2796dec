"""A few damaged files for every CT reader; `benchmarks/fuzz/fuzz.py` runs thousands."""

import pytest

from benchmarks.fuzz.ct_samples import SAMPLES
from benchmarks.fuzz.fuzz import run


@pytest.mark.parametrize("reader", SAMPLES)
def test_damaged_files_are_read_or_refused(reader: str) -> None:
    report = run(reader, count=15, seed=7)
    assert report.cases == 15
    assert not report.defects
