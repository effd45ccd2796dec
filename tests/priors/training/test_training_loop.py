"""The training loop: it learns, it resumes to the bit, it stops on nonsense; every shipped configuration is valid."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from priors.card import load_prior
from priors.diffusion.samplers.sampler import Multistep
from priors.runtime.config import load
from priors.runtime.errors import InputError
from priors.runtime.tensors import save_tensors
from priors.training.configuration.config import Optimisation, TrainConfig, load_training
from priors.training.engine.rate import learning_rate
from priors.training.loop import open_subject, train
from priors.training.plan import expected_seconds, memory_plan
from priors.training.slices.data import PreparedArrays
from priors.training.slices.gallery import draw_samples, save_page
from priors.training.slices.task import crop_of_step, denoising_psnr, validation_fields
from tests.support.priors.small_training import settings

CONFIGS = Path(__file__).parents[3] / "configs" / "train"


def config_of(data: Path, *, steps: int, **changes) -> TrainConfig:
    return TrainConfig.model_validate({**settings(data, steps=steps), **changes})


def silent(step, total, figures):
    pass


class KilledError(Exception):
    pass


def kill_at(limit: int):
    def report(step, total, figures):
        if step == limit:
            raise KilledError

    return report


def test_the_loss_decreases_and_the_held_out_error_with_it(small_run):
    _, folder, losses = small_run
    rows = [json.loads(row) for row in (folder / "training.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(10, 81, 10))
    assert losses[-1] < 0.6 * losses[9]
    assert rows[-1]["psnr_0.5"] > rows[0]["psnr_0.5"] + 2


def test_it_denoises_better_than_the_best_shrinkage_to_the_mean(small_run):
    # The best affine pixelwise estimate knows mean and variance of the held-out fields and nothing of their shape.
    config, folder, _ = small_run
    fields = validation_fields(config.model_copy(update={"validation_fields": 24}))
    found = denoising_psnr(load_prior(folder / "prior").denoiser, fields, (0.3,))[0.3]
    variance = float(fields.var())
    affine = 10 * math.log10(4 / (variance * 0.09 / (variance + 0.09)))
    assert found > affine + 3


@pytest.mark.parametrize("limit", [12])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(small_data, tmp_path, limit):
    # Saved every 5 steps, validated every 10: the run dies between saves, before or after a validation.
    config = config_of(small_data, steps=16)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = train(config, tmp_path / "whole", resume=False, report=silent)
    with pytest.raises(KilledError):
        train(config, tmp_path / "cut", resume=False, report=kill_at(limit))
    resumed = train(config, tmp_path / "cut", resume=True, report=silent)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value)
    ends = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "cut")]
    # A state is passed on: it does not say where its maker keeps files.
    assert str(tmp_path) not in ends[0]["config"]
    assert not re.search(r'"/', ends[0]["config"])
    for part in ("network", "average"):
        for key, value in ends[0][part].items():
            assert torch.equal(ends[1][part][key], value)
    steps = [
        json.loads(row)["step"] for row in (tmp_path / "cut" / "training.jsonl").read_text().splitlines()
    ]
    assert steps == [10, 16]


def test_checkpoints_that_cannot_be_resumed(small_data, tmp_path):
    config = config_of(small_data, steps=5)
    train(config, tmp_path, resume=False, report=silent)
    with pytest.raises(InputError, match="written by another configuration"):
        train(config_of(small_data, steps=6), tmp_path, resume=True, report=silent)
    (tmp_path / "best.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"best\.pt: cannot be read"):
        train(config, tmp_path, resume=True, report=silent)
    content = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"checkpoint\.pt: not a training checkpoint"):
        train(config, tmp_path, resume=True, report=silent)


def test_a_loss_that_is_not_finite_stops_the_run(small_data, tmp_path):
    wild = settings(small_data, steps=50)
    wild["optimisation"].update(learning_rate=1e30, warmup=1, clip=1e30)
    with pytest.raises(InputError, match=r"the loss is .* at step"):
        train(TrainConfig.model_validate(wild), tmp_path, resume=False, report=silent)
    assert not (tmp_path / "best.pt").exists()


def test_a_full_disk_is_one_clear_line(small_data):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left"):
        save_tensors({"weights": torch.zeros(1 << 16)}, full)


def test_validation_slices_of_two_sizes_are_cut_to_their_common_middle(small_data, tmp_path):
    (tmp_path / "manifest.yaml").write_text(
        (small_data / "manifest.yaml").read_text().replace("split: train", "split: validation")
    )
    for name, size in (("a", 40), ("b", 32), ("held_out", 40)):
        field = np.zeros((size, size), np.int16)
        field[size // 2, size // 2] = 1000
        np.save(tmp_path / f"{name}.npy", np.stack([field, field]))
    fields = validation_fields(config_of(tmp_path, steps=1))
    assert fields.shape == (3, 1, 32, 32)
    assert (fields[:, 0, 16, 16] == 1).all()


def test_the_learning_rate_warms_up_and_decays_to_zero():
    settings = Optimisation(steps=100, warmup=10, learning_rate=2.0)
    rates = [learning_rate(step, settings) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(np.diff(rates[10:]) < 0)


def test_batch_shapes_follow_their_shares_and_the_last_part_its_own(small_data):
    config = config_of(small_data, steps=4000, final_crops=[{"size": 40, "batch": 2}], final_share=0.25)
    sizes = [crop_of_step(config, step).size for step in range(4000)]
    assert set(sizes[:3000]) == {24, 32}
    assert set(sizes[3000:]) == {40}
    # The deviation of a share of 0.7 in 3000 draws is 0.0084; four of them.
    assert np.mean(np.array(sizes[:3000]) == 32) == pytest.approx(0.7, abs=0.034)


def test_the_plan_counts_weights_and_data(small_data):
    config = config_of(small_data, steps=30)
    subject = open_subject(config)
    plan = memory_plan(config, subject)
    weights = sum(weight.numel() for weight in config.network.build().parameters())
    assert plan.items["weights, gradients, moments, average"] == 20 * weights
    assert plan.items["data"] == sum(
        array.nbytes for array in PreparedArrays.load(small_data, "train").arrays
    )
    bigger = config_of(small_data, steps=30, crops=[{"size": 32, "batch": 16}])
    ratio = memory_plan(bigger, open_subject(bigger)).items["activations"] / plan.items["activations"]
    assert ratio == pytest.approx(4, rel=1e-3)
    # At least the input and the first features of the largest batch are kept: (1 + 16) numbers per pixel.
    assert plan.items["activations"] > 4 * 32**2 * 17 * 4
    assert expected_seconds(config, subject) > 0


def test_a_gallery_of_samples_beside_real_slices(small_run, tmp_path):
    config, folder, _ = small_run
    prior = load_prior(folder / "prior")
    first = draw_samples(prior, Multistep(steps=12), count=4, seed=1)
    again = draw_samples(prior, Multistep(steps=12), count=4, seed=1)
    assert torch.equal(first, again)
    assert first.shape == (4, 40, 40)
    # In HU, about the training fields' range; in network units nothing would lie below -10.
    assert -3000 < float(first.min()) < -800
    assert float(first.max()) < 3000
    assert draw_samples(prior, Multistep(steps=2), count=1, seed=0, size=(17, 30)).shape == (1, 17, 30)
    real = prior.codec.decode(validation_fields(config))[:, 0].numpy()
    save_page(first, real, tmp_path / "page.png", window=(-1000.0, 1000.0))
    from matplotlib.image import imread

    page = imread(tmp_path / "page.png")
    assert page.shape[0] > 100
    assert page[..., :3].std() > 0.05


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path):
    config = load_training([path])
    assert config.network.build() is not None
    if isinstance(config, TrainConfig):
        assert {crop.size % 16 for crop in (*config.crops, *config.final_crops)} == {0}
    low, high = (float(config.schedule.ratio(torch.tensor(t))) for t in (0.0, 1.0))
    assert low <= min(config.validation_levels)
    assert max(config.validation_levels) <= high


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimisation.stepss=3", "optimisation.stepss: unknown key"),
        ("optimisation.steps=0", "optimisation.steps: found 0"),
        ("network.channels=[16,10]", "norm_groups"),
        ("network.attention=[true]", "one entry per level"),
        ("network.name=unet", "found 'unet', expected"),
        ("parametrisation.name=epsilon", "parametrisation.name: found 'epsilon', expected one of noise"),
        ("levels.low=50", "must be below high"),
        ("crops=[]", "crops"),
        ("description.pixel_mm=[2,1]", "positive range"),
        ("codec.low=2000", "must be below high"),
        ("schedule.sigma_max=0.001", "must be below sigma_max"),
        ("seed=-1", "seed: found -1"),
        ("augmentation.scale=0.5", "augmentation.scale"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_key(override, told):
    with pytest.raises(InputError) as caught:
        load(TrainConfig, [CONFIGS / "ct-chest-256.yaml"], [override])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
