"""`prepare statistics`: codec and covariance of data whose moments are known, as a file that train accepts."""

import numpy as np
import pytest
from omegaconf import OmegaConf

from priors.gaussian.modes import is_covariance
from priors.runtime.config import read_yaml
from priors.training.configuration.config import load_training
from tests.support.command_line import inside, mistake
from tests.support.priors.small_trajectories import settings, write_data


def archive(folder, *, missing=0.0):
    """Two variables: an autoregression in time of known memory, and rain that is log-normal."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    shape = (6, 200, 8, 8)
    first = np.zeros(shape)
    first[:, 0] = generator.standard_normal(shape[2:])
    for t in range(1, shape[1]):
        first[:, t] = 0.8 * first[:, t - 1] + 0.6 * generator.standard_normal((6, 8, 8))
    rain = 0.5 * np.expm1(np.abs(1.5 + 0.3 * first))
    both = np.stack([280 + 4 * first, rain], axis=2).astype(np.float32)
    both[generator.random(both.shape) < missing] = np.nan
    np.save(folder / "a.npy", both)
    event = {"file": "a.npy", "split": "train", "source": "s", "licence": "CC0-1.0"}
    variables = [{"name": "temperature", "unit": "K"}, {"name": "rain_rate", "unit": "mm/h"}]
    tree = {
        "kind": "trajectories",
        "step_s": 60.0,
        "spacing": 1.0,
        "spacing_unit": "km",
        "periodic": [False, False],
    }
    OmegaConf.save(
        OmegaConf.create({**tree, "variables": variables, "events": [event]}), folder / "manifest.yaml"
    )
    return folder


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_the_moments_of_an_autoregression_are_found(tmp_path, missing):
    folder = archive(tmp_path / "p", missing=missing)
    asked = ("--reach", 2, "--log1p", "rain_rate=0.5", "--out", tmp_path / "s.yaml")
    inside("prepare", "statistics", folder, *asked)
    found = read_yaml(tmp_path / "s.yaml")
    temperature, rain = found["codec"]["variables"]
    # 77,000 values with a memory of 0.8 count as some 8,500: four deviations of a mean are 4 %.
    assert temperature["offset"] == pytest.approx(280, abs=0.2)
    assert temperature["scale"] == pytest.approx(4, rel=0.05)
    assert "transform" not in temperature
    assert (rain["transform"], rain["reference"]) == ("log1p", 0.5)
    assert rain["offset"] == pytest.approx(1.5, abs=0.02)
    assert rain["low"] >= 0
    covariance = found["network"]["covariance"]
    assert covariance == pytest.approx([0.8**lag for lag in range(5)], abs=0.04)
    assert is_covariance(tuple(covariance), frames=5)


def test_train_takes_the_file(tmp_path):
    folder = write_data(tmp_path / "waves")
    OmegaConf.save(OmegaConf.create(settings(folder, steps=2)), tmp_path / "c.yaml")
    reach = settings(folder, steps=2)["network"].get("reach", 5)
    inside("prepare", "statistics", folder, "--reach", min(reach, 3), "--out", tmp_path / "s.yaml")
    chosen = load_training([tmp_path / "c.yaml", tmp_path / "s.yaml"])
    assert len(chosen.network.covariance) == 2 * min(reach, 3) + 1
    # Three waves of amplitude 5: variance 3 * 25 / 2.
    assert chosen.codec.variables[0].scale == pytest.approx(37.5**0.5, rel=0.1)


def test_mistakes_are_told(tmp_path):
    folder = archive(tmp_path / "p")
    assert "the data holds temperature, rain_rate" in mistake(
        "prepare", "statistics", folder, "--log1p", "snow=1"
    )
    assert "positive number" in mistake("prepare", "statistics", folder, "--log1p", "rain_rate=-1")
    assert "expected a smaller reach" in mistake("prepare", "statistics", folder, "--reach", 150)
