"""Scans that cannot be used, through the real command line: one clear line, status 2, nothing written."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import yaml

from recon.data.noise import Exposure
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.io.scans.registry import write_scan
from tests.support.mistakes import assert_refused, call

Writer = Callable[[Path], Path]
VIEWS, ROWS, COLUMNS = 6, 2, 12


def scan_file(folder: Path, *, counted: bool = True) -> Path:
    """Write a good scan."""
    volume = Grid((ROWS, 8, 8), (1.0, 1.0, 1.0))
    scan = Parallel(views=VIEWS, columns=COLUMNS).fit(volume).geometry()
    counts = np.random.default_rng(0).poisson(500, (VIEWS, ROWS, COLUMNS)).astype(np.float32)
    data = Scan.from_counts(scan, volume, counts=counts, exposure=Exposure(1000.0))
    if not counted:
        data = Scan(data.sinogram, scan, volume, data.weights)
    write_scan(folder / "scan.h5", data)
    return folder / "scan.h5"


def broken(change: Callable[[h5py.File], None], *, counted: bool = True) -> Writer:
    """Return a writer of a scan that was good before ``change``."""

    def write(folder: Path) -> Path:
        path = scan_file(folder, counted=counted)
        with h5py.File(path, "a") as file:
            change(file)
        return path

    return write


def value(name: str, where: tuple[int, ...] | slice, new: float) -> Callable[[h5py.File], None]:
    """Return a change of some values of a dataset."""

    def change(file: h5py.File) -> None:
        array = file[name][()]
        array[where] = new
        file[name][...] = array

    return change


def replaced(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    """Return a change of a whole dataset that keeps its attributes."""

    def change(file: h5py.File) -> None:
        array, attributes = make(file[name][()]), dict(file[name].attrs)
        del file[name]
        file[name] = array
        file[name].attrs.update(attributes)

    return change


def removed(name: str) -> Callable[[h5py.File], None]:
    """Return the removal of a dataset or group."""

    def change(file: h5py.File) -> None:
        del file[name]

    return change


def attribute(name: str, key: str, new: object) -> Callable[[h5py.File], None]:
    """Return a change of an attribute."""

    def change(file: h5py.File) -> None:
        file[name].attrs[key] = new

    return change


def truncated(folder: Path) -> Path:
    path = scan_file(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def exchange(**changes: np.ndarray | None) -> Writer:
    """Return a writer of a Data Exchange file with some datasets changed, or removed where None."""

    def write(folder: Path) -> Path:
        generator = np.random.default_rng(0)
        content: dict[str, np.ndarray | None] = {
            "data": generator.uniform(500, 900, (VIEWS, ROWS, COLUMNS)),
            "data_dark": generator.uniform(90, 110, (3, ROWS, COLUMNS)),
            "data_white": generator.uniform(990, 1010, (3, ROWS, COLUMNS)),
            "theta": 180 * np.arange(VIEWS) / VIEWS,
        }
        with h5py.File(folder / "exchange.h5", "w") as file:
            for name, array in {**content, **changes}.items():
                if array is not None:
                    file[f"exchange/{name}"] = array
        return folder / "exchange.h5"

    return write


def matlab(keep: int | None = None, **changes: object) -> Writer:
    """Return a writer of a HTC 2022 file with some fields changed, of which ``keep`` bytes are kept."""

    def write(folder: Path) -> Path:
        parameters: dict[str, object] = {
            "angles": 10.0 * np.arange(VIEWS),
            "distanceSourceOrigin": 410.66,
            "distanceSourceDetector": 553.74,
            "pixelSizePost": 0.2,
            "effectivePixelSizePost": 0.148,
            "numDetectorsPost": 20.0,
        }
        struct = {"sinogram": np.ones((VIEWS, 20)), "parameters": parameters}
        for name, new in changes.items():
            (struct if name in struct else parameters)[name] = new
        path = folder / "scan.mat"
        scipy.io.savemat(path, {"CtDataLimited": struct})
        path.write_bytes(path.read_bytes()[:keep])
        return path

    return write


def described(array: np.ndarray | None = None, **changes: object) -> Writer:
    """Return a writer of a sinogram with a description, some keys changed."""

    def write(folder: Path) -> Path:
        content: dict[str, object] = {
            "data": "lines.npy",
            "kind": "line-integrals",
            "unit": "1/mm",
            "orbit": {"name": "parallel", "views": VIEWS, "column_mm": 1.0},
            **changes,
        }
        np.save(folder / "lines.npy", np.ones((VIEWS, ROWS, COLUMNS)) if array is None else array)
        (folder / "scan.yaml").write_text(yaml.safe_dump(content))
        return folder / "scan.yaml"

    return write


def content(name: str, data: bytes) -> Writer:
    """Return a writer of a file."""

    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def foreign(folder: Path) -> Path:
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["measurements"] = np.zeros(3)
    return folder / "foreign.h5"


NAN_DATA = np.full((VIEWS, ROWS, COLUMNS), 700.0)
NAN_DATA[1, 1, 3] = np.nan
RADIANS = [round(float(a), 6) for a in np.pi * np.arange(12) / 12]
DARK, WHITE = np.full((1, ROWS, COLUMNS), 100.0), np.full((1, ROWS, COLUMNS), 1000.0)

CASES: dict[str, tuple[Writer, str]] = {
    "missing file": (lambda folder: folder / "absent.h5", "absent.h5: does not exist"),
    "a folder": (lambda folder: folder, "lies in the input"),
    "empty file": (content("scan.h5", b""), "scan.h5: is empty"),
    "unknown signature": (content("scan.xyz", b"RAWDATA" * 99), "scan.xyz: unknown kind of file"),
    "array alone": (content("scan.npy", b"\x93NUMPY\x01\x00"), "has no geometry"),
    "truncated": (truncated, "is a damaged or truncated HDF5 file"),
    "foreign HDF5": (foreign, "HDF5 file with measurements inside"),
    "later version": (broken(attribute("/", "version", 99)), "version: found 99, expected 1"),
    "NaN counts": (broken(value("counts", (1, 0, 3), np.nan)), "counts: 1 values are NaN or infinite"),
    "negative counts": (broken(value("counts", (1, 0, 3), -9)), "counts: found -9"),
    "zero counts": (broken(value("counts", slice(None), 0)), "counts: every value is zero"),
    "a dark view": (broken(value("counts", (2,), 0)), "view 2 holds only zeros"),
    "wrong i0": (broken(attribute("counts", "i0", 1.0)), "more than ten times i0 = 1"),
    "negative i0": (broken(attribute("counts", "i0", -5.0)), "i0: found -5.0"),
    "swapped axes": (broken(replaced("counts", lambda a: a.transpose(2, 1, 0))), "are its axes swapped?"),
    "wrong shape": (broken(replaced("counts", lambda a: a[:, :, :-1])), "found shape (6, 2, 11), expected"),
    "rows that are no slices": (broken(attribute("volume", "shape", (3, 8, 8))), "one row per slice"),
    "negative weights": (broken(value("weights", (0, 0, 0), -1), counted=False), "weights: 1 bad values"),
    "NaN line integrals": (
        broken(value("sinogram", (0, 0, 0), np.nan), counted=False),
        "sinogram: 1 bad values",
    ),
    "no geometry": (broken(removed("geometry/u_mm")), "geometry/u_mm: is missing"),
    "NaN geometry": (broken(value("geometry/source_mm", (3,), np.nan)), "scan.source_mm: view 3 holds"),
    "unknown unit": (broken(attribute("/", "unit", "Bq")), "unit: found 'Bq'"),
    "flat frame": (broken(value("frame", (0,), 0)), "frame: "),
    "dark and flat swapped": (exchange(data_dark=WHITE, data_white=DARK), "are dark and flat swapped?"),
    "flat of wrong shape": (exchange(data_white=WHITE[:, :1]), "flat field: found (1, 12) rows and columns"),
    "no flats": (exchange(data_white=None), "exchange/data_white: is missing"),
    "NaN radiographs": (exchange(data=NAN_DATA), "1 values are NaN or infinite, the first at (1, 1, 3)"),
    "angles of another scan": (exchange(theta=np.arange(4.0)), "found 4 angles, expected 6"),
    "no facing views": (exchange(theta=np.arange(6.0)), "no two views are 180 degrees apart"),
    "truncated MATLAB": (matlab(keep=700), "is a damaged or truncated MATLAB file"),
    "MATLAB field missing": (matlab(angles=np.array([])), "scan.mat: "),
    "MATLAB axes swapped": (matlab(sinogram=np.ones((20, VIEWS))), "are its axes swapped?"),
    "detector before the axis": (matlab(distanceSourceDetector=300.0), "orbit.sdd_mm: found 300.0"),
    "description without data": (described(data="absent.npy"), "absent.npy: does not exist"),
    "data of a name too long": (described(data="x" * 300), "does not exist beside the YAML file"),
    "views beyond reason": (
        described(orbit={"name": "parallel", "views": 10**11, "column_mm": 1.0}),
        "views: Input should be less than or equal to 1000000",
    ),
    "views that are not there": (described(np.ones((5, ROWS, COLUMNS))), "found shape (5, 2, 12)"),
    "angles in radians": (
        described(np.ones((12, 1, 8)), orbit={"name": "parallel", "angles_deg": RADIANS, "column_mm": 1.0}),
        "looks like radians",
    ),
    "counts without i0": (described(kind="counts"), "counts need flat and dark, or i0"),
    "misspelt orbit key": (
        described(orbit={"name": "parallel", "views": VIEWS, "colum_mm": 1.0}),
        "colum_mm",
    ),
    "no object": (described(np.zeros((VIEWS, ROWS, COLUMNS))), "every value is zero"),
    "not YAML": (content("scan.yaml", b"a: [1, 2"), "is no valid YAML"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_scan_that_cannot_be_used(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write, told = CASES[case]
    run = tmp_path / "run"
    source = write(tmp_path)
    answer = call(["reconstruct", str(source), "--method", "fbp", "--out", str(run)], monkeypatch, capfd)
    assert_refused(answer, told=told, unwritten=run)
    assert str(source.name) in answer.err
