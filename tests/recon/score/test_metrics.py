"""Metrics against MONAI, against dense formulas and at their limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from priors.runtime.errors import InputError
from recon.score.metrics import METRICS, Comparison, body_mask, score, slice_difference, ssim_3d, ssim_planes

WINDOW = 2000.0


def pair(shape, seed=0):
    draw = np.random.default_rng(seed)
    reference = draw.normal(0, 300, shape).clip(-1000, 1000).astype(np.float32)
    return (reference + draw.normal(0, 80, shape)).clip(-1000, 1000).astype(np.float32), reference


def compared(x, y) -> Comparison:
    everywhere = np.ones(x.shape, bool)
    return Comparison(x.astype(np.float64), y.astype(np.float64), everywhere, everywhere, WINDOW)


def dense_ssim(x, y, data_range):
    """The definition, window by window, with the Gaussian written out."""
    taps = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    weight = np.multiply.outer(taps, taps)
    weight /= weight.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = (array[row : row + 11, column : column + 11].astype(np.float64) for array in (x, y))
            ma, mb = (weight * a).sum(), (weight * b).sum()
            va, vb = (weight * (a - ma) ** 2).sum(), (weight * (b - mb) ** 2).sum()
            cov = (weight * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return np.mean(values)


def test_planes_match_the_definition_written_out():
    x, y = pair((2, 14, 13))
    expected = np.mean([dense_ssim(a, b, WINDOW) for a, b in zip(x, y, strict=True)])
    # Both are double precision; the variances are formed in another order: 1e-9 is 1e6 roundings.
    assert ssim_planes(compared(x, y), 0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_match_monai(axis):
    from monai.metrics import SSIMMetric

    x, y = pair((12, 16, 20))
    oracle = SSIMMetric(spatial_dims=2, data_range=WINDOW, win_size=11, kernel_sigma=1.5)
    images = [torch.from_numpy(np.moveaxis(array, axis, 0)[:, None].copy()) for array in (x, y)]
    value = ssim_planes(compared(x, y), axis)
    # MONAI computes in float32, where E[x^2] - E[x]^2 loses about four of its seven digits.
    assert value == pytest.approx(float(oracle(*images).mean()), abs=2e-4)


def test_volume_matches_monai():
    from monai.metrics import SSIMMetric

    x, y = pair((13, 12, 15))
    oracle = SSIMMetric(spatial_dims=3, data_range=WINDOW, win_size=11, kernel_sigma=1.5)
    expected = float(oracle(*(torch.from_numpy(array)[None, None] for array in (x, y))))
    value = ssim_3d(compared(x, y))
    assert value == pytest.approx(expected, abs=2e-4)


@given(error=st.floats(1.0, 500.0))
@settings(max_examples=20, deadline=None)
def test_a_constant_error_has_the_psnr_of_its_size(error):
    reference = np.zeros((2, 3, 4), np.float32)
    figures = score(reference + np.float32(error), reference)
    assert figures["rmse_hu"] == pytest.approx(error, rel=1e-6)  # one rounding to float32
    assert figures["psnr_hu"] == pytest.approx(20 * np.log10(2000 / error), rel=1e-6)
    assert figures["slice_difference_hu"] == pytest.approx(0, abs=1e-9)


def test_the_window_clips_both_volumes():
    reference = np.full((1, 2, 2), -3000, np.float32)
    result = np.full((1, 2, 2), -900, np.float32)
    assert score(result, reference)["rmse_hu"] == pytest.approx(100)
    soft = score(result, reference, window_hu=(-160.0, 240.0))
    assert soft["psnr_hu"] is None
    assert "equal" in soft["reasons"]["psnr_hu"]
    assert soft["window_hu"] == [-160, 240]


def test_few_slices_have_a_shorter_window_across_them():
    x, y = pair((5, 14, 13))
    taps = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    short = np.exp(-0.5 * ((np.arange(5) - 2) / 1.5) ** 2)
    a, b = x[:, 0:11, 0:11].astype(np.float64), y[:, 0:11, 0:11].astype(np.float64)
    weight = short[:, None, None] * taps[:, None] * taps
    weight /= weight.sum()
    ma, mb = (weight * a).sum(), (weight * b).sum()
    va, vb, cov = (
        (weight * a**2).sum() - ma**2,
        (weight * b**2).sum() - mb**2,
        (weight * a * b).sum() - ma * mb,
    )
    c1, c2 = (0.01 * WINDOW) ** 2, (0.03 * WINDOW) ** 2
    one = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    only = np.zeros(x.shape, bool)
    only[2, 5, 5] = True
    figures = score(x, y, mask=only)
    assert figures["ssim_3d"] == pytest.approx(one, abs=1e-9)
    for name in ("ssim_coronal", "ssim_sagittal"):
        assert score(x, y)[name] is not None
    # One slice: a window of one tap along z leaves the 2-D figure.
    single = score(x[:1], y[:1])
    assert single["ssim_3d"] == pytest.approx(single["ssim_axial"], abs=1e-12)
    assert single["slice_difference_hu"] is None
    assert "neighbouring" in single["reasons"]["slice_difference_hu"]


def test_ssim_beside_missing_voxels_is_that_of_whole_windows_alone():
    x, y = pair((1, 30, 40))
    holed = y.copy()
    holed[:, :, 20:] = np.nan
    # The part that has a reference, scored as if there were nothing else.
    expected = score(x[:, :, :20], y[:, :, :20])
    figures = score(x, holed)
    assert figures["ssim_axial"] == pytest.approx(expected["ssim_axial"], abs=1e-12)
    assert figures["ssim_3d"] == pytest.approx(expected["ssim_3d"], abs=1e-12)


def test_a_reference_without_a_whole_window_has_no_ssim():
    x, y = pair((1, 30, 30))
    holed = y.copy()
    holed[:, ::5] = np.nan
    figures = score(x, holed)
    assert figures["ssim_axial"] is None
    assert "whole window" in figures["reasons"]["ssim_axial"]
    assert figures["rmse_hu"] > 0


def test_reports_and_tables_take_their_columns_from_the_registry():
    x, y = pair((12, 14, 13))
    keys = [metric.key for metric in METRICS]
    assert len(set(keys)) == len(keys)
    assert [key for key in score(x, y) if key in keys] == [m.key for m in METRICS if m.compute]


def test_slice_difference_sees_only_errors_that_change_between_slices():
    y = np.zeros((3, 2, 2))
    x = y + np.array([0.0, 10.0, 10.0])[:, None, None]
    assert slice_difference(compared(x, y)) == pytest.approx((10 + 0) / 2)


def test_a_mask_leaves_out_what_it_excludes():
    x, y = pair((12, 14, 16))
    mask = np.zeros(x.shape, bool)
    mask[:, 4:10, 4:12] = True
    wrong = np.where(mask, x, 1000).astype(np.float32)
    assert score(wrong, y, mask=mask)["rmse_hu"] == pytest.approx(score(x, y, mask=mask)["rmse_hu"])
    assert score(wrong, y)["rmse_hu"] > 2 * score(x, y)["rmse_hu"]


def test_voxels_without_a_reference_are_not_compared():
    x, y = pair((2, 12, 12))
    holed = y.copy()
    holed[:, :3] = np.nan
    figures = score(x, holed)
    assert figures["voxels_compared"] == 2 * 9 * 12
    expected = np.sqrt(np.mean((x[:, 3:].astype(np.float64) - y[:, 3:]) ** 2))
    assert figures["rmse_hu"] == pytest.approx(expected, rel=1e-6)


def test_body_mask_fills_lungs_and_drops_the_table():
    volume = np.full((2, 40, 40), -1000, np.float32)
    volume[:, 5:25, 5:35] = 0
    volume[:, 10:15, 10:20] = -850
    volume[:, 33:35, 5:35] = 100
    mask = body_mask(volume)
    assert mask[:, 5:25, 5:35].all()
    assert mask.sum() == 2 * 20 * 30


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: score(x[:, 1:], y), "shapes"),
        (lambda x, y: score(x, y, window_hu=(5.0, 5.0)), "window_hu"),
        (lambda x, y: score(np.where(x > 0, np.float32(np.nan), x), y), "not finite"),
        (lambda x, y: score(x, np.full_like(y, np.nan)), "no voxel"),
        (lambda x, y: body_mask(np.full_like(y, -1000)), "mask"),
    ],
)
def test_what_cannot_be_compared_is_told(change, says):
    with pytest.raises(InputError, match=says):
        change(*pair((2, 3, 4)))
