"""The verb ``observation-errors``: how wrong observations are, and which stations are biased."""

from pathlib import Path
from typing import Annotated

import typer

from priors.commands.options import Json


def observation_errors(
    run: Annotated[Path, typer.Argument(help="Run folder of a filter (assimilate --lag 0).")],
    observations: Annotated[Path, typer.Argument(help="The observations it was given.")],
    prior: Annotated[
        str | None, typer.Option("--prior", help="The run's prior, where it is a folder elsewhere.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the observations with the estimated errors, less the biases."),
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="First frames left out.")] = 3,
    json: Json = None,
) -> None:
    """Estimate errors of observations (Desroziers) and biases of stations from a filter run."""
    from assimilation.run.departures.observation_errors import Request
    from assimilation.run.departures.observation_errors import run as estimate

    estimate(Request(run, observations, prior, skip, out), as_json=json)
