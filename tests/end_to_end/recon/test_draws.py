"""Draws on the command line: intervals before and after calibration, their score, and what is refused."""

import json

import nibabel
import numpy as np
import pytest

import tomocast as tc
from priors.audits.verdict import HEADINGS
from tests.support.command_line import inside
from tests.support.recon.body import phantom

SCAN = ("--grid", 48, "--i0", 1e5)
FILES = ("volume", "deviation", "lower", "upper")


@pytest.fixture(scope="module")
def place(tmp_path_factory, trained):
    """A phantom, its scan in 16 views, and a prior calibrated on that phantom at 12 and 24 views."""
    folder = tmp_path_factory.mktemp("draws")
    volume = nibabel.Nifti1Image(phantom().transpose(2, 1, 0), np.diag([-3.0, -3.0, 2.0, 1.0]))
    nibabel.save(volume, folder / "body.nii.gz")
    inside("simulate", "scan", folder / "body.nii.gz", "--out", folder / "scan.h5", "--views", 16, *SCAN)
    done = inside(
        *("calibrate", trained, folder / "body.nii.gz", "--views", 12, 24, "--draws", 2, "--slices", 4),
        *(*SCAN, "--out", folder / "prior"),
    )
    assert "12 views" in done.stdout
    assert "coverage of 90 % intervals" in done.stdout
    return folder


def drawn(place, prior, name: str, *options: object):
    run = place / name
    words = ("--method", "nerd-fast", "--prior", prior, "--draws", 2, "--out", run, *options)
    return run, inside("reconstruct", place / "scan.h5", *words)


@pytest.fixture(scope="module")
def calibrated(place):
    """A run with the calibrated prior."""
    return drawn(place, place / "prior", "calibrated")


def test_without_a_calibration_the_spread_is_written_and_said_to_be_bare(place, trained):
    run, done = drawn(place, trained, "bare")
    assert "not calibrated" in done.stderr
    images = {name: nibabel.load(run / f"{name}.nii.gz") for name in FILES}
    values = {name: image.get_fdata() for name, image in images.items()}
    assert images["deviation"].header["aux_file"].tobytes().rstrip(b"\0") == b"not calibrated"
    np.testing.assert_allclose(values["upper"] - values["volume"], 1.645 * values["deviation"], atol=0.01)
    assert values["lower"].min() >= -1000.001
    assert values["deviation"].min() >= 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["draws"]["calibration"]["status"] == "not calibrated"
    assert 0 < metrics["draws"]["null_space_share"] <= 1
    assert len(metrics["draws"]["chi2_per_ray"]) == 2
    assert any("not calibrated" in warning for warning in metrics["warnings"])
    assert not list(run.glob("checkpoint*"))
    # The prior saw pixels of 2 mm, and these are of 6 mm.
    assert metrics["familiarity"]["verdict"] in ("unfamiliar", "do-not-believe")
    assert any("pixels of 6 mm" in reason for reason in metrics["familiarity"]["reasons"])
    assert "familiarity: " in done.stderr
    heading = HEADINGS[metrics["familiarity"]["verdict"]]
    assert f"<strong>{heading}" in (run / "report.html").read_text()


def test_a_calibrated_prior_covers_what_it_says(place, calibrated):
    run, done = calibrated
    assert "not calibrated" not in done.stderr
    calibration = json.loads((run / "metrics.json").read_text())["draws"]["calibration"]
    assert calibration["status"] == "calibrated"
    assert [row["views"] for row in calibration["rows"]] == [12, 24]
    printed = inside("score", "volume", run, place / "body.nii.gz", "--json", "-").stdout
    scores = json.loads(printed)
    # Fitted on this volume at 12 and 24 views, asked about at 16: between the rows.
    assert 0.8 < scores["coverage_90"] < 0.97
    assert scores["spread_skill"] > 0
    assert {"coverage_90", "spread_skill"} <= set(scores["by_region"]["bone"])
    assert "by_region" in inside("score", "volume", run, place / "body.nii.gz").stdout
    assert tc.score(run, place / "body.nii.gz")["coverage_90"] == scores["coverage_90"]


def test_the_public_face_returns_the_same_volumes(place, calibrated):
    volume = tc.reconstruct(place / "scan.h5", "nerd-fast", prior=place / "prior", draws=2)
    run, _ = calibrated
    for name, found in zip(FILES, (volume, volume.deviation, volume.lower, volume.upper), strict=True):
        np.testing.assert_array_equal(found.values, tc.read_volume(run / f"{name}.nii.gz").values)
    assert volume.metrics["draws"]["count"] == 2


def test_the_plan_covers_the_sums(place, trained):
    words = ("reconstruct", place / "scan.h5", "--method", "nerd-fast", "--prior", trained, "--plan")
    one, several = (
        json.loads(inside(*words, *more, "--json", "-").stdout) for more in ((), ("--draws", "2"))
    )
    assert several["bytes"]["sums of the draws"] == 6 * 4 * 4 * 48 * 48
    assert several["total_bytes"] > one["total_bytes"]


def test_methods_without_a_prior_have_no_draws(place):
    done = inside("reconstruct", place / "scan.h5", "--draws", 4, "--out", place / "refused", status=2)
    assert "draws: found 4 with method 'fbp'" in done.stderr
    assert not (place / "refused").exists()
    assert "expected VOLUME" in inside("calibrate", place / "prior", status=2).stderr
