"""The verbs ``tomocast data``: list, show, get and check."""

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from priors.commands.options import Json

Name = Annotated[
    str, typer.Argument(help="Data set (see 'tomocast data list'), or a manifest of your own (.yaml).")
]
data = typer.Typer(
    help="Public data sets: list, show, get, check.", no_args_is_help=True, rich_markup_mode=None
)


@data.command("list")
def list_data(
    json: Json = None,
) -> None:
    """List the data sets that have a manifest."""
    from priors.datasets.manifest import manifest, names
    from priors.runtime.output import emit_json

    held = [manifest(name) for name in names()]
    if emit_json([each.model_dump(exclude={"files"}) for each in held], json):
        return
    width = max(len(entry.name) for entry in held)
    print("\n".join(f"{entry.name:<{width}}  {entry.access:<12}  {entry.title}" for entry in held))


@data.command()
def show(
    name: Name,
    json: Json = None,
) -> None:
    """Tell source, licence, axes, units, splits, files and preparation of a data set."""
    from priors.datasets.manifest import manifest
    from priors.runtime.config import to_yaml
    from priors.runtime.output import emit_json

    entry = manifest(name)
    if emit_json(entry.model_dump(exclude_none=True), json):
        return
    sys.stdout.write(to_yaml(entry.model_copy(update={"files": []})).replace("files: []\n", ""))
    for file in entry.files:
        print(f"file: {file.path}  {file.checksum or 'no published checksum'}  {file.url or ''}".rstrip())


@data.command()
def get(
    name: Name,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    file: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Option(help="Only files whose path matches, such as 'ground_truth_*'; may be repeated."),
    ] = None,
) -> None:
    """Download a data set; an interrupted download continues when the command is run again."""
    from priors.datasets.jobs import get_files

    get_files(name, out, file or [])


@data.command()
def check(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="Folder with the files.")],
) -> None:
    """Compare files with the sizes and checksums of a manifest."""
    from priors.datasets.jobs import check_files

    check_files(name, folder)
