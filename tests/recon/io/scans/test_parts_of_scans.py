"""Some rows of a scan file or of arrays: the same as those rows of the whole, and nothing else is read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from priors.runtime.errors import InputError
from recon.data.noise import Exposure
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, FanFlat
from recon.io.scans.arrays.frames import open_frames
from recon.io.scans.format import ScanOptions
from recon.io.scans.registry import read_scan, stored_bytes, write_scan
from tests.support.recon.parallel_files import HALF, counts

ROWS, COLUMNS, VIEWS = 10, 128, 20
DEGREES = HALF[:: 180 // VIEWS]
RAW, DARK, FLAT = counts(DEGREES, COLUMNS, 63.5, rows=ROWS)
LINES = -np.log((RAW - 100.0).clip(1) / 2e4).astype(np.float32)
Save = Callable[[Path, np.ndarray], tuple[str, dict]]


def npy(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    np.save(folder / "a.npy", values)
    return "a.npy", {}


def npy_by_columns(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    np.save(folder / "a.npy", np.asfortranarray(values))
    return "a.npy", {}


def npy_big_endian(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    np.save(folder / "a.npy", values.astype(values.dtype.newbyteorder(">")))
    return "a.npy", {}


def raw(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    big = values.astype(values.dtype.newbyteorder(">"))
    (folder / "a.raw").write_bytes(b"header!" + big.tobytes())
    layout = {"dtype": values.dtype.name, "shape": list(values.shape), "offset": 7, "byteorder": "big"}
    return "a.raw", {"raw": layout}


def raw_views(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    for number, view in enumerate(values):
        (folder / f"a{number}.raw").write_bytes(view.tobytes())
    return "a*.raw", {"raw": {"dtype": values.dtype.name, "shape": list(values.shape[1:])}}


def tiff(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    tifffile.imwrite(folder / "a.tif", values)
    return "a.tif", {}


def tiff_imagej(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    tifffile.imwrite(folder / "a.tif", values, imagej=True)
    return "a.tif", {}


def tiff_packed(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    tifffile.imwrite(folder / "a.tif", values, compression="zlib")
    return "a.tif", {}


def tiff_upside_down(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    tifffile.imwrite(folder / "a.tif", values[:, ::-1], extratags=[(274, "H", 1, 4, True)])
    return "a.tif", {}


def tiff_views(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    for number, view in enumerate(values):
        tifffile.imwrite(folder / f"a_{number}.tif", view)
    return "a_*.tif", {}


def tiff_halves(folder: Path, values: np.ndarray) -> tuple[str, dict]:
    for number, half in enumerate(np.split(values, 2)):
        tifffile.imwrite(folder / f"a_{number}.tif", half, compression="zlib")
    return "a_*.tif", {}


SAVED: tuple[Save, ...] = (
    npy, npy_by_columns, npy_big_endian, raw, raw_views, tiff, tiff_imagej, tiff_packed, tiff_upside_down, tiff_views,
    tiff_halves,
)  # fmt: skip


def described(folder: Path, data: str, **more: object) -> Path:
    orbit = {"name": "parallel", "arc_deg": 180.0, "views": VIEWS, "column_mm": 0.5}
    (folder / "scan.yaml").write_text(yaml.safe_dump({"data": data, "orbit": orbit, "unit": "1/mm", **more}))
    return folder / "scan.yaml"


@pytest.mark.parametrize("save", SAVED, ids=lambda save: save.__name__)
@pytest.mark.parametrize("kind", ["counts with fields", "counts with i0", "line-integrals"])
def test_rows_of_arrays_are_those_of_the_whole(tmp_path: Path, save: Save, kind: str) -> None:
    values = LINES if kind == "line-integrals" else RAW
    data, more = save(tmp_path, values)
    if kind == "counts with fields":
        np.save(tmp_path / "dark.npy", DARK)
        np.save(tmp_path / "flat.npy", FLAT)
        # The axis is searched once: that is slow, and the same whatever the file.
        more = {**more, "flat": "flat.npy", "dark": "dark.npy", "find_centre": save is npy}
        if "raw" in more:
            for name, frames in (("dark", DARK), ("flat", FLAT)):
                (tmp_path / f"{name}.npy").unlink()
                kept = np.dtype(frames.dtype).newbyteorder(">" if save is raw else "<")
                for number, frame in enumerate(frames):
                    (tmp_path / f"{name}{number}.raw").write_bytes(frame.astype(kept).tobytes())
            more |= {"flat": "flat*.raw", "dark": "dark*.raw"}
    elif kind == "counts with i0":
        more = {**more, "i0": 2e4}
    path = described(tmp_path, data, kind=kind.split()[0], **more)
    whole = read_scan(path)
    expected = LINES if kind == "line-integrals" else None
    if expected is not None:
        np.testing.assert_array_equal(whole.sinogram, expected)
    same_rows(path, whole)


def same_rows(path: Path, whole: Scan) -> None:
    """Check that rows 3 to 8, and 2 in their middle that stand for them, are those of the whole scan."""
    part = read_scan(path, ScanOptions(pick=lambda rows: (3, 8)))
    sample = read_scan(path, ScanOptions(pick=lambda rows: (3, 8), sample=2))
    for some, (start, stop) in ((part, (3, 8)), (sample, (4, 6))):
        rows = whole.rows(start, stop)
        for name in ("sinogram", "weights", "counts"):
            # Not a bit differs: noise and axis are those of the whole scan.
            np.testing.assert_array_equal(getattr(some, name), getattr(rows, name))
        assert (some.grid, some.unit, some.mu_water) == (rows.grid, rows.unit, rows.mu_water)
        np.testing.assert_array_equal(some.geometry.detector_mm, rows.geometry.detector_mm)
    assert part.whole is None
    assert sample.whole is not None
    assert (sample.whole[0].shape[0], sample.whole[1]) == (5, part.grid)


@pytest.mark.parametrize("counted", [True, False])
def test_rows_of_a_scan_file_are_those_of_the_whole(tmp_path: Path, counted: bool) -> None:
    grid = Grid((ROWS, 16, 16), (2.0, 1.0, 1.0))
    geometry = (
        FanFlat(views=VIEWS, sod_mm=200, sdd_mm=300, columns=COLUMNS, column_mm=0.5).fit(grid).geometry()
    )
    if counted:
        scan = Scan.from_counts(geometry, grid, counts=RAW.astype(np.float32), exposure=Exposure(2.1e4))
    else:
        scan = Scan(LINES, geometry, grid, np.exp(-LINES))
    write_scan(tmp_path / "a.h5", scan)
    same_rows(tmp_path / "a.h5", read_scan(tmp_path / "a.h5"))


def test_a_cone_is_read_whole(tmp_path: Path) -> None:
    grid = Grid((4, 16, 16), (1.0, 1.0, 1.0))
    geometry = CircularCone(views=8, sod_mm=60, sdd_mm=90).fit(grid).geometry()
    ones = np.ones((8, *geometry.shape), np.float32)
    write_scan(tmp_path / "c.h5", Scan(ones, geometry, grid, ones))
    assert read_scan(tmp_path / "c.h5", ScanOptions(sample=1)).whole is None
    with pytest.raises(InputError, match="cross slices"):
        read_scan(tmp_path / "c.h5", ScanOptions(pick=lambda rows: (0, 1)))


def test_an_empty_part_of_a_scan_is_no_mistake_and_an_empty_scan_is(tmp_path: Path) -> None:
    data, _ = npy(tmp_path, np.concatenate([0 * LINES[:, :4], LINES[:, 4:]], axis=1))
    path = described(tmp_path, data, kind="line-integrals", i0=1e4)
    assert not read_scan(path, ScanOptions(pick=lambda rows: (0, 3))).sinogram.any()
    npy(tmp_path, 0 * LINES)
    with pytest.raises(InputError, match="every value is zero"):
        read_scan(path)


def test_only_the_rows_asked_for_are_read(tmp_path: Path) -> None:
    """What lies outside the rows may be of any size: the file below has 64 GiB, of which nothing is stored."""
    views, rows, columns = 64, 2**17, 2**11
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (views, rows, columns)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * views * rows * columns)
    frames = open_frames(tmp_path, "a.npy")
    assert frames.shape == (views, rows, columns)
    assert frames.read(0, views, slice(5, 7)).shape == (views, 2, columns)
    path = described(tmp_path, "a.npy", kind="line-integrals", i0=1e4)
    assert stored_bytes(path) > 2**35


def test_views_of_different_sizes_and_files_cut_short_are_refused(tmp_path: Path) -> None:
    data, _ = tiff_views(tmp_path, RAW)
    tifffile.imwrite(tmp_path / "a_7.tif", RAW[7, :5])
    path = described(tmp_path, data, kind="counts", i0=2e4)
    with pytest.raises(InputError, match=r"a_7\.tif: files of different shapes"):
        read_scan(path)
    data, _ = npy(tmp_path, RAW)
    content = (tmp_path / data).read_bytes()
    (tmp_path / data).write_bytes(content[:-9])
    with pytest.raises(InputError, match=r"a\.npy: is not a readable \.npy file"):
        read_scan(described(tmp_path, data, kind="counts", i0=2e4))
