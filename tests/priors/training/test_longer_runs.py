"""Runs that go on, end early, keep checkpoints and show samples; arithmetic that is said."""

import json
import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from priors.runtime.errors import InputError
from priors.training.configuration.config import Optimisation, TrainConfig
from priors.training.configuration.settings import Precision
from priors.training.engine.precision import resolved_precision
from priors.training.engine.rate import learning_rate
from priors.training.extend import resumed_config
from priors.training.loop import train
from tests.priors.training.test_training_loop import KilledError, kill_at, silent
from tests.support.priors.small_training import settings


def config_of(data, *, steps: int, optimisation=None, **changes) -> TrainConfig:
    tree = settings(data, steps=steps)
    tree["optimisation"] |= optimisation or {}
    return TrainConfig.model_validate({**tree, **changes})


def write_config(config, folder):
    OmegaConf.save(OmegaConf.create(config.model_dump(mode="json")), folder / "config.yaml")


def weights(folder):
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return torch.cat([value.flatten() for value in state["network"].values()])


def test_a_constant_rate_prolonged_before_its_decay_is_the_longer_run_to_the_bit(small_data, tmp_path):
    constant = {"rate": "constant-decay", "cooldown": 0.5, "warmup": 2}
    (tmp_path / "short").mkdir()
    (tmp_path / "long").mkdir()
    short = config_of(small_data, steps=12, optimisation=constant)
    write_config(short, tmp_path / "short")
    with pytest.raises(KilledError):
        # Killed at step 6, saved at step 5: the decay begins at 6.
        train(short, tmp_path / "short", resume=False, report=kill_at(6))
    longer = resumed_config(short, tmp_path / "short", extend=4)
    assert (longer.optimisation.steps, longer.optimisation.extended) == (16, ())
    train(longer, tmp_path / "short", resume=True, report=silent)
    train(
        config_of(small_data, steps=16, optimisation=constant), tmp_path / "long", resume=False, report=silent
    )
    assert torch.equal(weights(tmp_path / "short"), weights(tmp_path / "long"))


def test_an_ended_run_is_prolonged_with_a_new_rise_and_the_files_that_began_it_still_resume_it(
    small_data, tmp_path
):
    first = config_of(small_data, steps=10)
    write_config(first, tmp_path)
    train(first, tmp_path, resume=False, report=silent)
    longer = resumed_config(first, tmp_path, extend=6)
    assert (longer.optimisation.steps, longer.optimisation.extended) == (16, (10,))
    write_config(longer, tmp_path)
    with pytest.raises(KilledError):
        train(longer, tmp_path, resume=True, report=kill_at(12))
    again = resumed_config(first, tmp_path)
    assert again == longer
    train(again, tmp_path, resume=True, report=silent)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 16
    with pytest.raises(InputError, match="seed was 0 when the run began, found 5"):
        resumed_config(config_of(small_data, steps=10, seed=5), tmp_path)
    with pytest.raises(InputError, match=r"no config\.yaml"):
        resumed_config(first, tmp_path / "nowhere", extend=3)


