"""NXtomo and Data Exchange: what the files state is used or named; read in parts; links and filters. Truth by hand."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from priors.runtime.errors import InputError
from priors.runtime.files.permissions import permitted
from recon.geometry.coverage import coverage
from recon.io.scans.format import ScanOptions
from recon.io.scans.registry import read_scan
from tests.support.command_line import inside, mistake
from tests.support.recon.parallel_files import FULL, HALF, counts, write_exchange, write_nx

DETECTOR = "measurement/instrument/detector"
OBJECTIVE = "measurement/instrument/detection_system/objective"
NX = "instrument/detector"


def axis_of(scan: Any) -> float:
    return float(coverage(scan.geometry).axis_column)


def warned(scan: Any, *words: str) -> None:
    for word in words:
        assert any(word in sentence for sentence in scan.warnings), scan.warnings
    assert bool(scan.warnings) == bool(words), scan.warnings


# Data Exchange: the size of a pixel on the sample


@pytest.mark.parametrize(
    ("extra", "mm", "words"),
    [
        (
            {f"{DETECTOR}/actual_pixel_size_x": (1.2e-6, "m"), f"{DETECTOR}/pixel_size_x": (6.7e-6, "m")},
            0.0012,
            (),
        ),
        (
            {f"{OBJECTIVE}/resolution": (0.69, "microns"), f"{DETECTOR}/pixel_size_x": (3.45, "microns")},
            0.00069,
            (),
        ),
        ({f"{OBJECTIVE}/resolution": 0.69}, 0.00069, ()),
        ({f"{DETECTOR}/x_pixel_size": 1.2e-6}, 0.0012, ()),
        ({f"{DETECTOR}/x_pixel_size": (1.2, "mu")}, 0.0012, ()),
        ({f"{DETECTOR}/x_pixel_size": (1.2e-6, "metre")}, 0.0012, ()),
        ({f"{DETECTOR}/x_pixel_size": (1.2, "micrometre")}, 0.0012, ()),
        ({f"{DETECTOR}/x_pixel_size": (1200.0, "nm")}, 0.0012, ()),
        ({f"{DETECTOR}/x_pixel_size": (b"1.2e-6", "m")}, 0.0012, ()),
        (
            {f"{DETECTOR}/pixel_size_x": (6e-6, "m"), f"{OBJECTIVE}/magnification": 5.0},
            0.0012,
            ("magnification",),
        ),
        ({f"{DETECTOR}/x_pixel_size": (1.2e-6, "m"), f"{DETECTOR}/binning_x": 2}, 0.0012, ("binning",)),
        ({f"{DETECTOR}/x_pixel_size": b"unknown"}, 1.0, ("text 'unknown'",)),
        ({f"{DETECTOR}/x_pixel_size": 650.0}, 1.0, ("no pixel has",)),
        ({f"{DETECTOR}/x_pixel_size": (1.0, "pixels")}, 1.0, ("no length",)),
        ({"exchange_2/data": 1}, 1.0, ("exchange_2",)),
        ({"exchange/data_white_end": np.ones((2, 2, 128))}, 1.0, ("data_white_end of exchange",)),
        ({f"{DETECTOR}/pixel_size": [1e-6, 1e-6]}, 0.001, ()),
    ],
)
def test_data_exchange_pixel_sizes(tmp_path: Path, extra: dict[str, Any], mm: float, words: tuple) -> None:
    scan = read_scan(write_exchange(tmp_path / "a.h5", extra=extra))
    assert scan.grid.voxel_mm == pytest.approx((mm, mm, mm))
    warned(scan, *words)


def test_data_exchange_pixels_that_are_not_square(tmp_path: Path) -> None:
    extra = {f"{DETECTOR}/actual_pixel_size_x": (2e-6, "m"), f"{DETECTOR}/actual_pixel_size_y": (3e-6, "m")}
    assert read_scan(write_exchange(tmp_path / "a.h5", extra=extra)).grid.voxel_mm == pytest.approx(
        (0.003, 0.002, 0.002)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["exchange/data"].attrs.update(axes="y:theta:x"), "expected theta:y:x"),
        (lambda f: f["exchange/theta"].attrs.update(units="steps"), "expected degrees or radians"),
        (lambda f: f.update_size(-1.0), "expected one positive length"),
        (lambda f: f.update_size(1.0, "s"), "expected a unit of length"),
    ],
)
def test_data_exchange_that_cannot_be_understood_is_refused(
    tmp_path: Path, change: Any, message: str
) -> None:
    class Editable(h5py.File):
        def update_size(self, size: float, units: str = "m") -> None:
            self[f"{DETECTOR}/x_pixel_size"] = size
            self[f"{DETECTOR}/x_pixel_size"].attrs["units"] = units

    path = write_exchange(tmp_path / "a.h5")
    with Editable(path, "a") as file:
        change(file)
    with pytest.raises(InputError, match=message):
        read_scan(path)


def angles(path: Path) -> np.ndarray:
    """Return the angles of the views in degrees: rays of a view travel along (sin a, -cos a)."""
    source = read_scan(path).geometry.source_mm
    return np.rad2deg(np.unwrap(np.arctan2(source[:, 0], -source[:, 1])))


@pytest.mark.parametrize(
    ("theta", "units"),
    [
        (HALF, None),
        (HALF, "degrees"),
        (np.deg2rad(HALF), "rad"),
        (HALF / 360, "turn"),
        (np.array([f"{a:g}" for a in HALF], "S8"), None),
    ],
)
def test_data_exchange_angles(tmp_path: Path, theta: np.ndarray, units: str | None) -> None:
    path = write_exchange(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["exchange/theta"]
        file["exchange/theta"] = theta
        if units is not None:
            file["exchange/theta"].attrs["units"] = units
    np.testing.assert_allclose(angles(path), HALF, atol=1e-6)


def test_radians_without_units_are_named(tmp_path: Path) -> None:
    path = write_exchange(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["exchange/theta"][:] = np.deg2rad(HALF)
    with pytest.raises(InputError, match=r"3\.12 degrees, as if they were radians"):
        read_scan(path)


def test_nxtomo_angles_flats_after_and_ignored_frames(tmp_path: Path) -> None:
    plain = angles(write_nx(tmp_path / "plain.nx", HALF))
    for name in ("rad", "after", "ignored"):
        path = write_nx(tmp_path / f"{name}.nx", HALF)
        with h5py.File(path, "a") as file:
            entry = file["entry"]
            if name == "rad":
                entry["sample/rotation_angle"][:] = np.deg2rad(entry["sample/rotation_angle"][()])
                entry["sample/rotation_angle"].attrs["units"] = "rad"
            elif name == "after":
                for data in (f"{NX}/data", f"{NX}/image_key", "sample/rotation_angle"):
                    entry[data][:] = np.roll(entry[data][()], -8, axis=0)
            else:
                entry[f"{NX}/image_key"][-2:] = 3
        np.testing.assert_allclose(angles(path), plain[: 178 if name == "ignored" else 180], atol=1e-6)


# NXtomo


@pytest.mark.parametrize(
    ("extra", "mm", "words"),
    [
        ({f"{NX}/x_pixel_size": (1e-3, "m"), f"{NX}/y_pixel_size": (1e-3, "m")}, 1.0, ()),
        ({f"{NX}/x_pixel_size": (2.0, "micron")}, 0.002, ()),
        ({f"{NX}/x_pixel_size": (2.0, "µm")}, 0.002, ()),
        ({f"{NX}/x_pixel_size": (6e-6, "m"), f"{NX}/x_magnified_pixel_size": (2e-6, "m")}, 0.002, ()),
        ({f"{NX}/x_pixel_size": (6e-6, "m"), "sample/x_pixel_size": (2e-6, "m")}, 0.002, ()),
        ({f"{NX}/x_pixel_size": (2e-6, "m"), f"{NX}/magnification": 3.0}, 0.002, ("magnification",)),
        ({f"{NX}/x_pixel_size": np.array([b"b2017b74-c39d"])}, 1.0, ("text",)),
        ({"control/data": np.linspace(1.0, 0.5, 188)}, 1.0, ("beam monitor",)),
        ({"sample/z_translation": np.arange(188.0)}, 1.0, ("z_translation",)),
        ({"sample/z_translation": np.zeros(188)}, 1.0, ()),
        ({f"{NX}/x_binning": 2}, 1.0, ("x_binning is 2",)),
        ({f"{NX}/x_binning": 1}, 1.0, ()),
        ({f"{NX}/count_time": np.ones(188)}, 1.0, ()),
        (
            {f"{NX}/count_time": np.r_[np.ones(8), np.full(180, 2.0)]},
            1.0,
            ("count_time of radiographs is 2",),
        ),
        ({f"{NX}/distance": (-0.05, "m")}, 1.0, ()),
        ({f"{NX}/x_pixel_size": (1e-4, "cm")}, 0.001, ()),
        ({f"{NX}/x_pixel_size": 6.5}, 1.0, ("no pixel has",)),
        ({f"{NX}/x_pixel_size": (np.full(128, 2e-6), "m")}, 0.002, ()),
    ],
)
def test_nxtomo_statements(tmp_path: Path, extra: dict[str, Any], mm: float, words: tuple) -> None:
    scan = read_scan(write_nx(tmp_path / "a.nx", HALF, extra=extra))
    assert scan.grid.voxel_mm == pytest.approx((mm, mm, mm))
    warned(scan, *words)


@pytest.mark.parametrize("name", ["x_rotation_axis_pixel_position", "estimated_cor_from_motor"])
def test_the_recorded_axis_is_used(tmp_path: Path, name: str) -> None:
    extra = {f"{NX}/{name}": 88.25 - 49.5, f"{NX}/half_acquisition": True}
    scan = read_scan(write_nx(tmp_path / "a.nx", FULL, columns=100, axis=88.25, extra=extra))
    assert axis_of(scan) == pytest.approx(88.25, abs=1e-9)
    warned(scan)


def test_a_recorded_axis_that_the_data_contradict_is_told(tmp_path: Path) -> None:
    scan = read_scan(write_nx(tmp_path / "a.nx", HALF, extra={f"{NX}/x_rotation_axis_pixel_position": 9.0}))
    assert axis_of(scan) == pytest.approx(72.5)
    warned(scan, "the data say 63.5")


def test_alignment_frames_are_no_radiographs(tmp_path: Path) -> None:
    control = np.r_[[2] * 3, [1] * 5, [0] * 180, [-1] * 3]
    path = write_nx(
        tmp_path / "a.nx", np.r_[HALF, [0.0, 90, 180]], extra={f"{NX}/image_key_control": control}
    )
    scan = read_scan(path)
    assert scan.geometry.views == 180
    warned(scan, "3 alignment frames")


def flipped(name: str, size: float, vector: list[int], units: str = "deg") -> dict[str, Any]:
    attributes = {"transformation_type": "rotation", "units": units, "vector": vector}
    return {f"{NX}/transformations/{name}": (size, attributes)}


@pytest.mark.parametrize(
    ("flip", "extra"),
    [
        ("lr", flipped("ry", 180, [0, 1, 0])),
        ("ud", flipped("rx", 180, [1, 0, 0])),
        ("lr", flipped("ry", np.pi, [0, 1, 0], "rad")),
        ("lr ud", flipped("rz", 180, [0, 0, 1])),
        ("lr ud", flipped("rx", 180, [1, 0, 0]) | flipped("ry", 180, [0, 1, 0])),
        ("lr", {f"{NX}/x_flipped": True, f"{NX}/y_flipped": False}),
        ("ud", {f"{NX}/x_flipped": False, f"{NX}/y_flipped": True}),
        # Both notations of one flip are one flip.
        ("lr", flipped("ry", 180, [0, 1, 0]) | {f"{NX}/x_flipped": True}),
        ("", flipped("ry", 0, [0, 1, 0]) | flipped("rx", 360, [1, 0, 0])),
    ],
)
def test_flipped_cameras_are_turned_back(tmp_path: Path, flip: str, extra: dict[str, Any]) -> None:
    plain = read_scan(write_nx(tmp_path / "plain.nx", HALF, axis=70.0))
    scan = read_scan(write_nx(tmp_path / "a.nx", HALF, axis=70.0, flip=flip, extra=extra))
    np.testing.assert_allclose(scan.sinogram, plain.sinogram, atol=1e-6)
    assert axis_of(scan) == pytest.approx(axis_of(plain), abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_axis_of_a_mirrored_camera_is_what_the_data_say(tmp_path: Path, sign: int) -> None:
    extra = flipped("ry", 180, [0, 1, 0]) | {f"{NX}/x_rotation_axis_pixel_position": sign * 6.5}
    scan = read_scan(write_nx(tmp_path / "a.nx", HALF, axis=70.0, flip="lr", extra=extra))
    assert axis_of(scan) == pytest.approx(70.0)


def test_a_detector_that_is_tilted_is_told(tmp_path: Path) -> None:
    warned(read_scan(write_nx(tmp_path / "a.nx", HALF, extra=flipped("rz", 0.3, [0, 0, 1]))), "0.3 degrees")


# Links, virtual data sets, filters


@pytest.mark.parametrize("filter_name", ["Bitshuffle", "LZ4", "Blosc", "Zstd"])
def test_compressions_of_synchrotrons_are_read(tmp_path: Path, filter_name: str) -> None:
    plugin = pytest.importorskip("hdf5plugin")
    plain = read_scan(write_exchange(tmp_path / "plain.h5"))
    scan = read_scan(write_exchange(tmp_path / "a.h5", **getattr(plugin, filter_name)()))
    np.testing.assert_array_equal(scan.sinogram, plain.sinogram)


def test_an_unknown_compression_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_exchange(tmp_path / "a.h5", compression="gzip")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != 1)
    with pytest.raises(InputError, match=r"filter 1\), which needs hdf5plugin"):
        read_scan(path)


@pytest.mark.parametrize("kind", ["inside", "below", "missing", "outside"])
def test_external_links(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "scan"
    (folder / "raw").mkdir(parents=True)
    names = {"inside": "b.h5", "below": "raw/b.h5", "missing": "b.h5", "outside": "../b.h5"}
    path = write_exchange(folder / "a.h5")
    if kind != "missing":
        with h5py.File(folder / names[kind], "w") as other:
            other["images"] = counts(HALF, 128, 63.5)[0]
    with h5py.File(path, "a") as file:
        del file["exchange/data"]
        file["exchange/data"] = h5py.ExternalLink(names[kind], "images")
    # Any other file is read on request only, and named; beyond the folder of the scan none is.
    with pytest.raises(InputError, match=rf"{re.escape(names[kind])}.*--follow-links"):
        read_scan(path)
    with permitted(links=True):
        if kind in ("inside", "below"):
            assert read_scan(path).geometry.views == 180
        else:
            with pytest.raises(InputError, match=r"b\.h5"):
                read_scan(path)


def test_a_virtual_data_set_without_its_source_is_refused(tmp_path: Path) -> None:
    path = write_exchange(tmp_path / "a.h5")
    layout = h5py.VirtualLayout((180, 2, 128), "u2")
    layout[:] = h5py.VirtualSource("gone.h5", "images", (180, 2, 128))
    with h5py.File(path, "a") as file:
        del file["exchange/data"]
        file.create_virtual_dataset("exchange/data", layout)
    with permitted(links=True), pytest.raises(InputError, match=r"gone\.h5"):
        read_scan(path)


# Parts of a scan


def test_some_rows_are_those_of_the_whole(tmp_path: Path) -> None:
    path = write_exchange(tmp_path / "a.h5", rows=12)
    whole = read_scan(path)
    part = read_scan(path, ScanOptions(pick=lambda rows: (rows - 5, rows - 2)))
    np.testing.assert_array_equal(part.sinogram, whole.sinogram[:, 7:10])
    np.testing.assert_array_equal(part.weights, whole.weights[:, 7:10])
    np.testing.assert_allclose(part.geometry.detector_mm, whole.rows(7, 10).geometry.detector_mm)
    assert part.grid == whole.grid.slices(7, 10)
    some = read_scan(path, ScanOptions(sample=4))
    assert some.sinogram.shape[1] == 4
    assert some.whole is not None
    assert some.whole[1] == whole.grid


def sparse_scan(path: Path) -> Path:
    """A scan of 33 GB of which the middle rows, the fields and the angles are written."""
    views, rows, columns = 3000, 2160, 2560
    with h5py.File(path, "w") as file:
        data = file.create_dataset("exchange/data", (views, rows, columns), "u2", chunks=(600, 1, columns))
        degrees = np.linspace(0, 180, views, endpoint=False)
        raw, dark, flat = counts(degrees[::10], 256, 127.5, rows=1)
        lines = np.repeat(np.repeat(raw[:, 0], 10, axis=0), 10, axis=1)
        for row in (216, 1079, 1080, 1081, 1082):
            data[:, row] = lines
        data.attrs["note"] = "sparse"
        for name, frames in (("data_dark", dark[:1]), ("data_white", flat[:1])):
            stored = file.create_dataset(
                f"exchange/{name}", (1, rows, columns), "u2", chunks=(1, 64, columns)
            )
            stored[:] = np.repeat(frames, 10, axis=2)[:, :1]
        file["exchange/theta"] = degrees
    return path


def test_a_scan_of_33_gigabytes_is_planned_in_one(tmp_path: Path) -> None:
    """In a process that may hold 1 GB of data beyond its code; a slab of it is read the same way."""
    path = sparse_scan(tmp_path / "a.h5")
    code = f"""
