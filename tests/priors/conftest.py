"""A prior trained for a few seconds, once per session: what loading and sampling are tested on."""

from pathlib import Path

import pytest
import torch

from tests.support.priors.small_training import STEPS, settings, write_data


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums over two threads round otherwise than over one: runs to compare bit by bit use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, small_data):
    """Return (configuration, run folder, losses) of a finished run, exported to ``prior``."""
    from priors.training.configuration.config import TrainConfig
    from priors.training.export import export_prior
    from priors.training.loop import open_subject, train

    plain = settings(small_data, steps=STEPS)
    config = TrainConfig.model_validate({**plain, "average": {"snapshot_every": 20}})
    folder = tmp_path_factory.mktemp("run")
    losses = []
    denoiser = train(
        config, folder, resume=False, report=lambda step, total, figures: losses.append(figures["loss"])
    )
    export_prior(denoiser, config, folder / "prior", command="tests", subject=open_subject(config))
    return config, folder, losses


@pytest.fixture(scope="session")
def small_prior(small_run) -> Path:
    return small_run[1] / "prior"
