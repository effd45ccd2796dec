"""Steps of preprocessing on scans whose defects are known, and stripe removal on a measured sinogram."""

import numpy as np
import pytest
import tifffile
import torch

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import FanFlat, Parallel
from recon.operators.projector import Projector
from recon.preprocess import BadPixels, BeamHardening, Centre, Metal, RingsSorting, RingsWavelet
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.fbp.fbp import FBP
from tests.support.real_data import real_data
from tests.support.recon.analytic import body as analytic_body
from tests.support.recon.analytic import line_integrals
from tests.support.recon.parallel_files import lines

VOLUME = Grid((2, 96, 96), (1.0, 1.0, 1.0))
COLUMNS = 140


def body(metal: float = 0.0) -> torch.Tensor:
    """Return an ellipse with holes (z, y, x) in 1/mm, and two pins of metal."""
    z, y, x = np.indices(VOLUME.shape) - np.array([0.5, 47.5, 47.5])[:, None, None, None]
    image = 0.02 * ((x / 40) ** 2 + (y / 30) ** 2 < 1).astype(np.float32)
    for cx, cy, radius, mu in ((-15, 5, 8, 0.01), (12, -10, 6, 0.03), (18, 12, 5, 0.0)):
        image[np.hypot(x - cx, y - cy) < radius] = mu
    for cx, cy in ((-5, -18), (8, 18)):
        image[np.hypot(x - cx, y - cy) < 2.5] += metal
    return torch.from_numpy((image * (1 + 0.1 * z)).astype(np.float32))


def scan_of(image: torch.Tensor, views: int = 180, offset: float = 0.0) -> Scan:
    orbit = Parallel(views=views, columns=COLUMNS, column_mm=1.0, rows=2, row_mm=1.0, offset_columns=offset)
    sinogram = Projector(orbit.geometry(), VOLUME)(image).numpy()
    return Scan(sinogram, orbit.geometry(), VOLUME, np.full_like(sinogram, 1e4))


def with_sinogram(data: Scan, sinogram: np.ndarray) -> Scan:
    return Scan(sinogram.astype(np.float32), data.geometry, data.grid, data.weights)


def fbp(data: Scan) -> np.ndarray:
    sinogram, weights = torch.from_numpy(data.sinogram), torch.from_numpy(data.weights)
    return FBP(filter="hann")(
        Measurement(sinogram, weights), Projector(data.geometry, VOLUME), RunContext()
    ).numpy()


def norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def ringed() -> tuple[np.ndarray, np.ndarray]:
    """Return the closed-form sinogram (view, column) of ellipses, and errors of columns that no view changes."""
    orbit = Parallel(views=240, columns=400, column_mm=1.0, rows=1, row_mm=1.0)
    lines = line_integrals(analytic_body(140.0), orbit.geometry())[:, 0].numpy()
    generator, errors = np.random.default_rng(1), np.zeros(400)
    errors[generator.choice(np.arange(80, 320), 12, replace=False)] = generator.uniform(0.1, 0.2, 12)
    return lines, np.broadcast_to(errors, lines.shape)


@pytest.mark.parametrize(("step", "left"), [(RingsSorting(), 0.6), (RingsWavelet(levels=3), 0.65)])
def test_known_stripes_are_suppressed(step, left: float) -> None:
    lines, errors = ringed()
    # ``left``: the fraction of the error that stays, measured and rounded up; most of it is at edges of the object.
    rest = step.sinogram(lines + errors) - lines
    assert norm(rest) < left * norm(errors)
    # What makes rings is what all views share.
    assert norm(np.diff(rest.mean(axis=0))) < 0.35 * norm(np.diff(errors.mean(axis=0)))
    # A scan without stripes loses less than stripes would spoil.
    assert norm(step.sinogram(lines) - lines) < left * norm(errors)


def test_a_stripe_of_some_views_is_removed_rank_by_rank() -> None:
    lines, _ = ringed()
    spoilt = lines.copy()
    spoilt[60:130, 211] += 1.0
    assert norm(RingsSorting().sinogram(spoilt) - lines) < 0.5 * norm(spoilt - lines)


