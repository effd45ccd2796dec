"""What only the verbs of data assimilation share: options, and how a run is started."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from priors.commands.options import required, show

if TYPE_CHECKING:
    from assimilation.run.settings import AssimilateSettings, ForecastSettings

Members = Annotated[int | None, typer.Option("--members", min=1, help="Members of the ensemble.")]
Strict = Annotated[bool, typer.Option("--strict", help="Make every warning an error.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Noise levels of a frame.")]


def start_run(
    settings: "AssimilateSettings | ForecastSettings",
    inputs: Mapping[str, Path],
    out: Path | None,
    *,
    stop_at: Mapping[str, bool],
    resume: bool,
    overwrite: bool,
    as_json: str | None,
) -> None:
    """Show the settings or the plan where one of them is asked for, else run.

    Args:
        settings: of the run.
        inputs: its files.
        out: run folder.
        stop_at: whether to stop after ``config`` or ``plan``.
        resume: continue the run in the folder.
        overwrite: replace it.
        as_json: where plan or metrics go as JSON.
    """
    from assimilation.run import jobs

    if stop_at["config"]:
        show(settings)
    elif stop_at["plan"]:
        jobs.print_plan(settings, inputs, as_json=as_json)
    else:
        jobs.run(settings, inputs, required(out), resume=resume, overwrite=overwrite, as_json=as_json)
