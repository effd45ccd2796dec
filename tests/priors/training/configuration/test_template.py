"""A printed configuration is one that ``train`` accepts, with the values of the data where it is given."""

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from priors.runtime.errors import InputError
from priors.training.configuration.config import TrainConfig, TrajectoryConfig, load_training
from priors.training.configuration.template import template
from priors.training.loop import open_subject
from priors.training.slices.data import PreparedArrays
from tests.support.priors import small_trajectories
from tomocast import cli


def parsed(text, tmp_path, *overrides):
    (tmp_path / "my.yaml").write_text(text)
    return load_training([tmp_path / "my.yaml"], list(overrides))


@pytest.mark.parametrize(("kind", "model"), [("slices", TrainConfig), ("trajectories", TrajectoryConfig)])
def test_a_template_is_a_configuration(kind, model, tmp_path):
    printed = CliRunner().invoke(cli.app, ["train", "--template", kind], standalone_mode=False)
    assert printed.exception is None
    config = parsed(printed.stdout, tmp_path)
    assert isinstance(config, model)
    assert config.optimisation.rate == "constant-decay"


def test_a_template_of_slices_fits_its_data(small_data, tmp_path):
    config = parsed(template("slices", small_data), tmp_path)
    assert config.description.pixel_mm == (2.0, 2.0)
    assert config.description.licence == "CC0-1.0"
    assert {crop.size for crop in config.crops} == {16, 32}
    subject = open_subject(config)
    batch = subject.batch(0, range(2))
    # Root mean square of the training slices in network units, from every third slice: to a tenth.
    arrays = PreparedArrays.load(small_data, "train").arrays
    rms = (sum((a.astype(float) ** 2).mean() for a in arrays) / len(arrays)) ** 0.5 / 1000
    assert config.parametrisation.sigma_data == pytest.approx(rms, rel=0.1)
    assert batch.x.shape[0] == 2


def test_a_template_of_trajectories_fits_its_data(tmp_path):
    data = small_trajectories.write_data(tmp_path / "waves")
    told = {
        "name": "height",
        "unit": "m",
        "mean": 0.5,
        "standard_deviation": 6.0,
        "minimum": -15.0,
        "maximum": 15.0,
    }
    OmegaConf.save(OmegaConf.create({"variables": [told]}), data / "statistics.yaml")
    config = parsed(template("trajectories", data), tmp_path)
    variable = config.codec.variables[0]
    assert (variable.name, variable.unit, variable.offset, variable.scale) == ("height", "m", 0.5, 6.0)
    assert (variable.low, variable.high) == (-22.5, 22.5)
    assert config.network.padding == ("periodic", "periodic")
    assert config.frames == 8
    assert open_subject(config).batch(0, range(1)).x.shape == (1, 8, 1, 16, 16)


def test_mistakes_are_one_line(tmp_path):
    for arguments, told in (
        (["--template", "volumes"], "expected slices or trajectories"),
        ([], "missing argument 'CONFIG'"),
    ):
        done = CliRunner().invoke(cli.app, ["train", *arguments], standalone_mode=False)
        assert told in str(done.exception)
    with pytest.raises(InputError, match=r"manifest\.yaml: not found"):
        template("slices", tmp_path)
