"""A run that is killed at any moment continues to the same volume, bit by bit."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
import torch

from tests.support.command_line import inside, torchrun
from tests.support.recon.disc_scan import disc, disc_scan

LEVELS = 14


@pytest.fixture(scope="module")
def method(trained) -> list[str]:
    """The options of the runs compared."""
    return [
        "--method",
        "nerd-fast",
        "--prior",
        str(trained),
        "--seed",
        "5",
        f"method.fast.levels={LEVELS}",
        "checkpoint_s=0",
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A scan."""
    image = disc(96, hole=True)
    return disc_scan(tmp_path_factory.mktemp("resume"), image, slices=4, views=16, grid=48, field_mm=288.0)


@pytest.fixture(scope="module")
def whole(place, method):
    """The uninterrupted reconstruction."""
    inside("reconstruct", place / "scan.h5", "--out", place / "whole", *method)
    return place / "whole"


def start(place, run, *options: str) -> subprocess.Popen:
    words = ["reconstruct", place / "scan.h5", "--out", run, *options]
    command = [sys.executable, "-m", "tomocast", *map(str, words)]
    # One thread: sums of many threads may be added in another order.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def steps(run) -> int:
    path = run / "steps.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def kill(process: subprocess.Popen, run, *, reach: int) -> None:
    """Kill a run once it has taken ``reach`` steps."""
    end = time.monotonic() + 240
    while steps(run) < reach:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert not (run / "volume.nii.gz").exists()


def test_a_killed_run_continues_to_the_same_volume(place, whole, method, tmp_path):
    run = tmp_path / "run"
    for reach, extra in ((3, ()), (8, ("--resume",))):
        kill(start(place, run, *method, *extra), run, reach=reach)
    assert start(place, run, *method, "--resume").wait(timeout=240) == 0
    np.testing.assert_array_equal(volume(run), volume(whole))
    curves = [json.loads((f / "metrics.json").read_text())["curves"] for f in (whole, run)]
    assert curves[0] == curves[1]
    assert len(curves[1]["chi2"]) == LEVELS
    assert not (run / "checkpoint.pt").exists()


def test_a_killed_run_continues_in_two_processes(place, whole, method, tmp_path):
    run = tmp_path / "run"
    kill(start(place, run, *method), run, reach=5)
    torchrun("reconstruct", place / "scan.h5", "--out", run, *method, "--resume")
    # The processes share slices, so float32 sums run in another order; HU of water is 1000.
    assert abs(volume(run) - volume(whole)).max() < 0.1
    assert steps(run) == LEVELS


def volume(run) -> np.ndarray:
    return np.asarray(nibabel.load(run / "volume.nii.gz").get_fdata())


def test_a_terminated_run_has_saved_its_state_and_continues_to_the_same_bits(place, tmp_path):
    """SIGTERM, as batch systems send it; Ctrl-C is the same handler (``tests/end_to_end/test_command_line.py``)."""
    run, method = tmp_path / "run", ["--method", "tv", "method.iterations=800", "method.tolerance=0"]
    process = start(place, run, *method)
    end = time.monotonic() + 240
    while steps(run) < 20:
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=240) == 128 + signal.SIGTERM
    done = json.loads((run / "steps.jsonl").read_text().splitlines()[-1])["iteration"]
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    # Thirty seconds between two writes have not passed: it was written because the run was stopped.
    assert 800 > state["state"]["iteration"] >= done >= 200
    assert state["seconds"][0] > 0
    assert not (run / "volume.nii.gz").exists()
    assert start(place, run, *method, "--resume").wait(timeout=240) == 0
    assert start(place, tmp_path / "whole", *method).wait(timeout=240) == 0
    np.testing.assert_array_equal(volume(run), volume(tmp_path / "whole"))
