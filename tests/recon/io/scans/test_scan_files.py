"""Scan files: our HDF5, HTC 2022, Data Exchange and plain arrays, each written here with known content."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from priors.runtime.errors import InputError
from recon.data.noise import Exposure
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, FanCurved, FanFlat, HelicalCone, Orbit, Parallel, Parallel3D
from recon.io.scans.registry import read_scan, write_scan
from recon.operators.projector import Projector

ORBITS: list[Orbit] = [
    Parallel(views=7),
    FanFlat(views=9, sod_mm=200, sdd_mm=300, offset_columns=0.25),
    FanCurved(views=5, arc_deg=200, sod_mm=200, sdd_mm=300),
    CircularCone(views=4, sod_mm=200, sdd_mm=300, tilt_deg=2, offset_rows=0.5, rows=5, row_mm=4),
    HelicalCone(views_per_turn=3, pitch_mm=4, sod_mm=200, sdd_mm=300, detector="curved"),
    Parallel3D(views=3, elevation_deg=20),
]


def blobs(shape: tuple[int, int, int] = (2, 64, 64), seed: int = 0) -> torch.Tensor:
    """Return an object without symmetry inside the inscribed circle."""
    z, y, x = np.indices(shape)
    generator = np.random.default_rng(seed)
    image = np.zeros(shape)
    for _ in range(6):
        cy, cx = generator.uniform(0.3, 0.7, 2) * shape[1:]
        image += 0.01 * (np.hypot(y - cy, x - cx) < generator.uniform(0.05, 0.15) * shape[1]) * (1 + z)
    return torch.from_numpy(image.astype(np.float32))


def assert_same(found: Scan, expected: Scan) -> None:
    for name in ("source_mm", "detector_mm", "u_mm", "v_mm"):
        np.testing.assert_array_equal(getattr(found.geometry, name), getattr(expected.geometry, name))
    assert (found.geometry.beam, found.geometry.detector) == (
        expected.geometry.beam,
        expected.geometry.detector,
    )
    assert (found.grid, found.mu_water, found.unit) == (expected.grid, expected.mu_water, expected.unit)
    assert found.exposure == expected.exposure
    for name in ("sinogram", "weights", "frame", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert dict(found.provenance) == dict(expected.provenance)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    orbit=st.sampled_from(ORBITS),
    seed=st.integers(0, 100),
    counted=st.booleans(),
    electronic_sd=st.sampled_from([0.0, 5.0]),
)
def test_scan_file_round_trip(
    tmp_path: Path, orbit: Orbit, seed: int, counted: bool, electronic_sd: float
) -> None:
    volume = Grid((2, 8, 6), (2.0, 1.5, 1.0), (1.0, 0.0, -0.5))
    scan = orbit.fit(volume).geometry()
    generator = np.random.default_rng(seed)
    shape = (scan.views, *scan.shape)
    frame = np.diag([-1.0, 1.0, 1.0, 1.0])
    frame[:3, 3] = generator.uniform(-100, 100, 3)
    if counted:
        counts = generator.poisson(50, shape).astype(np.float32)
        exposure = Exposure(60.0, 2.0, electronic_sd)
        bare = Scan.from_counts(scan, volume, counts=counts, exposure=exposure)
        data = Scan(
            bare.sinogram, scan, volume, bare.weights, counts, exposure, frame, 0.02, "HU", {"seed": 1}
        )
    else:
        sinogram = generator.uniform(0, 3, shape).astype(np.float32)
        data = Scan(sinogram, scan, volume, np.exp(-sinogram), frame=frame, unit="1/mm")
    write_scan(tmp_path / "scan.h5", data)
    assert_same(read_scan(tmp_path / "scan.h5"), data)


def test_some_views_of_a_scan_are_a_scan() -> None:
    volume = Grid((2, 8, 8), (1.0, 1.0, 1.0))
    scan = Parallel(views=6).fit(volume).geometry()
    counts = np.random.default_rng(0).poisson(90, (6, *scan.shape)).astype(np.float32)
    data = Scan.from_counts(scan, volume, counts=counts, exposure=Exposure(100.0))
    part = data[1::2]
    np.testing.assert_array_equal(part.sinogram, data.sinogram[[1, 3, 5]])
    np.testing.assert_array_equal(part.counts, counts[[1, 3, 5]])
    np.testing.assert_array_equal(part.geometry.source_mm, scan.source_mm[[1, 3, 5]])


def htc_struct(sinogram: np.ndarray, angles: np.ndarray) -> dict:
    return {
        "sinogram": sinogram,
        "parameters": {
            "angles": angles,
            "distanceSourceOrigin": 410.66,
            "distanceSourceDetector": 553.74,
            "pixelSizePost": 2.0,
            "effectivePixelSizePost": 1.4832,
            "numDetectorsPost": float(sinogram.shape[1]),
        },
    }


def test_htc_file_in_both_matlab_versions(tmp_path: Path) -> None:
    """ASTRA's fanflat (our fan half a turn on, columns reversed) on the image with row 0 at +y gives the
    file's sinogram."""
    image = blobs((1, 512, 512), seed=1)
    angles = np.arange(10.0, 60.0, 5.0)
    pixel = 0.14832
    theirs = FanFlat(
        angles_deg=tuple(angles + 180),
        sod_mm=410.66,
        sdd_mm=553.74,
        columns=56,
        column_mm=2.0,
        rows=1,
        row_mm=pixel,
    )
    volume = Grid((1, 512, 512), (pixel, pixel, pixel))
    sinogram = Projector(theirs.geometry(), volume)(image.flip(1)).numpy()[:, 0, ::-1]
    struct = htc_struct(sinogram.astype(np.float64), angles)
    struct["parameters"]["effectivePixelSizePost"] = pixel
    scipy.io.savemat(tmp_path / "five.mat", {"CtDataLimited": struct})
    with h5py.File(tmp_path / "seven.mat", "w", userblock_size=512) as file:
        group = file.create_group("CtDataLimited")
        group["sinogram"] = struct["sinogram"].T
        for key, value in struct["parameters"].items():
            group[f"parameters/{key}"] = np.atleast_2d(value).T
    for name in ("five.mat", "seven.mat"):
        data = read_scan(tmp_path / name)
        assert data.unit == "1/mm"
        projected = Projector(data.geometry, data.grid)(image).numpy()
        # Two float32 sums over the same rays in a different order.
        np.testing.assert_allclose(projected, data.sinogram, atol=1e-5 * sinogram.max())
        assert (data.weights > 0).all()


