"""Training data and objective: pure batches, honest augmentation, level distribution, closed-form averages."""

import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy import stats
from torch import nn

from priors.codec import Codec
from priors.runtime.errors import InputError
from priors.training.configuration.settings import Average
from priors.training.engine.average import WeightAverage, exponent, relative_length
from priors.training.objective import LevelSampler
from priors.training.slices.data import Augmentation, Crop, PreparedArrays, sample_at
from tests.support.priors.small_training import SIZE, write_data

CODEC = Codec(offset=0.0, scale=1000.0, low=-1024.0, high=1500.0)


def batch(data, *, seed=0, crop=None, augmentation=None):
    crop, generator = crop or Crop(size=24, batch=6), np.random.default_rng(seed)
    chosen = augmentation or Augmentation()
    return torch.stack(
        [
            sample_at(data, crop.size, augmentation=chosen, codec=CODEC, generator=generator)
            for _ in range(crop.batch)
        ]
    )


def prepared(tmp_path, array, **changes):
    np.save(tmp_path / "a.npy", array)
    series = {"file": "a.npy", "split": "train", "source": "s", "licence": "l", "pixel_mm": 1.0, **changes}
    OmegaConf.save(OmegaConf.create({"unit": "HU", "series": [series]}), tmp_path / "manifest.yaml")
    return tmp_path


def test_a_batch_is_a_function_of_its_generator(small_data):
    data = PreparedArrays.load(small_data, "train")
    first, again, other = batch(data, seed=[1, 5]), batch(data, seed=[1, 5]), batch(data, seed=[1, 6])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (6, 1, 24, 24)
    assert first.dtype == torch.float32


def test_values_stay_in_the_trained_range_after_bicubic_overshoot(small_data):
    data = PreparedArrays.load(small_data, "train")
    wild = Augmentation(probability=1.0, rotation_deg=45, scale=1.5)
    fields = torch.cat([batch(data, seed=seed, augmentation=wild) for seed in range(20)])
    # float32 cannot hold -1.024 exactly.
    assert float(fields.min()) >= -1.024 - 1e-6
    assert float(fields.max()) <= 1.5


def test_augmentation_never_changes_a_value_of_a_constant_field(tmp_path):
    folder = prepared(tmp_path, np.full((3, 32, 32), 37.0, np.float32))
    data = PreparedArrays.load(folder, "train")
    fields = batch(data, augmentation=Augmentation(probability=1.0, rotation_deg=30, scale=1.4))
    # Bicubic weights sum to one up to float32 rounding.
    torch.testing.assert_close(fields, torch.full_like(fields, 0.037), rtol=0, atol=1e-6)


def test_without_augmentation_a_field_is_a_window_of_a_slice(tmp_path):
    array = np.arange(2 * 20 * 20, dtype=np.int16).reshape(2, 20, 20)
    data = PreparedArrays.load(prepared(tmp_path, array), "train")
    plain = Augmentation(flip=False, probability=0.0)
    fields = CODEC.decode(batch(data, crop=Crop(size=8, batch=20), augmentation=plain))[:, 0].round().long()
    for field in fields:
        index, rest = divmod(int(field[0, 0]), 400)
        top, left = divmod(rest, 20)
        expected = array[index, top : top + 8, left : left + 8]
        np.testing.assert_array_equal(field.numpy(), expected)


def test_rotation_and_scale_are_about_the_amount_asked_for(tmp_path):
    # The gradient of a ramp turns by the angle of rotation and stretches by the zoom; over twelve pixels, since the
    # bicubic kernel of torch keeps a ramp only to a tenth of a pixel.
    x = np.mgrid[:64, :64][1].astype(np.float32)
    data = PreparedArrays.load(prepared(tmp_path, np.stack([10 * x, 10 * x])), "train")
    much = Augmentation(flip=False, probability=1.0, rotation_deg=20, scale=1.3)
    fields = CODEC.decode(batch(data, crop=Crop(size=16, batch=60), augmentation=much))[:, 0]
    along_x = (fields[:, 8, 14] - fields[:, 8, 2]) / 12
    along_y = (fields[:, 14, 8] - fields[:, 2, 8]) / 12
    angles = torch.rad2deg(torch.atan2(along_y, along_x)).abs()
    zooms = torch.hypot(along_x, along_y) / 10
    # Within two pixels of the left and the right border bicubic weights reach padding, which has no gradient.
    inside = (fields.amin((1, 2)) > 20) & (fields.amax((1, 2)) < 610)
    assert int(inside.sum()) > 20
    assert float(angles[inside].max()) <= 21
    assert float(angles[inside].max()) > 10
    assert float(zooms[inside].max()) <= 1.34
    assert float(zooms[inside].min()) >= 1 / 1.34


