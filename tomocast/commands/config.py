"""The verbs ``config show`` and ``config schema``: the settings of every job that has some.

A job is named by its verb: ``reconstruct``, ``assimilate``, ``train``, "simulate scan", "prepare trajectories" ...
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from priors.commands.options import Config, Json, Overrides
from priors.runtime.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

JOBS = {
    "reconstruct": "recon.run.settings:ReconstructSettings",
    "simulate scan": "recon.run.settings:SimulateSettings",
    "simulate navier-stokes": "assimilation.systems:NavierStokes",
    "simulate kolmogorov": "assimilation.systems:Kolmogorov",
    "simulate lorenz96": "assimilation.systems:Lorenz96",
    "simulate linear-gaussian": "assimilation.systems:LinearGaussian",
    "phantom": "recon.run.settings:PhantomSettings",
    "demo recon": "recon.run.settings:DemoSettings",
    "assimilate": "assimilation.run.settings:AssimilateSettings",
    "forecast": "assimilation.run.settings:ForecastSettings",
    "observe": "assimilation.run.observe:ObserveSettings",
    "demo assimilation": "assimilation.run.demo:DemoSettings",
    "prepare slices": "recon.prepare.settings:SliceSettings",
    "prepare trajectories": "assimilation.prepare.settings:PrepareSettings",
    "train": "priors.training.configuration.config:TrainConfig",
    "train trajectories": "priors.training.configuration.config:TrajectoryConfig",
    "import-prior": "priors.adapters.foreign:Told",
}
"""The verb of a job -> where its settings are defined; imported when asked for."""

_SHORT = {
    "simulate": "simulate scan",
    "simulate system": "simulate navier-stokes",
    "demo": "demo recon",
    "prepare": "prepare trajectories",
}

Job = Annotated[str, typer.Option("--job", help=f"{', '.join(JOBS)}.", metavar="JOB")]


def show_config(
    overrides: Overrides = None,
    job: Job = "reconstruct",
    config: Config = None,
) -> None:
    """Print a job's resolved settings as YAML; '???' stands where a value must be given."""
    from priors.runtime.config import template_of

    sys.stdout.write(template_of(settings_model(job), config, overrides))


def show_schema(job: Job = "reconstruct", json: Json = "-") -> None:
    """Print the JSON schema of a job's settings: every key, its type, range and default."""
    from priors.runtime.output import emit_json

    emit_json(settings_model(job).model_json_schema(), json)


def settings_model(job: str) -> "type[BaseModel]":
    """Return the settings model of a job.

    Raises:
        InputError: there is no such job.
    """
    from priors.runtime.config import nearest

    spelt = {known.replace("-", " "): known for known in JOBS}
    words = job.replace("-", " ").strip()
    words = _SHORT.get(words, spelt.get(words, words))
    if words not in JOBS:
        guess = nearest(words, list(JOBS))
        hint = f"did you mean '{guess}'?" if guess else f"expected one of {', '.join(JOBS)}"
        raise InputError(f"job: found '{job}', {hint}")
    module, name = JOBS[words].split(":")
    model: type[BaseModel] = getattr(import_module(module), name)
    return model
