"""Volumes reconstructed slab after slab: the same as at once, within a memory limit, through kills."""

import json
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import yaml

from recon.data.resample import reduced
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, Parallel
from recon.io.scans.registry import write_scan
from recon.io.volumes.registry import read_volume
from recon.reconstructors.tv import TV
from recon.run.slabs.layout import slabs_of
from tests.support.command_line import inside, mistake
from tests.support.limited import Command, run_limited
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


@pytest.mark.parametrize("form", ["scan file", "arrays"])
def test_scan_files_and_arrays_are_read_slab_by_slab(form: str, tmp_path: Path) -> None:
    """The same bits as at once; an empty slab among the others is no mistake."""
    views, rows, columns = 12, 9, 32
    lines = np.zeros((views, rows, columns), np.float32)
    lines[:, 3:, 8:24] = 0.5 * (1 + np.arange(3, rows)[:, None])
    geometry = Parallel(views=views, columns=columns, column_mm=1.0, rows=rows, row_mm=1.0)
    path = tmp_path / "scan.h5"
    if form == "scan file":
        scan = Scan(lines, geometry.geometry(), geometry.grid(), np.exp(-lines))
        write_scan(path, scan)
    else:
        path = sparse_arrays(tmp_path, lines.shape, lines, slice(0, rows))
    inside("reconstruct", path, "--out", tmp_path / "whole", "--method", "fbp")
    inside("reconstruct", path, "--out", tmp_path / "slabs", "--method", "fbp", "--slab", 2)
    np.testing.assert_array_equal(volume(tmp_path / "slabs"), volume(tmp_path / "whole"))
    assert figures(tmp_path / "slabs")["slabs"]["count"] == 5


SPARSE = 16, 2048, 512
"""Views, rows and columns: line integrals and weights of 64 MiB each, and almost nothing on the disk."""
SEEN = slice(960, 1088)
ROOM = 192 * 2**20


def sparse_arrays(folder: Path, shape: tuple[int, ...], seen: np.ndarray, rows: slice) -> Path:
    """Write line integrals that are zero but for some rows."""
    orbit = {"name": "parallel", "arc_deg": 180.0, "views": shape[0], "column_mm": 1.0}
    told = {"data": "a.npy", "kind": "line-integrals", "i0": 1e4, "orbit": orbit, "unit": "1/mm"}
    (folder / "scan.yaml").write_text(yaml.safe_dump(told))
    with (folder / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        begin = file.tell()
        file.truncate(begin + 4 * int(np.prod(shape)))
        for view in range(shape[0]):
            file.seek(begin + 4 * shape[2] * (view * shape[1] + rows.start))
            seen[view].tofile(file)
    return folder / "scan.yaml"


def sparse_files(folder: Path) -> dict[str, Path]:
    """Write a disc in some rows of a scan of 16 views x 2048 x 512, in three formats."""
    views, rows, columns = SPARSE
    column = np.arange(columns) - (columns - 1) / 2
    chord = 2 * 0.008 * np.sqrt(np.maximum(150.0**2 - column**2, 0)).astype(np.float32)
    seen = np.broadcast_to(chord, (views, SEEN.stop - SEEN.start, columns))
    paths = {"arrays": sparse_arrays(folder, SPARSE, seen, SEEN)}
    small = Parallel(views=views, columns=columns, column_mm=1.0, rows=4, row_mm=1.0)
    ones = np.ones((views, 4, columns), np.float32)
    paths["scan file"] = folder / "scan.h5"
    write_scan(paths["scan file"], Scan(ones, small.geometry(), small.grid(), ones, unit="1/mm"))
    packed = {"shape": SPARSE, "chunks": (1, 16, columns), "compression": "gzip"}
    with h5py.File(paths["scan file"], "a") as file:
        file["geometry"].attrs["detector_shape"] = rows, columns
        file["volume"].attrs["shape"] = rows, columns, columns
        for name, value in (("sinogram", 0.0), ("weights", 1e4)):
            del file[name]
            file.create_dataset(name, dtype="f4", fillvalue=value, **packed)
        file["sinogram"][:, SEEN] = seen
    paths["Data Exchange"] = folder / "exchange.h5"
    with h5py.File(paths["Data Exchange"], "w") as file:
        data = file.create_dataset("exchange/data", dtype="u2", fillvalue=20000, **packed)
        data[:, SEEN] = np.round(20000 * np.exp(-seen))
        file["exchange/data_dark"] = np.zeros((1, rows, columns), "u2")
        file.create_dataset("exchange/data_white", (1, rows, columns), "u2", fillvalue=20000)
        file["exchange/theta"] = np.arange(views) * 180.0 / views
    return paths


def test_a_memory_limit_makes_slabs(scan: Path, tmp_path: Path) -> None:
    """A process that may map 192 MiB does in slabs what takes more at once, whatever the format."""
    paths = sparse_files(tmp_path)
    centre = "preprocess=[{name: centre, column: 255.5}]"
    commands = [
        Command(["reconstruct", str(path), "--out", str(tmp_path / name), "--method", "fbp", "--grid", "16", centre])
        for name, path in paths.items()
    ]  # fmt: skip
    warm = Command(["reconstruct", str(scan), "--out", str(tmp_path / "warm"), "--slab", "6"], warms_up=True)
    answers = run_limited([warm, *commands], cwd=tmp_path, room=ROOM)
    for name, answer in zip(paths, answers, strict=True):
        assert answer.status == 0, (name, answer.err[-1000:])
        assert figures(tmp_path / name)["slabs"]["count"] > 1
        values = volume(tmp_path / name)
        assert values.shape == (SPARSE[1], 16, 16)
        # Sixteen views of a disc of 0.008 per mm on pixels of 32 mm: its middle, and nothing in other slices.
        np.testing.assert_allclose(values[SEEN, 7:9, 7:9], 0.008, rtol=0.05)
        np.testing.assert_allclose(values[: SEEN.start], 0, atol=1e-6)


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
