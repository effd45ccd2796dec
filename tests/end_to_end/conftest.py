"""A prior trained for a few seconds by the command line, once per session."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.support.command_line import inside
from tests.support.priors.small_training import settings, write_data

STEPS = 80


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The prior that ``tomocast train`` leaves in its run folder."""
    folder = tmp_path_factory.mktemp("training")
    config = settings(write_data(folder / "data"), steps=STEPS)
    OmegaConf.save(OmegaConf.create(config), folder / "discs.yaml")
    inside("train", folder / "discs.yaml", "--out", folder / "run")
    return folder / "run" / "prior"