def test_series_are_drawn_by_slices_times_share(tmp_path):
    for name, count in (("a", 10), ("b", 30)):
        np.save(tmp_path / f"{name}.npy", np.full((count, 16, 16), count, np.int16))
    rows = [
        {"file": f"{n}.npy", "split": "train", "source": n, "licence": "l", "pixel_mm": 1.0, "share": share}
        for n, share in (("a", 3.0), ("b", 1.0))
    ]
    OmegaConf.save(OmegaConf.create({"unit": "HU", "series": rows}), tmp_path / "manifest.yaml")
    drawn = PreparedArrays.load(tmp_path, "train").draw(np.random.default_rng(0), 2000)
    # Half from each: the deviation of 2000 fair draws is 0.011; four of them.
    assert np.mean([field[0, 0] == 10 for field in drawn]) == pytest.approx(0.5, abs=0.045)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.full((2, 16, 16), np.nan, np.float32), "512 values are NaN or infinite"),
        (np.zeros((16, 16), np.int16), "expected int16 or float32 (slice, y, x)"),
        (np.zeros((2, 16, 16), np.float64), "found float64"),
        (np.zeros((0, 16, 16), np.int16), "holds no values"),
    ],
)
def test_an_array_that_cannot_be_trained_on(tmp_path, array, told):
    with pytest.raises(InputError) as caught:
        PreparedArrays.load(prepared(tmp_path, array), "train")
    assert told in str(caught.value)
    assert "a.npy" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no array at all", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array(tmp_path, content):
    folder = prepared(tmp_path, np.zeros((1, 16, 16), np.int16))
    (folder / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as a NumPy array"):
        PreparedArrays.load(folder, "train")


def test_manifests_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.yaml: not found"):
        PreparedArrays.load(tmp_path / "absent", "train")
    folder = prepared(tmp_path, np.zeros((1, 16, 16), np.int16))
    with pytest.raises(InputError, match="holds no series of the split 'validation'"):
        PreparedArrays.load(folder, "validation")
    prepared(tmp_path, np.zeros((1, 16, 16), np.int16), splitt="train")
    with pytest.raises(InputError, match="did you mean 'split'"):
        PreparedArrays.load(folder, "train")


def test_crops_and_values_are_checked_before_training(tmp_path, small_data):
    data = PreparedArrays.load(small_data, "train")
    with pytest.raises(InputError, match=rf"size 64 is larger than the slices of a\.npy \({SIZE} x {SIZE}"):
        data.require([Crop(size=64, batch=1)], CODEC)
    unit_range = np.random.default_rng(0).uniform(0, 1, (2, 16, 16)).astype(np.float32)
    for wrong in (unit_range, unit_range * 4096 + 2000):
        data = PreparedArrays.load(prepared(tmp_path, wrong), "train")
        with pytest.raises(InputError, match="does not fit the codec"):
            data.require([], CODEC)


def test_levels_have_the_stated_distribution():
    # The exact distribution function of the mixture, clipped to [low, high]; stratified draws only fit better.
    sampler = LevelSampler()
    levels = sampler(20_000, torch.Generator().manual_seed(0)).numpy()

    def distribution(s):
        normal = stats.norm.cdf(np.log(s), math.log(sampler.centre), sampler.width)
        uniform = np.log(s / sampler.low) / math.log(sampler.high / sampler.low)
        return 0.85 * normal + 0.15 * uniform

    inside = np.geomspace(0.006, 19, 50)
    found = np.array([np.mean(levels <= s) for s in inside])
    np.testing.assert_allclose(found, distribution(inside), atol=4 / math.sqrt(20_000) / 2)
    assert levels.min() >= sampler.low
    assert levels.max() <= sampler.high


def test_levels_are_stratified():
    # One draw per quantile of b: without the uniform part, sorted levels interleave with the exact quantiles.
    sampler = LevelSampler(uniform_share=0.0, low=1e-6, high=1e6)
    levels = np.sort(sampler(16, torch.Generator().manual_seed(1)).numpy())
    edges = np.exp(math.log(0.2) + 1.3 * stats.norm.ppf(np.arange(1, 16) / 16))
    assert bool((levels[:-1] <= edges).all())
    assert bool((edges <= levels[1:]).all())


def test_the_average_is_the_weighted_sum_it_claims():
    module = nn.Linear(1, 1, bias=False).double()
    ema = WeightAverage(module, decay=0.7)
    expected = float(module.weight.detach())
    values = np.random.default_rng(0).normal(size=30)
    for step, value in enumerate(values):
        with torch.no_grad():
            module.weight.fill_(value)
        ema.update(module, step)
        keep = min(0.7, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * value
    assert float(ema.module.weight) == pytest.approx(expected, rel=1e-12)
    # Once warm, the weights of the past are a geometric series.
    tail = sum(0.3 * 0.7**k * value for k, value in enumerate(values[::-1][:8]))
    assert float(ema.module.weight) == pytest.approx(tail, abs=4 * 0.7**8)


@pytest.mark.parametrize("length", [0.05, 0.1, 0.25])
def test_the_power_average_has_weights_of_the_stated_profile_and_length(length):
    g, steps = exponent(length), 400
    assert relative_length(g) == pytest.approx(length, rel=1e-9)
    module = nn.Linear(steps, 1, bias=False).double()
    average = WeightAverage(module, decay=0.5, settings=Average(kind="power", length=length))
    # Step i shows the i-th unit vector, so the average is the weights it gave to the steps.
    for step in range(steps):
        with torch.no_grad():
            module.weight.copy_(torch.eye(steps, dtype=torch.float64)[step])
        average.update(module, step)
    weights = average.module.weight.detach()[0].numpy()
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    t = np.arange(1, steps + 1)
    exact = [(1 - (1 - 1 / i) ** (g + 1)) * np.prod((1 - 1 / t[i:]) ** (g + 1)) for i in t]
    np.testing.assert_allclose(weights, exact, rtol=1e-9)
    # The profile t^g holds for many steps: its deviation is the stated share of the run to a per cent.
    mean = (weights * t).sum()
    assert np.sqrt((weights * (t - mean) ** 2).sum()) / steps == pytest.approx(length, rel=0.02)


def test_the_fixture_is_what_it_says(tmp_path):
    again = PreparedArrays.load(write_data(tmp_path / "again"), "validation")
    assert again.arrays[0].shape == (24, SIZE, SIZE)
