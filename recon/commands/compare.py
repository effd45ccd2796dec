"""The verb ``compare``: several methods on one scan, one table."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from priors.commands.options import Config, Json, OutFolder, Overrides, Overwrite, Resume, required


def compare(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan: any file that reconstruct takes.")],
    overrides: Overrides = None,
    methods: Annotated[
        str,
        typer.Option(help="Methods, configurations of configs/recon, or YAML files, separated by commas."),
    ] = "fbp,tv,dds-3d,pnp-hqs,nerd-fast",
    reference: Annotated[Path | None, typer.Option(help="Volume in HU to score against.")] = None,
    prior: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Option("--prior", help="Embedded prior, or a folder with a card; may be repeated."),
    ] = None,
    out: OutFolder = None,
    config: Config = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Reconstruct one scan by several methods and compare them."""
    from recon.run.scores import comparison

    request = comparison.Request(
        scan=scan,
        methods=[name.strip() for name in methods.split(",") if name.strip()],
        priors=prior or (),
        reference=reference,
        layers=config or (),
        overrides=overrides or (),
    )
    resolved = comparison.resolve(request)
    comparison.compare(request, resolved, required(out), resume=resume, overwrite=overwrite, as_json=json)
