"""The verb ``prepare``: files of fields to the trajectories a prior is trained on."""

from pathlib import Path
from typing import Annotated, Optional

import typer


def add_to(app: typer.Typer) -> None:
    """Give the command line its verb."""
    app.command()(prepare)


def prepare(
    config: Annotated[Path, typer.Argument(help="YAML file: events, step, spacing and variables.")],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Argument(metavar="KEY=VALUE", help="Settings that win over the file."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(envvar="TOMOCAST_DATA", help="Folder the events' paths are relative to."),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings, and stop.")
    ] = False,
) -> None:
    """Prepare trajectories for training a prior: one step, one spacing, training and validation split."""
    from assimilation.prepare.trajectories import PrepareSettings
    from assimilation.prepare.trajectories import prepare as write_prepared
    from priors.runtime.config import load, to_yaml

    settings = load(PrepareSettings, [config], overrides or [])
    if print_config:
        print(to_yaml(settings), end="")
        return
    if out is None:
        raise typer.BadParameter("missing option '--out': the folder to write")
    events = write_prepared(settings, out, data=data)
    print(f"{out}: {len(events)} events")