def test_rates_of_all_kinds_in_closed_form():
    constant = Optimisation(steps=100, warmup=10, learning_rate=2.0, rate="constant-decay", cooldown=0.25)
    rates = [learning_rate(step, constant) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert set(rates[10:75]) == {2.0}
    assert rates[75:] == pytest.approx([2 * (1 - math.sqrt(k / 25)) for k in range(26)])
    cosine = Optimisation(steps=100, warmup=10, learning_rate=2.0).longer(50, done=100)
    both = [learning_rate(step, cosine) for step in range(150)]
    assert both[:100] == [
        learning_rate(step, Optimisation(steps=100, warmup=10, learning_rate=2.0)) for step in range(100)
    ]
    again = Optimisation(steps=50, warmup=10, learning_rate=2.0)
    assert both[100:] == pytest.approx([learning_rate(step, again) for step in range(50)])


def test_what_does_not_decide_the_result_may_change_between_kill_and_resume(small_data, tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    config = config_of(small_data, steps=12)
    train(config, tmp_path / "whole", resume=False, report=silent)
    with pytest.raises(KilledError):
        train(config, tmp_path / "cut", resume=False, report=kill_at(8))
    other = config_of(
        small_data,
        steps=12,
        save_every=3,
        keep={"last": 2},
        precision={"checkpoint": "blocks"},
        preview={"every": 6, "levels": 2},
    )
    train(other, tmp_path / "cut", resume=True, report=silent)
    assert torch.equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    with pytest.raises(InputError, match=r"written by another configuration \(optimisation.ema differs\)"):
        train(
            config_of(small_data, steps=12, optimisation={"ema": 0.5}),
            tmp_path / "cut",
            resume=True,
            report=silent,
        )


def test_checkpoints_stay_as_long_as_asked(small_data, tmp_path):
    config = config_of(small_data, steps=15, save_every=2, keep={"last": 2, "every": 4})
    train(config, tmp_path, resume=False, report=silent)
    named = {path.name for path in tmp_path.glob("checkpoint*")}
    assert named == {"checkpoint.pt", *(f"checkpoint-{step}.pt" for step in (4, 8, 12, 14, 15))}
    assert torch.load(tmp_path / "checkpoint-8.pt", weights_only=True)["step"] == 8
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 15


def test_a_run_that_gains_nothing_ends_and_says_where(small_data, tmp_path):
    tree = config_of(small_data, steps=60, stop={"patience": 2, "min_gain": 50.0}, validate_every=5)
    train(tree, tmp_path, resume=False, report=silent)
    rows = [json.loads(row)["step"] for row in (tmp_path / "training.jsonl").read_text().splitlines()]
    # The first validation gains, from nothing; no other gains 50 dB.
    assert rows == [5, 10, 15]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 15


def test_samples_are_shown_during_training(small_data, tmp_path):
    train(
        config_of(small_data, steps=4, preview={"every": 2, "levels": 2}),
        tmp_path,
        resume=False,
        report=silent,
    )
    from matplotlib.image import imread

    pages = sorted((tmp_path / "previews").iterdir())
    assert [page.name for page in pages] == ["0000002.png", "0000004.png"]
    assert imread(pages[0])[..., :3].std() > 0.05


def test_the_arithmetic_is_the_one_asked_for_or_refused(monkeypatch):
    cpu = torch.device("cpu")
    for native, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("priors.training.engine.precision.bfloat16_pays", lambda _, native=native: native)
        assert resolved_precision(Precision(), cpu) == expected
        assert resolved_precision(Precision(compute="float32"), cpu) == "float32"
    with pytest.raises(InputError, match="which this cpu only emulates"):
        resolved_precision(Precision(compute="bfloat16"), cpu)


def test_spacings_the_card_would_not_tell_are_refused(small_data):
    from priors.training.loop import open_subject

    description = settings(small_data, steps=1)["description"] | {"pixel_mm": [0.5, 1.0]}
    with pytest.raises(
        InputError, match=r"description\.pixel_mm: found 0\.5 to 1 mm, but a\.npy has pixels of 2 mm"
    ):
        open_subject(config_of(small_data, steps=1, description=description))


def test_draws_of_a_sample_do_not_depend_on_who_asks():
    from priors.training.engine.draws import draws, noise, part_of

    whole = noise((2, 3), seed=1, step=7, samples=range(5))
    parts = [noise((2, 3), seed=1, step=7, samples=part_of(5, k, 3)) for k in range(3)]
    assert torch.equal(torch.cat(parts), whole)
    firsts = {
        float(draws(stream, seed=s, step=n, sample=i).random())
        for stream in ("step", "sample", "noise")
        for s in range(3)
        for n in range(3)
        for i in range(3)
    }
    assert len(firsts) == 81
    assert np.std(whole.numpy()) > 0.5
