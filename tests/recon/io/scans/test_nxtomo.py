"""NXtomo files written here with known content; the radiographs are those of the Data Exchange tests."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from priors.runtime.errors import InputError
from recon.geometry.orbits import Parallel
from recon.io.scans.registry import read_scan
from tests.recon.io.scans.test_scan_files import radiographs


def write_nxtomo(path: Path, *, swapped: bool = False, **more: object) -> Path:
    """Write flats, darks, radiographs and a frame not to be used, mixed as beamlines do."""
    raw, dark, flat, _ = radiographs(43.0, views=30)
    spoilt = np.full((1, *raw.shape[1:]), 7.0)
    frames = np.concatenate([flat[:5], dark[:5], raw[:20], spoilt, raw[20:], flat[5:], dark[5:]])
    keys = np.array([1] * 5 + [2] * 5 + [0] * 20 + [3] + [0] * 10 + [1] * 5 + [2] * 5)
    angles = np.zeros(len(keys))
    angles[keys == 0] = 6.0 * np.arange(30)
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry1/tomo_entry/instrument/detector")
        detector["data"] = frames
        detector["image_key"] = np.where(keys > 0, np.where(keys < 3, 3 - keys, 3), 0) if swapped else keys
        detector["x_pixel_size"] = 2.5
        detector["x_pixel_size"].attrs["units"] = "um"
        file["entry1/tomo_entry/sample/rotation_angle"] = angles
        for name, value in more.items():
            del detector[name]
            if value is not None:
                detector[name] = value
    return path


def test_frames_are_told_apart_by_their_keys(tmp_path: Path) -> None:
    _, _, _, lines = radiographs(43.0, views=30)
    data = read_scan(write_nxtomo(tmp_path / "scan.nxs"))
    assert data.sinogram.shape == (30, 2, 90)
    # Photon noise of 2e4 counts behind at most one attenuation length: 1 % of a value, 6 sigma over 5400 rays.
    np.testing.assert_allclose(data.sinogram, lines, atol=0.07)
    assert data.provenance["format"] == "NeXus NXtomo"
    # Thirty views smear the criterion of the centre over half a column.
    assert data.provenance["centre_column"] == pytest.approx(43.0, abs=0.5)
    assert data.grid.voxel_mm == pytest.approx((0.0025,) * 3)
    expected = Parallel(views=30, columns=90, column_mm=0.0025, rows=2, row_mm=0.0025).geometry()
    np.testing.assert_allclose(data.geometry.source_mm, expected.source_mm, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"swapped": True}, "are dark and flat swapped"),
        ({"image_key": np.zeros(51, int)}, "found no dark fields"),
        ({"image_key": np.zeros(9, int)}, "51 frames, 9 image keys and 51 angles"),
        ({"data": None}, "data: is missing"),
        ({"x_pixel_size": -1.0}, "expected one positive length"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, change: dict, told: str) -> None:
    path = write_nxtomo(tmp_path / "scan.nxs", **change)
    with pytest.raises(InputError, match=rf"scan\.nxs: .*{told}"):
        read_scan(path)
