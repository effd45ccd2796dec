"""The verb ``import-prior``: a checkpoint of other software to a prior folder."""

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from priors.commands.options import Config, required


def import_prior(
    source: Annotated[Path, typer.Argument(help="Checkpoint: a file, or a folder of diffusers or MONAI.")],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[KEY=VALUE]...", help="What the checkpoint does not say, such as heads=4."),
    ] = None,
    layers: Config = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write the prior to.")] = None,
    offset: Annotated[float | None, typer.Option(help="Physical value at network value zero.")] = None,
    scale: Annotated[float | None, typer.Option(help="Physical units per network unit.")] = None,
    unit: Annotated[str | None, typer.Option(help="HU or 1/mm.")] = None,
    family: Annotated[str | None, typer.Option(help="Whose layout it has, where it cannot be told.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the prior.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights.")] = None,
) -> None:
    """Import a checkpoint of another library, measured and tested, as a prior."""
    from priors.adapters.foreign import Told
    from priors.adapters.importing import import_prior as run
    from priors.runtime.config import settings_of

    target = required(out, "the folder to write")
    options = {"offset": offset, "scale": scale, "unit": unit, "name": name, "licence": licence}
    card = run(source, settings_of(Told, layers, options, overrides), out=target, family=family)
    for note in card.source.notes if card.source is not None else ():
        print(f"note: {note}", file=sys.stderr)
    print(f"{target}: prior {card.name}, sha256 {card.sha256[:12]}")
