"""Starved rays, truncation, negative volumes: the job says so, ``metrics.json`` keeps it, ``--strict`` refuses it."""

import json
from pathlib import Path

import numpy as np
import pytest

from recon.data.noise import Exposure
from recon.data.scan import Scan
from recon.geometry.orbits import Parallel
from recon.io.scans.registry import write_scan
from tests.support.command_line import inside, mistake
from tests.support.recon.parallel_files import lines

VIEWS, COLUMNS, I0 = 40, 64, 2e4
DEGREES = np.arange(VIEWS) * 180.0 / VIEWS
# A disc of radius 20 columns, 0.03 per column, and a dense pin in it.
CLEAN = lines(DEGREES, COLUMNS, 31.5, ((0.0, 0.0, 20.0, 0.03), (8.0, 3.0, 3.0, 0.1)))


def scan(path: Path, name: str) -> Path:
    """Write the scan with one thing wrong, or with nothing."""
    line_integrals, columns = CLEAN, slice(0, COLUMNS)
    if name == "starved":
        # Six columns of iron: not a photon comes through the pin.
        line_integrals = CLEAN + 20.0 * (lines(DEGREES, COLUMNS, 31.5, ((8.0, 3.0, 3.0, 0.1),)) > 0)
    if name == "truncated":
        columns = slice(16, 48)
    if name == "negative":
        # The open beam was measured at a third of what it was: every line integral is 1.1 too small.
        line_integrals = CLEAN - np.log(3.0)
    photons = np.random.default_rng(0).poisson(I0 * np.exp(-line_integrals[:, None, columns]))
    kept = photons.shape[2]
    orbit = Parallel(views=VIEWS, columns=kept, column_mm=1.0, rows=1, row_mm=1.0)
    counts = photons.astype(np.float32)
    write_scan(
        path,
        Scan.from_counts(orbit.geometry(), orbit.grid(), counts=counts, exposure=Exposure(I0)),
    )
    return path


DOUBTS = {
    "starved": "of the rays counted less than a photon",
    "truncated": "the object is wider than the detector, or the flat field is wrong",
    "negative": "of voxels have negative attenuation",
}


@pytest.mark.parametrize("name", DOUBTS)
def test_a_doubt_is_printed_kept_and_an_error_when_strict(tmp_path: Path, name: str) -> None:
    path, sentence = scan(tmp_path / "scan.h5", name), DOUBTS[name]
    done = inside("reconstruct", path, "--out", tmp_path / "run", "--method", "fbp")
    said = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert sum(sentence in line for line in said) == 1
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())["warnings"]
    assert sum(sentence in warning for warning in kept) == 1
    refused = mistake("reconstruct", path, "--out", tmp_path / "strict", "--method", "fbp", "--strict")
    # The first is named: of a scan before the work, of a result (a wrong open beam fits badly too) after it.
    assert refused.startswith(f"error: strict: {kept[0]}")
    assert (tmp_path / "strict").exists() == (name == "negative")


def test_nothing_is_said_of_a_scan_in_order(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.h5", "clean")
    done = inside("reconstruct", path, "--out", tmp_path / "run", "--method", "fbp", "--strict")
    assert "warning" not in done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["warnings"] == []
