"""Volumes reconstructed slab after slab: the same as at once, within a memory limit, through kills."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest

from recon.data.resample import reduced
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone
from recon.io.scans.registry import write_scan
from recon.io.volumes.registry import read_volume
from recon.reconstructors.tv import TV
from recon.run.slabs.layout import slabs_of
from tests.support.command_line import inside, mistake
from tests.support.recon.parallel_files import HALF, write_exchange

ROWS = 12


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exchange(tmp_path_factory.mktemp("slabs") / "a.h5", HALF[::6], rows=ROWS)


def volume(run: Path) -> np.ndarray:
    name = "volume.nii" if (run / "slabs.json").exists() else "volume.nii.gz"
    return np.asarray(nibabel.load(run / name).dataobj).transpose(2, 1, 0)


def figures(run: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return told


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        # Slices on their own, in the order of the whole: not a bit differs.
        (["--method", "fbp"], 0.0),
        (["--method", "fbp", "views=::2", "slices=1:10", "grid=40"], 0.0),
        # The steps rest on sums over the whole scan, which slabs add in another order: float32 rounding.
        (["--method", "sirt", "method.iterations=5", "method.chi2=0", "grid=48"], 1e-6),
        (["--method", "tv", "method.slice_coupling=0", "method.iterations=10", "grid=48"], 1e-6),
    ],
)
def test_slabs_are_the_whole(scan: Path, tmp_path: Path, options: list[str], tolerance: float) -> None:
    inside("reconstruct", scan, "--out", tmp_path / "whole", *options)
    done = inside("reconstruct", scan, "--out", tmp_path / "slabs", "--slab", 4, *options)
    whole, slabs = volume(tmp_path / "whole"), volume(tmp_path / "slabs")
    np.testing.assert_allclose(slabs, whole, rtol=0, atol=tolerance * abs(whole).max())
    told, expected = figures(tmp_path / "slabs"), figures(tmp_path / "whole")
    for key in ("chi2_per_ray", "relative_residual"):
        assert told[key] == pytest.approx(expected[key], rel=1e-5)
        if "held_out" in expected:
            assert told["held_out"][key] == pytest.approx(expected["held_out"][key], rel=1e-5)
    for key in ("grid", "detector", "views", "voxel_mm", "rays"):
        assert told[key] == expected[key]
    assert told["slabs"]["count"] == 3
    assert "differ on their borders" not in done.stdout
    # What reads run folders reads this one.
    one, other = (read_volume(tmp_path / run / name) for run, name in
                  (("slabs", "volume.nii"), ("whole", "volume.nii.gz")))  # fmt: skip
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-9)
    inside("convert", tmp_path / "slabs", "--out", tmp_path / "copy.mha")
    np.testing.assert_array_equal(read_volume(tmp_path / "copy.mha").values, slabs)


def test_a_coupled_method_overlaps_and_tells_what_that_costs(scan: Path, tmp_path: Path) -> None:
    options = ["--method", "tv", "method.tolerance=0", "method.iterations=30", "grid=40"]
    inside("reconstruct", scan, "--out", tmp_path / "whole", *options)
    whole = volume(tmp_path / "whole")
    errors, told = {}, {}
    for overlap in (1, 4):
        run = tmp_path / f"overlap-{overlap}"
        done = inside("reconstruct", scan, "--out", run, "--slab", 6, f"overlap={overlap}", *options)
        assert "slabs differ on their borders" in done.stdout
        errors[overlap] = float(np.sqrt(((volume(run) - whole)[5:7] ** 2).mean()))
        told[overlap] = figures(run)["slabs"]["border_rms"]
        assert figures(run)["slabs"]["worst_border_slice"] == 6
    # What is told is of the size of what it costs, and half of the overlap that is taken by default costs little.
    assert 0.3 * errors[1] < told[1] < 10 * errors[1]
    assert errors[4] < 0.1 * errors[1]
    assert errors[4] < 1e-3 * whole.max()
    assert TV().overlap() == 8


def test_noise_of_a_diffusion_belongs_to_slices(scan: Path, tmp_path: Path, trained: Path) -> None:
    options = ["--method", "nerd-fast", "--prior", trained, "method.fast.levels=2", "method.warm_start=fbp"]
    options += ["grid=32", "slices=0:6", "views=::2"]
    for slab in (2, 3):
        inside("reconstruct", scan, "--out", tmp_path / str(slab), "--slab", slab, "overlap=2", *options)
    inside("reconstruct", scan, "--out", tmp_path / "other", "--slab", 3, "--seed", 1, *options)
    two, three, other = (volume(tmp_path / name) for name in ("2", "3", "other"))
    # Two layouts differ far less than two draws of the noise.
    assert np.abs(two - three).mean() < 0.1 * np.abs(other - three).mean()
    assert figures(tmp_path / "2")["network_calls"] == figures(tmp_path / "3")["network_calls"] == 2


def test_a_killed_run_continues(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second slab: the same bits as a run that was not disturbed, and its figures."""
    from recon.reconstructors import tv

    options = ["--method", "tv", "method.iterations=20", "grid=32", "checkpoint_s=0", "overlap=1"]
    inside("reconstruct", scan, "--out", tmp_path / "calm", "--slab", 4, *options)
    calls, plain = [], tv.LeastSquares.chi2

    def chi2(self: Any, residual: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return float(plain(self, residual))

    run = tmp_path / "killed"
    with monkeypatch.context() as patched:
        patched.setattr(tv.LeastSquares, "chi2", chi2)
        inside("reconstruct", scan, "--out", run, "--slab", 4, *options, status=130)
    assert len(json.loads((run / "slabs.json").read_text())["done"]) == 1
    assert "did not finish" in mistake("convert", run, "--out", tmp_path / "a.mha")
    # The slabs are those the run was begun with, whatever would fit now.
    inside("reconstruct", scan, "--out", run, "--resume", *options)
    np.testing.assert_array_equal(volume(run), volume(tmp_path / "calm"))
    # The step that was interrupted while its figures were computed has none.
    curve, calm = (figures(folder)["curves"]["chi2"] for folder in (run, tmp_path / "calm"))
    assert curve == [point for point in calm if point[0] != 30]
    assert "complete" in inside("reconstruct", scan, "--out", run, "--resume", *options).stderr


LIMITED = """
import resource, sys
from tomocast.cli import main

def run(*words):
    sys.argv = ["tomocast", "reconstruct", *words]
    try:
        main()
    except SystemExit as leaving:
        assert not leaving.code, leaving.code

small, scan, warm, out, limit = sys.argv[1:]
run(small, "--out", warm)  # what is loaded once is loaded before the limit
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
if int(limit):
    resource.setrlimit(resource.RLIMIT_AS, (1024 * used + int(limit),) * 2)
run(scan, "--out", out)
"""


def test_a_memory_limit_makes_slabs(scan: Path, tmp_path: Path) -> None:
    """A process that may map 224 MiB more does in slabs what takes 260 at once, and makes the same volume."""
    path = write_exchange(tmp_path / "a.h5", np.arange(0.0, 180, 2), rows=4)
    with h5py.File(path, "a") as file:
        for name in ("data", "data_dark", "data_white"):
            frames = np.tile(file[f"exchange/{name}"][()], (1, 384, 1))
            del file[f"exchange/{name}"]
            file[f"exchange/{name}"] = frames
    for name, limit in (("free", 0), ("limited", 224 * 2**20)):
        out, warm = tmp_path / name, tmp_path / f"warm-{name}"
        words = map(str, (scan, path, warm, out, limit))
        # One arena: others take address space, not memory.
        environment = {
            **os.environ,
            "MALLOC_ARENA_MAX": "1",
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", LIMITED, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
    assert figures(tmp_path / "limited")["slabs"]["count"] > 1
    assert "slabs" not in figures(tmp_path / "free")
    np.testing.assert_array_equal(volume(tmp_path / "limited"), volume(tmp_path / "free"))


def test_slabs_cover_every_slice_once() -> None:
    for slices, size, overlap in ((24, 7, 0), (24, 7, 3), (5, 1, 8), (9, 9, 2), (2160, 37, 8)):
        slabs = slabs_of(slices, size, overlap)
        assert [k for slab in slabs for k in range(slab.start, slab.stop)] == list(range(slices))
        for slab in slabs:
            assert 0 < slab.stop - slab.start <= size
            assert (slab.low, slab.high) == (max(0, slab.start - overlap), min(slices, slab.stop + overlap))
            computed = range(slab.low, slab.high)[slab.own]
            assert computed == range(slab.start, slab.stop)


def test_cones_have_no_slabs(tmp_path: Path) -> None:
    grid = Grid((4, 16, 16), (1.0, 1.0, 1.0))
    geometry = CircularCone(views=8, sod_mm=60, sdd_mm=90).fit(grid).geometry()
    ones = np.ones((8, *geometry.shape), np.float32)
    write_scan(tmp_path / "c.h5", Scan(ones, geometry, grid, ones))
    assert "cross slices" in mistake("reconstruct", tmp_path / "c.h5", "--out", tmp_path / "r", "--slab", 2)


def test_means_of_neighbours_stay_where_they_are() -> None:
    values = np.random.default_rng(0).normal(size=(5, 8, 9)).astype(np.float32)
    affine = np.array([[0, -0.5, 0, 3], [0.6, 0, 0.1, -2], [0, 0, 2, 7], [0, 0, 0, 1.0]])
    small, coarse = reduced(lambda start, stop: values[start:stop], (5, 8, 9), affine, most=50)
    assert small.shape == (2, 4, 4)
    assert small[1, 2, 3] == pytest.approx(values[2:4, 4:6, 6:8].mean(), rel=1e-6)
    np.testing.assert_allclose(coarse @ [3, 2, 1, 1], affine @ [6.5, 4.5, 2.5, 1])
