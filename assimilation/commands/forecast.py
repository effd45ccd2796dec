"""The verb ``forecast``: clean frames to an ensemble of what follows, in a run folder."""

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


def forecast(
    start: Annotated[
        Path, typer.Argument(help="Fields, an ensemble or a run; its last frames are the start.")
    ],
    overrides: Overrides = None,
    out: OutFolder = None,
    prior: PriorName = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames to forecast.")] = None,
    members: Members = None,
    seed: Seed = None,
    steps: Steps = None,
    motion: Annotated[
        str | None, typer.Option(help="advect carries the forecast along, none does not; auto advects rain.")
    ] = None,
    step: Annotated[
        float | None, typer.Option(help="Keep a frame of the start every so many seconds.")
    ] = None,
    spacing: Annotated[
        float | None, typer.Option(help="Average the start to this grid spacing first, in its unit.")
    ] = None,
    crop: Annotated[
        str | None, typer.Option(help="Part of the start's grid, Y0:Y1,X0:X1 in cells, after --spacing.")
    ] = None,
    strict: Strict = False,
    config: Config = None,
    plan: Plan = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    print_config: PrintConfig = False,
    json: Json = None,
) -> None:
    """Forecast an ensemble from clean frames, without observations."""
    from assimilation.run.settings import ForecastSettings
    from priors.runtime.config import settings_of

    options: dict[str, Any] = {
        "prior": prior,
        "frames": frames,
        "members": members,
        "seed": seed,
        "sampler.steps": steps,
        "motion": motion,
        "step_s": step,
        "spacing": spacing,
        "crop": crop,
        "strict": strict or None,
    }
    settings = settings_of(ForecastSettings, config, options, overrides)
    inputs = {"start": start}
    stop_at = {"config": print_config, "plan": plan}
    start_run(settings, inputs, out, stop_at=stop_at, resume=resume, overwrite=overwrite, as_json=json)
