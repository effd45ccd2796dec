"""The verb ``assimilate``: observations to an ensemble of analyses, in a run folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from assimilation.commands.options import Members, Steps, Strict, start_run
from priors.commands.options import (
    Config,
    Json,
    OutFolder,
    Overrides,
    Overwrite,
    Plan,
    PrintConfig,
    PriorName,
    Resume,
    Seed,
)


def assimilate(
    observations: Annotated[Path, typer.Argument(help="Observations: NetCDF, Zarr, CSV or Parquet.")],
    overrides: Overrides = None,
    out: OutFolder = None,
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
    withhold: Annotated[
        str | None,
        typer.Option(help="Share of the places not used but compared with the analyses, such as 10%."),
    ] = None,
    background: Annotated[
        Path | None, typer.Option(help="Fields or ensemble that end one step before the observations.")
    ] = None,
    strict: Strict = False,
    config: Config = None,
    plan: Plan = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    print_config: PrintConfig = False,
    json: Json = None,
) -> None:
    """Turn observations into an ensemble of analyses: filter, fixed-lag smoother or reanalysis."""
    from assimilation.run.settings import AssimilateSettings
    from priors.runtime.config import settings_of

    options: dict[str, Any] = {
        "prior": prior,
        "lag": lag,
        "members": members,
        "seed": seed,
        "sampler.steps": steps,
        "guidance.name": guidance,
        "withhold": withhold,
        "strict": strict or None,
    }
    given = [f"overlap={'null' if overlap == 'none' else overlap}"] if overlap is not None else []
    settings = settings_of(AssimilateSettings, config, options, [*given, *(overrides or [])])
    inputs = {"observations": observations, **({} if background is None else {"background": background})}
    stop_at = {"config": print_config, "plan": plan}
    start_run(settings, inputs, out, stop_at=stop_at, resume=resume, overwrite=overwrite, as_json=json)
