"""Every YAML file in configs/ builds what it is meant to build."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from assimilation.prepare.settings import PrepareSettings
from assimilation.run import demo
from assimilation.run.settings import AssimilateSettings
from priors.runtime.config import load
from priors.training.configuration.config import load_training
from recon.geometry.grid import Grid
from recon.geometry.orbits import Orbit
from recon.run.settings import DemoSettings, ReconstructSettings

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


class OrbitFile(BaseModel):
    orbit: Orbit


# A folder's files are all of one kind; a file of a new kind must say here which.
KINDS = {
    "recon": ReconstructSettings,
    "prepare": PrepareSettings,
    "assimilation": AssimilateSettings,
    "demo.yaml": DemoSettings,
    "demo-assimilation.yaml": demo.DemoSettings,
}
# What such a file leaves to the command line.
GIVEN = {"assimilation": {"prior": "ns-vorticity-64"}}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_it_builds(path):
    kind = path.relative_to(CONFIGS).parts[0]
    if kind == "orbits":
        from priors.runtime.config import read_yaml

        orbit = load(OrbitFile, [{"orbit": read_yaml(path)}]).orbit
        orbit = orbit.fit(Grid((2, 64, 64), (2.0, 1.5, 1.5)))
        assert orbit.geometry().views == orbit.views
    elif kind == "train":
        settings = load_training([path])
        assert settings == type(settings).model_validate(settings.model_dump(mode="json"))
    else:
        settings = load(KINDS[kind], [GIVEN.get(kind, {}), path])
        assert settings == KINDS[kind].model_validate(settings.model_dump(mode="json"))


def test_there_is_one_for_every_method():
    from recon import reconstructors

    methods = {
        kind.model_fields["name"].default
        for kind in vars(reconstructors).values()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }
    assert {path.stem for path in (CONFIGS / "recon").glob("*.yaml")} >= methods