def test_stripes_of_a_measured_sinogram() -> None:
    """A neutron scan in which two pixels fail in some views and differ from both neighbours there."""
    counts = tifffile.imread(real_data("sinograms/sarepy_sinogram_360_neutron_image.tif")).astype(np.float64)
    air = np.median(np.r_[counts[:, :60].ravel(), counts[:, -60:].ravel()])
    lines = -np.log(np.maximum(counts, 1) / air)

    def striping(sinogram: np.ndarray) -> float:
        return float(abs(np.diff(sinogram, 2, axis=1)).mean(axis=0).max())

    cleaned = RingsSorting().sinogram(lines)
    assert striping(cleaned) < 0.1 * striping(lines)
    # The columns without defects keep their values.
    usual = abs(np.diff(lines, 2, axis=1)).max(axis=0)[:-1] < 1
    assert np.median(abs(cleaned - lines)[:, 1:-2][:, usual]) < 0.01


def test_bad_pixels_are_found_interpolated_and_weigh_nothing() -> None:
    data = scan_of(body())
    generator = np.random.default_rng(0)
    spoilt = data.sinogram + generator.normal(0, 0.01, data.sinogram.shape)
    hot, stuck, cold = (0, 40), (1, 70), (1, 90)
    spoilt[:, hot[0], hot[1]] += 1.5
    spoilt[:, stuck[0], stuck[1]] = 1.0
    spoilt[:, cold[0], cold[1]] = 0.0
    done = BadPixels()(with_sinogram(data, spoilt))
    found = {(int(r), int(c)) for r, c in np.argwhere((done.weights == 0).all(axis=0))}
    assert found == {hot, stuck, cold}
    assert done.provenance["preprocess"][0]["pixels"] == [list(pixel) for pixel in sorted(found)]
    # Interpolated values are those of the neighbours, which differ by less than an edge.
    for row, column in found:
        expected = (spoilt[:, row, column - 1] + spoilt[:, row, column + 1]) / 2
        np.testing.assert_allclose(done.sinogram[:, row, column], expected, atol=1e-5)


DISCS = ((0.0, 0.0, 40.0, 0.02), (18.0, 5.0, 9.0, 0.03), (-12.0, 16.0, 6.0, 0.04), (-8.0, -20.0, 4.0, -0.015))


def discs_of(discs: tuple[tuple[float, ...], ...], noise: float) -> np.ndarray:
    """A half turn of 128 columns about column 63.5 (view, row, column)."""
    clean = lines(np.arange(180.0), 128, 63.5, discs)
    return (clean + np.random.default_rng(0).normal(0, noise, clean.shape))[:, None].astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.02])
@pytest.mark.parametrize(
    "columns", [{}, {20: 9, 70: 0, 71: 0}, {64: 0.3}, {30: 2, 36: 2, 103: 2}, {50: 0, 51: 0, 52: 0}]
)
def test_bad_columns_side_by_side_and_no_good_ones(noise: float, columns: dict[int, float]) -> None:
    """Of an object whose edges stand still: each column of an analytic sinogram keeps one value in all views."""
    sinogram = discs_of(DISCS, noise)
    for column, value in columns.items():
        sinogram[:, 0, column] = value
    assert np.flatnonzero(BadPixels().find(sinogram)[0]).tolist() == sorted(columns)


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.02])
@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.5, 0.3), (3.0, 2.0), (20.0, 5.0)])
@pytest.mark.parametrize("radius", [2.5, 4.0, 6.0, 10.0, 16.0])
def test_narrow_objects_are_no_bad_pixels(noise: float, x: float, y: float, radius: float) -> None:
    """From 5 columns wide on, on the axis, where it stands still, and beside it, where it moves."""
    sinogram = discs_of(((x, y, radius, 0.05),), noise)
    assert not BadPixels().find(sinogram).any()
    sinogram[:, 0, 40], sinogram[:, 0, 100] = 1.0, 0.3
    assert np.flatnonzero(BadPixels().find(sinogram)[0]).tolist() == [40, 100]


