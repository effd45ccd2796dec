"""The verb ``export-prior``: a prior for another library."""

from pathlib import Path
from typing import Annotated

import typer


def export_prior(
    prior: Annotated[str, typer.Argument(help="Embedded prior, or a folder with card.yaml.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    family: Annotated[str, typer.Option(help="Whose layout to write: diffusers.")] = "diffusers",
) -> None:
    """Write a prior of slices in the layout of diffusers."""
    from priors.adapters.export import export_diffusers
    from priors.card import load_prior
    from priors.runtime.errors import InputError

    if family != "diffusers":
        raise InputError(f"--family: found {family!r}, expected diffusers")
    loaded = load_prior(prior)
    export_diffusers(loaded, out)
    print(f"{out}: {loaded.card.name} for diffusers")
