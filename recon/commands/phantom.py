"""The verb ``phantom``: a procedural thorax."""

from pathlib import Path
from typing import Annotated

import typer

from priors.commands.options import Config, Overrides, PrintConfig, required, show


def phantom(
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="NIfTI file to write.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Which patient.")] = None,
    slices: Annotated[int | None, typer.Option(min=1, help="Number of slices.")] = None,
    grid: Annotated[int | None, typer.Option(min=16, help="Pixels of a square slice.")] = None,
    config: Config = None,
    print_config: PrintConfig = False,
) -> None:
    """Write a procedural thorax in HU."""
    from recon.run import jobs, simulation

    options = {"seed": seed, "slices": slices, "grid": grid}
    settings = jobs.settings("phantom", config, options, overrides)
    if print_config:
        show(settings)
        return
    simulation.phantom(settings, required(out, "the NIfTI file to write"))
