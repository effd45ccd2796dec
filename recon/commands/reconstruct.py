"""The verb ``reconstruct``: a scan to a volume, in a run folder."""

from pathlib import Path
from typing import Annotated, Any, Optional

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

Formats = Annotated[
    Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
    typer.Option("--format", help="Write the volume in this format too, such as dicom; may be repeated."),
]


def reconstruct(
    scan: Annotated[
        Path,
        typer.Argument(metavar="SCAN", help="Scan: tomocast HDF5, HTC 2022, Data Exchange, or scan.yaml."),
    ],
    overrides: Overrides = None,
    out: OutFolder = None,
    method: Annotated[
        str | None,
        # Written out: deriving it from the union of methods would import torch for --help. A test compares the two.
        typer.Option(
            help="fbp, cgls, sirt, tv, exact (small problems); with a diffusion prior: nerd-fast, nerd-thorough, "
            "nerd-admm, nerd-pdhg, dds, dds-3d, diffusion-mbir, diffpir, dps, red-diff, sitcom, pnp-hqs or pnp-admm."
        ),
    ] = None,
    prior: PriorName = None,
    config: Config = None,
    seed: Seed = None,
    draws: Annotated[
        int | None,
        typer.Option(
            min=1, help="Draws of a diffusion method: writes their mean, deviation and 90 % interval."
        ),
    ] = None,
    views: Annotated[str | None, typer.Option(help="Views to use, START:STOP:STEP.")] = None,
    views_step: Annotated[int | None, typer.Option(min=1, help="Use every K-th view.")] = None,
    slices: Annotated[str | None, typer.Option(help="Slices to reconstruct, START:STOP.")] = None,
    slab: Annotated[
        int | None,
        typer.Option(min=1, help="Slices in memory at a time; as many as fit where not all of them do."),
    ] = None,
    grid: Annotated[int | None, typer.Option(min=1, help="Pixels of the square slice.")] = None,
    prior_grid: Annotated[
        bool,
        typer.Option(
            "--prior-grid",
            help="Reconstruct on the prior's pixel size where the grid's is another, and resample.",
        ),
    ] = False,
    formats: Formats = None,
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
        jobs.reconstruct(scan, settings, required(out), resume=resume, overwrite=overwrite, as_json=json)
