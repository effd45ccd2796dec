"""Filtered backprojection recovers ellipses from their exact line integrals, on every orbit, in HU."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularOrbit, FanCurved, FanFlat, Parallel
from recon.geometry.redundancy import fan_coordinates, redundancy
from recon.geometry.scan import ScanGeometry
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, RunContext, StepRecord
from recon.reconstructors.fbp.fbp import FBP
from recon.reconstructors.fbp.ramp import LARGEST_TOEPLITZ, fill_bad, filter_columns, windowed_ramp
from tests.support.recon.analytic import body, line_integrals, rasterise

WATER = 0.02
VOLUME = Grid((1, 96, 96), (1.0, 1.0, 1.0))
PHANTOM = body(42, WATER)
FAN = {"sod_mm": 180.0, "sdd_mm": 330.0}
# The fan covers 2 * asin(67.9 / 180) = 44.4 degrees: 224.4 degrees see every line once.
SHORT = 226.0
ORBITS = {
    "parallel": Parallel(views=300),
    "parallel-360": Parallel(views=600, arc_deg=360, start_deg=20),
    "parallel-clockwise": Parallel(views=300, arc_deg=-180),
    "parallel-200": Parallel(views=330, arc_deg=200),
    "parallel-offset": Parallel(views=300, offset_columns=2.3),
    "parallel-half-detector": Parallel(views=600, arc_deg=360, offset_columns=30, columns=90, column_mm=1.0),
    "parallel-fine-columns": Parallel(views=300, column_mm=0.6),
    "fan-flat": FanFlat(views=500, **FAN),
    "fan-flat-clockwise": FanFlat(views=500, arc_deg=-360, start_deg=40, **FAN),
    "fan-flat-offset": FanFlat(views=500, offset_columns=5.25, **FAN),
    "fan-flat-half-detector": FanFlat(views=600, offset_columns=35, columns=100, **FAN),
    "fan-flat-short": FanFlat(views=360, arc_deg=SHORT, start_deg=-17, **FAN),
    "fan-flat-short-clockwise": FanFlat(views=360, arc_deg=-SHORT, **FAN),
    "fan-flat-short-offset": FanFlat(views=360, arc_deg=SHORT, offset_columns=-1.25, **FAN),
    "fan-flat-300": FanFlat(views=450, arc_deg=300, **FAN),
    "fan-curved": FanCurved(views=500, **FAN),
    "fan-curved-offset": FanCurved(views=500, offset_columns=0.25, **FAN),
    "fan-curved-half-detector": FanCurved(views=600, offset_columns=35, columns=95, **FAN),
    "fan-curved-short": FanCurved(views=360, arc_deg=SHORT, **FAN),
    "fan-curved-short-clockwise": FanCurved(views=360, arc_deg=-SHORT, start_deg=90, **FAN),
}


def measure(geometry: ScanGeometry) -> Measurement:
    # A detector column averages the rays that fall on it.
    sinogram = line_integrals(PHANTOM, geometry, oversampling=4).float()
    return Measurement(sinogram, torch.ones_like(sinogram))


def error_hu(image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return errors in HU at pixels of the body four pixels away from any edge, and everywhere."""
    truth = rasterise(PHANTOM, VOLUME)[0].numpy()
    level = ndimage.maximum_filter(truth, 9) - ndimage.minimum_filter(truth, 9)
    error = (image[0].numpy() - truth) / WATER * 1000
    return error[(level < 1e-9) & (truth > 0.1 * WATER)], error


def reconstruct(orbit: CircularOrbit, method: FBP, grid: Grid = VOLUME) -> torch.Tensor:
    scan = orbit.fit(grid).geometry()
    return method(measure(scan), Projector(scan, grid), RunContext())


@pytest.mark.parametrize("orbit", ORBITS.values(), ids=ORBITS)
def test_ellipses_in_hu(orbit: CircularOrbit) -> None:
    flat, _ = error_hu(reconstruct(orbit, FBP()))
    # Ringing of the sharp ramp leaves 4 HU at 96 pixels; a wrong weight or distance gives tens of HU of bias.
    assert abs(flat.mean()) < 0.5
    assert np.sqrt((flat**2).mean()) < 6


def test_position_and_scale_on_anisotropic_shifted_voxels() -> None:
    volume = Grid((1, 80, 120), (1.0, 1.2, 0.8), (0.0, 3.0, -5.0))
    image = reconstruct(FanFlat(views=400, **FAN, column_mm=1.4), FBP(), volume)
    blurred = ndimage.gaussian_filter(image[0].numpy(), 1.5)
    expected = ndimage.gaussian_filter(rasterise(PHANTOM, volume)[0].numpy(), 1.5)
    error = blurred - expected
    for slope in np.gradient(expected):
        # To first order an image shifted by s pixels differs by s times its slope.
        assert abs((error * slope).sum()) < 0.02 * (slope * slope).sum()
    assert error.mean() / WATER * 1000 == pytest.approx(0, abs=0.5)


def test_an_arc_shorter_than_a_short_scan_is_reconstructed_but_shaded() -> None:
    short = FanFlat(views=300, arc_deg=150, **FAN)
    flat, _ = error_hu(reconstruct(short, FBP()))
    assert 30 < np.sqrt((flat**2).mean()) < 500


