"""The verb ``reconstruct``: a scan to a volume, in a run folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

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
    required,
    show,
)
from recon.commands.options import Against, Draws, Formats, Method, PriorGrid, ScanFile, Slab


def reconstruct(
    scan: ScanFile,
    overrides: Overrides = None,
    out: OutFolder = None,
    method: Method = None,
    prior: PriorName = None,
    config: Config = None,
    seed: Seed = None,
    draws: Draws = None,
    against: Against = None,
    views: Annotated[str | None, typer.Option(help="Views to use, START:STOP:STEP.")] = None,
    views_step: Annotated[int | None, typer.Option(min=1, help="Use every K-th view.")] = None,
    slices: Annotated[str | None, typer.Option(help="Slices to reconstruct, START:STOP.")] = None,
    slab: Slab = None,
    grid: Annotated[int | None, typer.Option(min=1, help="Pixels of the square slice.")] = None,
    prior_grid: PriorGrid = False,
    formats: Formats = None,
    reference: Annotated[
        Path | None, typer.Option(help="Volume in HU to record the error of every step against.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Make every warning an error.")] = False,
    plan: Plan = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    print_config: PrintConfig = False,
    json: Json = None,
) -> None:
    """Reconstruct a volume from a scan into a run folder."""
    from recon.run import jobs
    from recon.run.plan import printing

    if views_step is not None and views is not None:
        raise typer.BadParameter("give --views or --views-step, not both")
    options: dict[str, Any] = {
        "method.name": method,
        "method.prior": prior,
        "seed": seed,
        "draws": draws,
        "against": against,
        "views": f"::{views_step}" if views_step else views,
        "slices": slices,
        "slab": slab,
        "grid": grid,
        "prior_grid": prior_grid or None,
        "formats": formats or None,
        "strict": strict or None,
    }
    settings = jobs.settings("reconstruct", config, options, overrides)
    if print_config:
        show(settings)
    elif plan:
        printing.print_plan(scan, settings, as_json=json)
    else:
        jobs.reconstruct(
            scan,
            settings,
            required(out),
            resume=resume,
            overwrite=overwrite,
            as_json=json,
            reference=reference,
        )
