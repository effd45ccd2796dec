"""The rotation axis: analytic discs with noise, the real scans, and what is not trusted."""

import h5py
import numpy as np
import pytest
import tifffile

from priors.runtime.errors import InputError
from recon.preprocess.centre_search import find_centre, search_axis
from tests.support.real_data import real_data
from tests.support.recon.parallel_files import lines

HALF, FULL = np.arange(180.0), np.arange(360.0)


def sinogram(degrees: np.ndarray, columns: int, axis: float, radius: float) -> np.ndarray:
    discs = (
        (0.05 * radius, -0.03 * radius, 0.95 * radius, 0.8 / radius),
        (0.4 * radius, 0.1 * radius, 0.2 * radius, 1.2 / radius),
        (-0.3 * radius, 0.35 * radius, 0.15 * radius, 1.6 / radius),
        (-0.2 * radius, -0.5 * radius, 0.1 * radius, -0.6 / radius),
    )
    expected = 2e4 * np.exp(-lines(degrees, columns, axis, discs))
    return -np.log(np.maximum(np.random.default_rng(0).poisson(expected), 0.5) / 2e4)


@pytest.mark.parametrize(
    ("degrees", "columns", "axis", "radius"),
    [
        (HALF, 256, 127.5, 82),
        (HALF, 256, 137.5, 82),
        (HALF, 256, 107.5, 90),
        (HALF, 256, 150.0, 70),
        (HALF[::4], 256, 133.2, 80),
        # Cut off on one or both sides.
        (HALF, 200, 108.3, 140),
        (HALF, 256, 140.2, 180),
        (FULL, 256, 137.5, 82),
        (FULL, 256, 120.4, 170),
        # Half acquisition: the axis near an edge.
        (FULL, 100, 88.25, 40),
        (FULL, 100, 85.0, 40),
        (FULL, 100, 95.0, 40),
        (FULL, 100, 11.5, 40),
        (FULL, 100, 70.0, 40),
    ],
)
def test_discs_in_air(degrees: np.ndarray, columns: int, axis: float, radius: float) -> None:
    """At 20,000 photons estimates scatter by a few hundredths of a column; a tenth is what a volume shows."""
    found = search_axis(sinogram(degrees, columns, axis, radius), degrees)
    assert found.column == pytest.approx(axis, abs=0.1)
    assert found.confidence == "high"


def test_noise_has_no_axis() -> None:
    noise = np.random.default_rng(1).normal(1, 0.1, (180, 128))
    assert search_axis(noise, HALF).confidence == "low"
    with pytest.raises(InputError, match="estimates disagree"):
        find_centre(noise, HALF)


def test_a_tooth() -> None:
    """tomopy's documentation gives 296 by eye; its Vo method and ours differ by parts of a column."""
    with h5py.File(real_data("sinograms/tomopy_tooth.h5")) as file:
        raw, dark, white = (
            file[f"exchange/{name}"][()].astype(float) for name in ("data", "data_dark", "data_white")
        )
        theta = file["exchange/theta"][()]
    black = np.median(dark, axis=0)
    y = -np.log(np.maximum(raw - black, 1) / (np.median(white, axis=0) - black))
    for row in range(2):
        found = search_axis(y[:, row], theta)
        assert found.column == pytest.approx(296, abs=0.6)
        assert found.confidence == "high"


def test_a_neutron_scan() -> None:
    y = tifffile.imread(real_data("sinograms/sarepy_sinogram_360_neutron_image.tif")).astype(float)
    found = search_axis(-np.log(np.maximum(y, 1) / y.max()), np.linspace(0, 360, len(y)))
    # Mirrored pairs of the intensities and of their logarithm: 244.9 and 245.0.
    assert found.column == pytest.approx(245, abs=0.3)


@pytest.mark.parametrize("row", [67, 90, 110])
def test_a_savu_scan(row: int) -> None:
    folder = real_data("sinograms/savu_24737")
    raw = np.stack([tifffile.imread(file)[row] for file in sorted(folder.glob("raw_*.tiff"))]).astype(float)
    # The names of the two fields are swapped.
    dark, flat = (
        tifffile.imread(folder / f"{name}_00001.tiff")[row].astype(float) for name in ("flat", "dark")
    )
    if dark.mean() > flat.mean():
        dark, flat = flat, dark
    y = -np.log(np.maximum(raw - dark, 1) / np.maximum(flat - dark, 1))
    assert search_axis(y, np.arange(91) * 2.0).column == pytest.approx(86, abs=0.3)
