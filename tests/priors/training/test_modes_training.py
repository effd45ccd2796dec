"""Training on top of fitted modes: the fit is a prior already, and training cannot make it worse."""

import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from priors.card.weights import read_weights, write_weights
from priors.runtime.errors import InputError
from priors.training.configuration.config import TrajectoryConfig
from priors.training.engine.trainer import Trainer
from priors.training.loop import open_subject, train
from tests.priors.training.test_training_loop import silent
from tests.support.priors.small_trajectories import SIZE, settings, waves, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("complete"))
    np.save(folder / "train.npy", waves(0, 12, 8))
    return folder


def config(data, *, rate: float, steps: int = 6) -> TrajectoryConfig:
    tree = settings(data, steps=steps)
    tree["network"] |= {"modes": 8, "place": [SIZE, SIZE]}
    tree["optimisation"] |= {"learning_rate": rate, "warmup": 1}
    return TrajectoryConfig.model_validate(tree | {"validate_every": 3})


def test_a_ruinous_rate_leaves_the_fitted_estimate(data, tmp_path):
    chosen = config(data, rate=0.3)
    subject = open_subject(chosen)
    fitted = Trainer.start(chosen, subject).denoiser.network.state_dict()
    kept = train(chosen, tmp_path, resume=False, report=silent).network.state_dict()
    rows = [json.loads(row) for row in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 3, 6]
    assert all(torch.equal(kept[key], fitted[key]) for key in fitted)
    # Three waves in six patterns that travel: modes know them far better than a mean does.
    assert rows[0]["error_1"] < 0.5
    assert rows[0]["forecast"] < 0.5 * rows[0]["persistence"]


def test_modes_are_stored_in_full_precision(data, tmp_path):
    chosen = config(data, rate=1e-3)
    network = Trainer.start(chosen, open_subject(chosen)).denoiser.network
    write_weights(network, tmp_path / "model.safetensors")
    read = chosen.network.build()
    read_weights(read, tmp_path / "model.safetensors")
    assert float(read.filter.basis.abs().max()) > 0
    for name, buffer in network.filter.named_buffers():
        torch.testing.assert_close(read.filter.get_buffer(name), buffer, rtol=0, atol=0)


def test_missing_values_are_refused(tmp_path):
    folder = write_data(tmp_path / "gaps")
    with pytest.raises(InputError, match=r"network\.modes: found missing values"):
        train(config(folder, rate=1e-3), tmp_path / "run", resume=False, report=silent)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"modes": 4}, "give its size as place"),
        ({"modes": 300, "place": [SIZE, SIZE]}, "no more than a frame has values"),
        ({"modes": 4, "place": [SIZE, SIZE], "covariance": [1.0] + [0.0] * 6}, "leave covariance out"),
    ],
)
def test_modes_that_fit_no_network_are_refused(data, changes, told):
    tree = OmegaConf.to_container(OmegaConf.create(settings(data, steps=1)))
    tree["network"] |= changes
    with pytest.raises(ValueError, match=told):
        TrajectoryConfig.model_validate(tree)