def radiographs(centre: float, views: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return raw values, darks and flats of a detector with pixel gains, and the noiseless line integrals."""
    volume = Grid((2, 64, 64), (1.0, 1.0, 1.0))
    orbit = Parallel(views=views, columns=90, column_mm=1.0, rows=2, row_mm=1.0, offset_columns=44.5 - centre)
    lines = Projector(orbit.geometry(), volume)(blobs()).numpy()
    generator = np.random.default_rng(0)
    gains = generator.uniform(0.8, 1.2, (2, 90))
    dark = 100 + generator.normal(0, 3, (10, 2, 90))
    flat = 100 + generator.poisson(2e4 * gains, (10, 2, 90))
    raw = 100 + generator.poisson(2e4 * gains * np.exp(-lines)) + generator.normal(0, 3, lines.shape)
    return raw, dark, flat, lines


def write_exchange(
    path: Path, raw: np.ndarray, dark: np.ndarray, flat: np.ndarray, **more: np.ndarray
) -> Path:
    theta = more.pop("theta", 180 * np.arange(len(raw)) / len(raw))
    with h5py.File(path, "w") as file:
        file["exchange/data"], file["exchange/data_dark"], file["exchange/data_white"] = raw, dark, flat
        file["exchange/theta"] = theta
        for key, value in more.items():
            file[key] = value
    return path


@pytest.mark.parametrize("centre", [41.3, 47.0])
def test_data_exchange_finds_the_centre_and_the_noise(tmp_path: Path, centre: float) -> None:
    raw, dark, flat, lines = radiographs(centre)
    data = read_scan(write_exchange(tmp_path / "scan.h5", raw, dark, flat))
    # A quarter of a column: the object has 60 views and pixels of one column.
    assert data.provenance["centre_column"] == pytest.approx(centre, abs=0.25)
    chi2 = (data.weights * (data.sinogram - lines) ** 2).mean()
    # 10800 rays: 1.4 % statistical error; the noise of ten flats adds a tenth, and the gain is known to 10 %.
    assert 0.9 < chi2 < 1.3


def test_data_exchange_pixel_size_and_radians(tmp_path: Path) -> None:
    raw, dark, flat, _ = radiographs(44.5, views=30)
    path = write_exchange(tmp_path / "scan.h5", raw, dark, flat, theta=np.pi * np.arange(30) / 30)
    with h5py.File(path, "a") as file:
        file["exchange/theta"].attrs["units"] = "radians"
        file["measurement/instrument/detector/x_pixel_size"] = 2.5
        file["measurement/instrument/detector/x_pixel_size"].attrs["units"] = "microns"
    data = read_scan(path)
    assert data.grid.voxel_mm == pytest.approx((0.0025, 0.0025, 0.0025))
    expected = Parallel(views=30, columns=90, column_mm=0.0025, rows=2, row_mm=0.0025).geometry()
    np.testing.assert_allclose(data.geometry.source_mm, expected.source_mm, atol=1e-12)


@pytest.mark.parametrize("files", ["array", "stack"])
def test_arrays_with_a_description(tmp_path: Path, files: str) -> None:
    raw, dark, flat, lines = radiographs(43.0, views=40)
    description = {
        "kind": "counts",
        "unit": "1/mm",
        "flat": "flat.npy",
        "dark": "dark.tif",
        "find_centre": True,
        "orbit": {"name": "parallel", "views": 40, "column_mm": 1.0},
    }
    np.save(tmp_path / "flat.npy", flat)
    tifffile.imwrite(tmp_path / "dark.tif", dark[0].astype(np.float32))
    if files == "array":
        np.save(tmp_path / "raw.npy", raw)
        description["data"] = "raw.npy"
    else:
        for i, view in enumerate(raw):
            tifffile.imwrite(tmp_path / f"raw_{i:03d}.tif", view.astype(np.float32))
        description["data"] = "raw_*.tif"
    (tmp_path / "scan.yaml").write_text(yaml.safe_dump(description))
    data = read_scan(tmp_path / "scan.yaml")
    # Photon noise of 2e4 counts behind at most one attenuation length: 1 % of a value, 6 sigma over 7200
    # rays.
    np.testing.assert_allclose(data.sinogram, lines, atol=0.07)
    assert data.grid.shape == (2, 90, 90)
    offset = data.geometry.detector_mm[0] @ data.geometry.u_mm[0]
    assert 44.5 - offset == pytest.approx(43.0, abs=0.25)


def test_line_integrals_without_counts_get_weights_from_their_noise(tmp_path: Path) -> None:
    volume = Grid((1, 64, 64), (1.0, 1.0, 1.0))
    orbit = Parallel(views=200, columns=90, column_mm=1.0, rows=1, row_mm=1.0)
    lines = Projector(orbit.geometry(), volume)(blobs((1, 64, 64))).numpy()
    counts = np.random.default_rng(0).poisson(1e4 * np.exp(-lines))
    np.save(tmp_path / "lines.npy", -np.log(counts / 1e4)[:, 0])
    orbit_yaml = {"name": "parallel", "views": 200, "column_mm": 1.0}
    description = {"data": "lines.npy", "kind": "line-integrals", "unit": "HU", "orbit": orbit_yaml}
    (tmp_path / "scan.yaml").write_text(yaml.safe_dump(description))
    data = read_scan(tmp_path / "scan.yaml")
    # Edges of the object leak a little into the estimate.
    assert data.provenance["i0"] == pytest.approx(1e4, rel=0.15)
    assert data.sinogram.shape == (200, 1, 90)


def test_missing_key_names_the_file_and_the_key(tmp_path: Path) -> None:
    (tmp_path / "scan.yaml").write_text("data: a.npy\nkind: counts\norbit: {name: parallel, column_mm: 1}\n")
    with pytest.raises(InputError, match=r"scan\.yaml: unit: "):
        read_scan(tmp_path / "scan.yaml")


def test_the_example_of_the_documentation_is_a_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[4] / "docs" / "formats" / "scans.md").read_text()
    example = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    lines = np.random.default_rng(0).uniform(0, 2, (180, 3, 20)).astype(np.float32)
    names = {
        "rows": 3,
        "columns": 20,
        "pixel_mm": 0.5,
        "line_integrals": lines,
        "inverse_variances": 1 / (1 + lines),
    }
    exec(example, names)
    data = read_scan(tmp_path / "scan.h5")
    np.testing.assert_array_equal(data.sinogram, lines)
    expected = Parallel(views=180, columns=20, column_mm=0.5, rows=3, row_mm=0.5).geometry()
    for name in ("source_mm", "detector_mm", "u_mm", "v_mm"):
        np.testing.assert_allclose(getattr(data.geometry, name), getattr(expected, name), atol=1e-12)


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("files", ["one", "per view"])
def test_raw_numbers_with_their_layout(tmp_path: Path, byteorder: str, files: str) -> None:
    raw, dark, flat, lines = radiographs(44.5, views=12)
    kind = np.dtype("u2").newbyteorder("<" if byteorder == "little" else ">")

    def write(name: str, array: np.ndarray, header: bytes = b"") -> None:
        (tmp_path / name).write_bytes(header + np.rint(array).astype(kind).tobytes())

    write("dark.raw", dark.mean(0))
    write("flat.raw", flat.mean(0))
    shape = [12, 2, 90]
    if files == "one":
        write("scan.raw", raw, b"head")
    else:
        shape = shape[1:]
        for k, view in enumerate(raw):
            write(f"view_{k}.raw", view, b"head")
    description = {
        "data": "scan.raw" if files == "one" else "view_*.raw",
        "kind": "counts",
        "unit": "1/mm",
        "dark": "dark.raw",
        "flat": "flat.raw",
        "raw": {"dtype": "uint16", "shape": shape, "offset": 4, "byteorder": byteorder},
        "orbit": {"name": "parallel", "views": 12, "column_mm": 1.0},
    }
    (tmp_path / "scan.yaml").write_text(yaml.safe_dump(description))
    # Photon noise of 2e4 counts behind at most one attenuation length: 1 % of a value, 6 sigma.
    np.testing.assert_allclose(read_scan(tmp_path / "scan.yaml").sinogram, lines, atol=0.07)
    description["raw"]["offset"] = 0
    (tmp_path / "scan.yaml").write_text(yaml.safe_dump(description))
    with pytest.raises(InputError, match=r"bytes, expected 0 \+ .* x 2 = "):
        read_scan(tmp_path / "scan.yaml")