def test_a_narrow_object_on_a_small_detector_is_reconstructed() -> None:
    """Eight of forty columns: more than a fifth of a row once looked bad, and the scan was refused."""
    orbit = Parallel(views=180, columns=40, column_mm=1.0, rows=1, row_mm=1.0)
    sinogram = lines(np.arange(180.0), 40, 19.5, ((0.0, 0.0, 4.0, 0.05),))[:, None].astype(np.float32)
    data = Scan(sinogram, orbit.geometry(), Grid((1, 40, 40), (1.0, 1.0, 1.0)), np.ones_like(sinogram))
    done = BadPixels()(data)
    np.testing.assert_array_equal(done.sinogram, data.sinogram)


def test_a_noisy_row_is_not_called_bad() -> None:
    data = scan_of(body())
    spoilt = data.sinogram + np.random.default_rng(0).normal(0, 0.05, data.sinogram.shape)
    assert not BadPixels().find(spoilt.astype(np.float32)).any()
    spoilt[..., 2::4] = 1.0
    with pytest.raises(InputError, match=r"found 25 % of detector row .*raise deviations"):
        BadPixels()(with_sinogram(data, spoilt))


def test_beam_hardening_is_undone_by_the_inverse_polynomial() -> None:
    data = scan_of(body())
    y = data.sinogram.astype(np.float64)
    # y = m + 0.2 m^2 has the root m = (-1 + sqrt(1 + 0.8 y)) / 0.4 as its hardened measurement.
    hardened = (np.sqrt(1 + 0.8 * y) - 1) / 0.4
    done = BeamHardening(coefficients=(1.0, 0.2))(with_sinogram(data, hardened))
    np.testing.assert_allclose(done.sinogram, data.sinogram, atol=1e-6)
    np.testing.assert_allclose(done.weights, data.weights / (1 + 0.4 * hardened) ** 2, rtol=1e-5)
    with pytest.raises(InputError, match="the polynomial falls"):
        BeamHardening(coefficients=(1.0, -0.4))(data)


def test_metal_spoils_less_of_its_surroundings() -> None:
    """Pins that let too few photons through: their rays are capped, as a detector's last photon caps them."""
    data, truth = scan_of(body(metal=0.5)), body().numpy()
    spoilt = with_sinogram(data, np.minimum(data.sinogram, 2.0))
    step = Metal(threshold_hu=5000, pixels=None)
    trace, true = (
        step.trace(spoilt),
        Projector(data.geometry, VOLUME)((body(metal=0.5) - body()).clamp(min=0)).numpy() > 0,
    )
    # FBP widens the pins, so that the trace covers what really crosses metal, and some more.
    assert (trace & true).sum() > 0.98 * true.sum()
    assert trace.mean() < 3 * true.mean()
    done = step(spoilt)
    assert (done.weights[trace] == 0).all()
    np.testing.assert_array_equal(done.sinogram[~trace], spoilt.sinogram[~trace])
    away = body(metal=1.0).numpy() - truth < 0.5
    assert norm((fbp(done) - truth)[away]) < 0.6 * norm((fbp(spoilt) - truth)[away])


def test_the_centre_is_found_or_given() -> None:
    data = scan_of(body(), views=120, offset=2.3)
    told = Scan(data.sinogram, scan_of(body(), views=120).geometry, VOLUME, data.weights)
    for step, tolerance in ((Centre(), 0.3), (Centre(column=69.5 - 2.3), 1e-9)):
        done = step(told)
        np.testing.assert_allclose(done.geometry.detector_mm, data.geometry.detector_mm, atol=tolerance)
        assert done.provenance["preprocess"][0]["column"] == pytest.approx(67.2, abs=tolerance + 1e-3)
    fan = FanFlat(views=9, sod_mm=200, sdd_mm=300).fit(VOLUME).geometry()
    ones = np.ones((9, *fan.shape), np.float32)
    with pytest.raises(InputError, match="found a fan beam"):
        Centre()(Scan(ones, fan, VOLUME, ones))


def test_too_few_views_have_no_stripes() -> None:
    with pytest.raises(InputError, match="expected at least 8"):
        RingsSorting()(scan_of(body(), views=5))
    with pytest.raises(InputError, match="expected one such as db5"):
        RingsWavelet(wavelet="no")(scan_of(body(), views=20))