import resource, sys
from pathlib import Path
from recon.run.problem.pose import read_problem
from recon.run.settings import ReconstructSettings
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
problem = read_problem(Path({str(path)!r}), ReconstructSettings(slices="1079:1083"), sample=2)
assert problem.plan().total > 2 * 4 * 3000 * 4 * 2560
part = read_problem(Path({str(path)!r}), ReconstructSettings(slices="1079:1081")).scan
assert part.sinogram.shape == (3000, 2, 2560) and part.sinogram.max() > 1
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 1.0


# What the job says


def test_warnings_are_printed_kept_and_errors_when_strict(tmp_path: Path) -> None:
    extra = {f"{NX}/x_rotation_axis_pixel_position": 9.0}
    path = write_nx(tmp_path / "a.nx", HALF, extra=extra)
    done = inside("reconstruct", path, "--out", tmp_path / "run")
    assert "warning: the recorded rotation axis 72.50 is used" in done.stderr
    assert "the data say 63.5" in (tmp_path / "run" / "metrics.json").read_text()
    assert "strict: the recorded rotation axis" in mistake(
        "reconstruct", path, "--out", tmp_path / "b", "--strict"
    )
    assert not (tmp_path / "b").exists()


def test_an_axis_that_estimates_disagree_about_is_stated_by_a_person(tmp_path: Path) -> None:
    path = write_exchange(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["exchange/data"][:] = np.random.default_rng(0).poisson(5000, (180, 2, 128))
    assert "the estimates disagree" in mistake("reconstruct", path, "--out", tmp_path / "run")
    step = "preprocess=[{name: centre, column: 60}]"
    done = inside("reconstruct", path, "--out", tmp_path / "run", step)
    assert "warning" in done.stderr
    assert "warning: centre of rotation" in inside("inspect", path).stdout
