"""The verbs ``assimilate`` and ``forecast``.

Settings come from ``-c`` files, then from options, then from ``key=value`` arguments; later ones win.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

Config = Annotated[
    Optional[list[Path]],  # noqa: UP045 (typer reads the old spelling on every supported version)
    typer.Option("--config", "-c", help="YAML file of settings; may be repeated, later ones win."),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Argument(metavar="KEY=VALUE", help="Settings that win over every file and option."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder to write.")]
PriorName = Annotated[str | None, typer.Option("--prior", help="Embedded prior, or a folder with a card.")]
Members = Annotated[int | None, typer.Option(min=1, help="Members of the ensemble.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every random draw.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Noise levels of a frame.")]
Plan = Annotated[bool, typer.Option("--plan", help="Print memory and time needed, and stop.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in this folder.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the resolved settings and stop.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


def add_to(app: typer.Typer) -> None:
    """Give the command line its verbs."""
    app.command()(assimilate)
    app.command()(forecast)


def assimilate(
    observations: Annotated[Path, typer.Argument(help="Observations: NetCDF, Zarr, CSV or Parquet.")],
    overrides: Overrides = None,
    out: Out = None,
    prior: PriorName = None,
    lag: Annotated[
        str | None, typer.Option(help="Later frames whose observations reach an analysis, or inf.")
    ] = None,
    overlap: Annotated[
        str | None, typer.Option(help="Earlier frames drawn again with every analysis, or none.")
    ] = None,
    members: Members = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Annotated[str | None, typer.Option(help="mmps, sda or forcing.")] = None,
    background: Annotated[
        Path | None, typer.Option(help="Fields or ensemble that end one step before the observations.")
    ] = None,
    config: Config = None,
    plan: Plan = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    print_config: PrintConfig = False,
    json: AsJson = False,
) -> None:
    """Turn observations into an ensemble of analyses: filter, fixed-lag smoother or reanalysis."""
    from assimilation.run import jobs
    from assimilation.run.settings import AssimilateSettings
    from priors.runtime.config import settings_of

    options: dict[str, Any] = {
        "prior": prior,
        "lag": lag,
        "members": members,
        "seed": seed,
        "sampler.steps": steps,
        "guidance.name": guidance,
    }
    given = [f"overlap={'null' if overlap == 'none' else overlap}"] if overlap is not None else []
    chosen = settings_of(AssimilateSettings, config, options, [*given, *(overrides or [])])
    if print_config:
        _print(chosen)
        return
    job = jobs.open_assimilation(observations, background, chosen)
    if plan:
        jobs.print_plan(job, as_json=json)
    else:
        jobs.run(job, _required(out), resume=resume, overwrite=overwrite, as_json=json)


def forecast(
    start: Annotated[
        Path, typer.Argument(help="Fields, an ensemble or a run; its last frames are the start.")
    ],
    overrides: Overrides = None,
    out: Out = None,
    prior: PriorName = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames to forecast.")] = None,
    members: Members = None,
    seed: Seed = None,
    steps: Steps = None,
    motion: Annotated[
        str | None, typer.Option(help="advect carries the forecast along, none does not; auto advects rain.")
    ] = None,
    config: Config = None,
    plan: Plan = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    print_config: PrintConfig = False,
    json: AsJson = False,
) -> None:
    """Forecast an ensemble from clean frames, without observations."""
    from assimilation.run import jobs
    from assimilation.run.settings import ForecastSettings
    from priors.runtime.config import settings_of

    options: dict[str, Any] = {
        "prior": prior,
        "frames": frames,
        "members": members,
        "seed": seed,
        "sampler.steps": steps,
        "motion": motion,
    }
    chosen = settings_of(ForecastSettings, config, options, overrides)
    if print_config:
        _print(chosen)
        return
    job = jobs.open_forecast(start, chosen)
    if plan:
        jobs.print_plan(job, as_json=json)
    else:
        jobs.run(job, _required(out), resume=resume, overwrite=overwrite, as_json=json)


def _required(out: Path | None) -> Path:
    if out is None:
        raise typer.BadParameter("missing option '--out': the run folder to write")
    return out


def _print(chosen: Any) -> None:
    from priors.runtime.config import to_yaml

    sys.stdout.write(to_yaml(chosen))
