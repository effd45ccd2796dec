"""The way through the house by the real command line, on small sizes."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest

from tests.support.command_line import inside, mistake, tomocast

# So many iterations that the run is still busy when it is interrupted, however fast the machine.
ENDLESS = ["--method", "tv", "method.iterations=1000000", "method.tolerance=0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A phantom, its scan and one reconstruction."""
    folder = tmp_path_factory.mktemp("place")
    size = ["--seed", 10_007, "--slices", 12, "--grid", 128, "pixel_mm=3.0"]
    tomocast("phantom", "--out", folder / "phantom.nii.gz", *size)
    orbit = folder / "orbit.yaml"
    orbit.write_text("name: fan-flat\nviews: 40\nsod_mm: 600.0\nsdd_mm: 1000.0\n")
    given = ["--views", 60, "--grid", 64, "--i0", "1e5", "--seed", 3, "--orbit", orbit]
    tomocast("simulate", "scan", folder / "phantom.nii.gz", "--out", folder / "scan.h5", *given)
    tomocast(
        "reconstruct", folder / "scan.h5", "--method", "fbp", "--out", folder / "fbp", "method.filter=hann"
    )
    return folder


# typer itself imports pydantic once a verb has options.
HEAVY = (
    "torch",
    "numpy",
    "scipy",
    "omegaconf",
    "xarray",
    "h5py",
    "numba",
    "monai",
    "matplotlib",
    "rich",
)


