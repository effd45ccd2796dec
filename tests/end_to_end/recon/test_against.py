"""Two priors on one scan: each volume is that of its prior alone, and what differs is said."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from priors.runtime.config import load
from recon.io.scans.registry import read_scan
from recon.reconstructors.base import RunContext
from recon.reconstructors.checkpoint import Checkpoint
from recon.run.problem.pose import pose
from recon.run.settings import ReconstructSettings
from recon.run.solving.solve import solve
from tests.support.command_line import inside
from tests.support.recon.body import phantom

OTHER = "ct-chest-256"


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("against")
    volume = nibabel.Nifti1Image(phantom().transpose(2, 1, 0), np.diag([-3.0, -3.0, 2.0, 1.0]))
    nibabel.save(volume, folder / "body.nii.gz")
    words = ("--views", 16, "--slices", "0:1", "--grid", 32, "--i0", 1e5)
    inside("simulate", "scan", folder / "body.nii.gz", "--out", folder / "scan.h5", *words)
    return folder / "scan.h5"


def test_the_difference_of_two_priors_is_written_and_said(scan, trained):
    words = ("reconstruct", scan, "--method", "nerd-fast")
    pair, alone = scan.parent / "pair", scan.parent / "alone"
    done = inside(*words, "--prior", trained, "--against", OTHER, "--out", pair)
    inside(*words, "--prior", OTHER, "--out", alone)
    first, difference, second = (
        nibabel.load(path).get_fdata()
        for path in (pair / "volume.nii.gz", pair / "difference.nii.gz", alone / "volume.nii.gz")
    )
    # float32 values of some thousand HU.
    np.testing.assert_allclose(first - difference, second, atol=1e-3)
    found = json.loads((pair / "metrics.json").read_text())["against"]
    assert found["prior"] == OTHER
    assert found["rms_hu"] == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-4)
    assert 0.1 < found["null_space_share"] <= 1
    assert found["chi2_per_ray"] == pytest.approx(
        json.loads((alone / "metrics.json").read_text())["chi2_per_ray"], rel=1e-4
    )
    assert "of it where no ray sees it" in done.stdout
    assert "The prior decided" in (pair / "report.html").read_text()
    assert not list(pair.glob("checkpoint*"))


def test_an_interrupted_pair_goes_on_in_the_second_volume(scan, trained, tmp_path):
    method = {"name": "nerd-fast", "prior": str(trained)}
    problem = pose(
        read_scan(scan), load(ReconstructSettings, [{"method": method, "against": str(trained)}])
    ).resolved()
    whole = solve(problem, RunContext(0))

    def stop_in_the_second(record):
        if record.total is not None and record.iteration > record.total // 2 + 1:
            raise KeyboardInterrupt

    path, steps = tmp_path / "state.pt", []
    with pytest.raises(KeyboardInterrupt):
        solve(problem, RunContext(0, Checkpoint(path, every_s=0.0), stop_in_the_second))
    resumed = solve(problem, RunContext(0, Checkpoint(path, resume=True, every_s=0.0), steps.append))
    np.testing.assert_array_equal(resumed.volume.values, whole.volume.values)
    assert whole.other is not None
    np.testing.assert_array_equal(whole.other.values, whole.volume.values)
    assert resumed.other is not None
    np.testing.assert_array_equal(resumed.other.values, whole.other.values)
    assert min(record.iteration for record in steps) > steps[0].total // 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "tv"), "which has no prior"),
        (("--method", "nerd-fast", "--draws", 2), "expected one reconstruction"),
    ],
)
def test_what_cannot_be_compared_is_refused(scan, options, said):
    done = inside("reconstruct", scan, *options, "--against", OTHER, "--out", scan.parent / "no", status=2)
    assert said in done.stderr
    assert not (scan.parent / "no").exists()