@pytest.mark.parametrize("window", ["shepp-logan", "cosine", "hamming", "hann"])
def test_windows_keep_the_level_and_trade_noise_for_sharpness(window: str) -> None:
    orbit = Parallel(views=180)
    scan = orbit.fit(VOLUME).geometry()
    A = Projector(scan, VOLUME)
    noise = torch.randn(A.range, generator=torch.Generator().manual_seed(0))
    measured = Measurement(noise, torch.ones_like(noise))
    sharp, smooth = FBP(), FBP(filter=window)  # type: ignore[arg-type]
    assert smooth(measured, A, RunContext()).std() < 0.9 * sharp(measured, A, RunContext()).std()
    flat, _ = error_hu(reconstruct(orbit, smooth))
    assert abs(flat.mean()) < 0.5
    half = FBP(cutoff=0.5)
    assert half(measured, A, RunContext()).std() < 0.7 * sharp(measured, A, RunContext()).std()


@pytest.mark.parametrize("margin", [(0, 0), (7, 0)])
@pytest.mark.parametrize("columns", [40, LARGEST_TOEPLITZ + 3])
def test_filtering_is_a_convolution_at_half_columns(columns: int, margin: tuple[int, int]) -> None:
    line = torch.randn((2, columns, 2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    half = windowed_ramp(columns + sum(margin), "hann", 0.8)
    taps = np.concatenate([half[:0:-1], half])
    found = filter_columns(line, taps, margin)
    view = np.convolve(line[1, :, 0].numpy(), taps)
    places = (np.arange(found.shape[1]) - 0.5) / 2 - margin[0]
    # Column c of the convolution sits at index c + C + margin.
    expected = np.interp(places + columns + sum(margin), np.arange(len(view)), view)
    assert found[1, :, 0].numpy() == pytest.approx(expected, abs=1e-12)


def test_every_pair_of_rays_on_one_line_counts_once() -> None:
    for orbit in (Parallel(views=90, arc_deg=360), FanCurved(views=90, **FAN), FanFlat(views=90, **FAN)):
        cells, weight = redundancy(fan_coordinates(orbit.fit(VOLUME).geometry()))
        assert cells.sum() == pytest.approx(2 * np.pi)
        assert weight == pytest.approx(np.full_like(weight, 0.5))
    cells, weight = redundancy(fan_coordinates(Parallel(views=90).fit(VOLUME).geometry()))
    assert cells.sum() == pytest.approx(np.pi)
    assert (weight == 1).all()
    # On a short scan the weights of an equiangular fan integrate to pi for every angle of the fan.
    fan = fan_coordinates(FanCurved(views=2000, arc_deg=SHORT, **FAN).fit(VOLUME).geometry())
    cells, weight = redundancy(fan)
    both = weight + weight[:, ::-1]
    assert (cells[:, None] * both).sum(0) == pytest.approx(np.full(weight.shape[1], 2 * np.pi), rel=2e-3)


def test_blocks_of_slices_report_progress_and_agree_with_single_slices() -> None:
    volume = Grid((70, 24, 24), (1.0, 1.0, 1.0))
    scan = FanCurved(views=30, sod_mm=60, sdd_mm=90).fit(volume).geometry()
    A = Projector(scan, volume)
    sinogram = torch.rand(A.range, generator=torch.Generator().manual_seed(2))
    seen: list[StepRecord] = []
    image = FBP()(Measurement(sinogram, torch.ones_like(sinogram)), A, RunContext(on_step=seen.append))
    assert [(record.iteration, record.total) for record in seen] == [(1, 2), (2, 2)]
    alone = Measurement(sinogram[:, 66:67], torch.ones_like(sinogram[:, 66:67]))
    torch.testing.assert_close(
        image[66:67], FBP()(alone, A.slices(66, 67), RunContext()), rtol=1e-4, atol=1e-4
    )
    assert FBP().plan(volume, scan).total > image.nbytes


def test_bad_pixels_are_interpolated() -> None:
    sinogram = torch.arange(12.0).reshape(1, 2, 6)
    weights = torch.ones_like(sinogram)
    weights[0, 0, 2:4] = 0
    weights[0, 1] = 0
    broken = torch.where(weights > 0, sinogram, torch.tensor(99.0))
    filled = fill_bad(broken, weights)
    torch.testing.assert_close(filled[0, 0], sinogram[0, 0])
    assert not filled[0, 1].any()
    assert broken[0, 0, 2] == 99


def test_orbits_without_an_inversion_formula_are_refused() -> None:
    scan = FanFlat(views=8, **FAN).fit(VOLUME).geometry()
    spiral = dataclasses.replace(scan, source_mm=scan.source_mm * np.linspace(1, 1.1, 8)[:, None])
    with pytest.raises(InputError, match="expected a circle"):
        FBP()(measure(spiral), Projector(spiral, VOLUME), RunContext())
    tilted = dataclasses.replace(scan, u_mm=scan.u_mm + 0.1 * scan.detector_mm / 150)
    with pytest.raises(InputError, match="tilted"):
        FBP()(measure(tilted), Projector(tilted, VOLUME), RunContext())
    aside = Parallel(views=8, columns=20, column_mm=1.0, offset_columns=90).fit(VOLUME).geometry()
    with pytest.raises(InputError, match="rotation axis falls on column"):
        FBP()(measure(aside), Projector(aside, VOLUME), RunContext())


def test_a_sinogram_of_another_scan_is_refused() -> None:
    scan = Parallel(views=8).fit(VOLUME).geometry()
    with pytest.raises(InputError, match=r"sinogram of shape \(4, 1, \d+\), expected \(8, 1, \d+\)"):
        FBP()(measure(scan[:4]), Projector(scan, VOLUME), RunContext())