@pytest.mark.parametrize("words", ["--help", "reconstruct --help", "simulate --help", "config show --help"])
def test_help_imports_nothing_heavy(words):
    look = f"""
import sys, atexit
from tomocast.cli import main
sys.argv = ["tomocast", *{words.split()!r}]
heavy = {HEAVY!r}
atexit.register(lambda: print("HEAVY", sorted(set(heavy) & set(sys.modules))))
main()
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_the_run_folder_is_complete(place):
    run = place / "fbp"
    names = {item.name for item in run.iterdir()}
    assert names >= {
        "volume.nii.gz",
        "metrics.json",
        "report.html",
        "config.yaml",
        "versions.json",
        "inputs.json",
        "log.txt",
    }
    assert not any("partial" in name or "checkpoint" in name for name in names)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["method"] == "fbp"
    assert metrics["views"] == 60
    assert metrics["grid"] == [12, 64, 64]
    assert metrics["seconds"] > 0
    assert metrics["chi2_per_ray"] > 0
    assert metrics["peak_memory_bytes"] > 1e7


def test_the_volume_lies_where_the_phantom_lies(place):
    phantom, volume = (nibabel.load(place / name) for name in ("phantom.nii.gz", "fbp/volume.nii.gz"))
    assert volume.get_data_dtype() == np.float32
    assert volume.shape == (64, 64, 12)
    corners = [
        (image.affine @ np.array([[-0.5, -0.5, -0.5, 1], [*(np.array(image.shape) - 0.5), 1]]).T)[:3]
        for image in (phantom, volume)
    ]
    np.testing.assert_allclose(corners[0], corners[1], atol=1e-3)  # NIfTI stores the affine in float32


def test_score_prints_the_agreed_keys_and_a_sensible_quality(place):
    done = inside("score", "volume", place / "fbp", place / "phantom.nii.gz", "--json", "-")
    figures = json.loads(done.stdout)
    assert figures.keys() >= {
        "psnr_hu",
        "rmse_hu",
        "ssim_axial",
        "ssim_coronal",
        "ssim_sagittal",
        "ssim_3d",
        "window_hu",
    }
    assert figures["window_hu"] == [-1000, 1000]
    assert figures["psnr_hu"] > 25
    assert 0.6 < figures["ssim_axial"] < 1
    body = json.loads(
        inside(
            "score", "volume", place / "fbp", place / "phantom.nii.gz", "--json", "-", "--mask", "body"
        ).stdout
    )
    assert body["voxels_compared"] < figures["voxels_compared"]


def test_score_writes_a_file_too(place, tmp_path):
    arguments = ["score", "volume", place / "fbp" / "volume.nii.gz", place / "phantom.nii.gz"]
    done = inside(*arguments, "--json", tmp_path / "score.json", "--window", -160, 240)
    assert json.loads((tmp_path / "score.json").read_text())["window_hu"] == [-160, 240]
    assert "psnr_hu" in done.stdout


def test_the_saved_configuration_reproduces_the_volume(place, tmp_path):
    again = tmp_path / "again"
    inside("reconstruct", place / "scan.h5", "-c", place / "fbp" / "config.yaml", "--out", again)
    volumes = [nibabel.load(run / "volume.nii.gz").get_fdata() for run in (place / "fbp", again)]
    np.testing.assert_array_equal(*volumes)


def test_held_out_views_are_reported_and_slices_are_cropped_in_place(place, tmp_path):
    options = ["--views-step", 2, "--slices", "3:7", "--grid", 32, "--json"]
    done = inside("reconstruct", place / "scan.h5", "--out", tmp_path / "run", *options)
    metrics = json.loads(done.stdout)
    assert metrics["views"] == 30
    assert metrics["held_out"]["views"] == 30
    assert metrics["grid"] == [4, 32, 32]
    cut, whole = (nibabel.load(path / "volume.nii.gz") for path in (tmp_path / "run", place / "fbp"))
    middle = cut.affine @ [15.5, 15.5, 0, 1]
    np.testing.assert_allclose(middle, whole.affine @ [31.5, 31.5, 3, 1], atol=1e-3)


def test_the_plan_prints_memory_and_time_and_writes_nothing(place, tmp_path):
    done = inside("reconstruct", place / "scan.h5", "--method", "tv", "--plan", "--out", tmp_path / "run")
    assert "total" in done.stdout
    assert "fits" in done.stdout
    assert "time: about" in done.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["fbp", "nerd-admm"])
def test_the_plan_times_every_stage(place, method):
    short = ["method.fast.levels=3", "method.refine.levels=3", "method.refine.refine.iterations=1"]
    settings = short if method == "nerd-admm" else []
    done = inside("reconstruct", place / "scan.h5", "--method", method, "--plan", "--json", *settings)
    assert json.loads(done.stdout)["seconds"] > 0


def test_settings_are_shown_and_described(tmp_path):
    done = inside("config", "show", "method.name=tv", "method.weight=2e-1", "seed=4")
    (tmp_path / "a.yaml").write_text(done.stdout)
    again = inside("reconstruct", "none.h5", "-c", tmp_path / "a.yaml", "--print-config")
    assert again.stdout == done.stdout
    assert "weight: 0.2" in done.stdout
    schema = json.loads(inside("config", "schema", "--job", "simulate").stdout)
    assert "electronic_sd" in schema["properties"]


def test_a_run_is_not_overwritten_by_accident(place, tmp_path):
    run = tmp_path / "run"
    command = ["reconstruct", place / "scan.h5", "--out", run, "--grid", 32]
    inside(*command)
    before = (run / "volume.nii.gz").read_bytes()
    assert "--overwrite" in mistake(*command, "--seed", 5)
    assert (run / "volume.nii.gz").read_bytes() == before
    assert "seed was 0" in mistake(*command, "--seed", 5, "--resume")
    assert "complete" in inside(*command, "--resume").stderr
    inside(*command, "--seed", 5, "--overwrite")
    assert json.loads((run / "metrics.json").read_text())["seed"] == 5


def test_an_interruption_is_130_and_says_how_to_continue(place, tmp_path):
    run = tmp_path / "run"
    arguments = ["reconstruct", place / "scan.h5", "--out", run, *ENDLESS]
    command = [sys.executable, "-m", "tomocast", *map(str, arguments)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    end = time.monotonic() + 120
    while not ((run / "steps.jsonl").exists() and (run / "steps.jsonl").stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in told
    assert "Traceback" not in told
