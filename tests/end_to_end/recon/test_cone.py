"""Cone beams on a circle and a helix through the command line: every method, the drawing, and what is refused."""

import json

import h5py
import numpy as np
import pytest
import yaml

from tests.support.command_line import inside, mistake

ORBITS = {
    "circle": {"name": "cone", "views": 24, "sod_mm": 300.0, "sdd_mm": 500.0},
    "helix": {
        "name": "helical",
        "views_per_turn": 24,
        "pitch_mm": -9.0,
        "detector": "curved",
        "sod_mm": 300.0,
        "sdd_mm": 500.0,
    },
}
METHODS = {
    "fbp": ["method.filter=hann"],
    "cgls": ["method.iterations=8"],
    "sirt": ["method.iterations=6", "method.subsets=4"],
    "tv": ["method.iterations=40"],
    "nerd-fast": ["method.fast.levels=2", "method.warm_start=fbp", "method.fast.start_hu=50"],
}


def simulated(folder, kind):
    """Write a phantom and its scan; return both."""
    truth, orbit, scan = folder / "truth.nii.gz", folder / "orbit.yaml", folder / "scan.h5"
    inside("phantom", "--slices", 8, "--grid", 48, "pixel_mm=4.0", "slice_mm=3.0", "--out", truth)
    orbit.write_text(yaml.safe_dump(ORBITS[kind]))
    inside("simulate", "scan", truth, "--orbit", orbit, "--grid", 24, "--out", scan)
    return truth, scan


@pytest.fixture(scope="module", params=list(ORBITS))
def case(request, tmp_path_factory):
    return request.param, *simulated(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_reconstructs_it(case, method, tmp_path):
    _, truth, scan = case
    run = tmp_path / "run"
    inside("reconstruct", scan, "--method", method, *METHODS[method], "--views", "1:", "--out", run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["beam"] == "cone"
    assert metrics["held_out"]["views"] == 1
    figures = json.loads(inside("score", "volume", run, truth, "--json", "-").stdout)
    # Air alone scores 11 dB; two dozen views of 24 pixels give 20 and more.
    assert figures["psnr_hu"] > 17
    assert abs(figures["mean_error_hu"]) < 60
    assert "data:image/png;base64," in (run / "report.html").read_text()


def test_its_plan_tells_memory_and_time(case):
    plan = json.loads(inside("reconstruct", case[2], "--method", "tv", "--plan", "--json").stdout)
    assert plan["fits"]
    assert plan["seconds"] > 0


def test_its_scanner_is_drawn(case, tmp_path):
    kind, _, scan = case
    told = inside("inspect", scan, "--png", tmp_path / "scanner.png").stdout
    assert (tmp_path / "scanner.png").read_bytes().startswith(b"\x89PNG")
    assert "magnification:" in told
    assert ("pitch:" in told) == (kind == "helix")
    assert "-9 mm per turn" in told or kind == "circle"


def test_only_a_scan_has_a_scanner_to_draw(case, tmp_path):
    assert "is no scan" in mistake("inspect", case[1], "--png", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_slices_of_a_cone_cannot_be_reconstructed_alone(case, tmp_path):
    told = mistake("reconstruct", case[2], "--slices", "2:4", "--out", tmp_path / "run")
    assert "rays of a cone beam cross slices" in told


def source_inside(file):
    file["geometry/source_mm"][3] = [5.0, 5.0, 0.0]


def no_number(file):
    file["geometry/v_mm"][2] = np.nan


def row_missing(file):
    counts, attributes = file["counts"][:, 1:], dict(file["counts"].attrs)
    del file["counts"]
    file["counts"] = counts
    file["counts"].attrs.update(attributes)


BROKEN = {
    source_inside: "source of view 3 is inside the volume",
    no_number: "scan.v_mm: view 2 holds [nan",
    row_missing: "counts: found shape",
}


@pytest.mark.parametrize("change", BROKEN, ids=lambda change: change.__name__)
def test_a_broken_scan_is_refused(change, tmp_path):
    _, scan = simulated(tmp_path, "circle")
    with h5py.File(scan, "a") as file:
        change(file)
    assert BROKEN[change] in mistake("reconstruct", scan, "--method", "tv", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / "volume.nii.gz").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sod_mm": -300.0}, "sod_mm"),
        ({"sdd_mm": 200.0}, "expected at least sod_mm"),
        ({"sod_mm": 60.0}, "expected a source outside the circle"),
    ],
    ids=["negative", "detector before the axis", "inside"],
)
def test_an_impossible_orbit_is_refused(changes, told, tmp_path):
    truth, orbit, scan = tmp_path / "truth.nii.gz", tmp_path / "orbit.yaml", tmp_path / "scan.h5"
    inside("phantom", "--slices", 4, "--grid", 48, "pixel_mm=4.0", "--out", truth)
    orbit.write_text(yaml.safe_dump({**ORBITS["circle"], **changes}))
    assert told in mistake("simulate", "scan", truth, "--orbit", orbit, "--grid", 24, "--out", scan)
    assert not scan.exists()


def test_a_tilted_detector_is_for_iterative_methods(tmp_path):
    truth, orbit, scan = tmp_path / "truth.nii.gz", tmp_path / "orbit.yaml", tmp_path / "scan.h5"
    inside("phantom", "--slices", 4, "--grid", 48, "pixel_mm=4.0", "--out", truth)
    orbit.write_text(yaml.safe_dump({**ORBITS["circle"], "views": 4, "tilt_deg": 5.0}))
    inside("simulate", "scan", truth, "--orbit", orbit, "--grid", 16, "--out", scan)
    told = mistake("reconstruct", scan, "--method", "fbp", "--out", tmp_path / "run")
    assert "lean out of the plane of rotation by 5 degrees" in told
    inside("reconstruct", scan, "--method", "cgls", "method.iterations=2", "--out", tmp_path / "run2")
