"""The verb ``prepare trajectories``: files of fields to the trajectories a prior is trained on."""

from pathlib import Path
from typing import Annotated

import typer

from priors.commands.options import Cluster, Overrides, PrintConfig, required, show


def prepare_trajectories(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file: events, step, spacing and variables.")
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(envvar="TOMOCAST_DATA", help="Folder the events' paths are relative to."),
    ] = None,
    cluster: Cluster = None,
    print_config: PrintConfig = False,
) -> None:
    """Prepare trajectories for training a prior: one step, one spacing, training and validation split."""
    from assimilation.prepare.settings import PrepareSettings
    from assimilation.prepare.trajectories import prepare
    from priors.runtime.config import load
    from priors.runtime.system.cluster import workers

    settings = load(PrepareSettings, [config], overrides or [])
    if print_config:
        show(settings)
        return
    target = required(out, "the folder to write")
    with workers(cluster) as work:
        events = prepare(settings, target, data=data, work=work)
    print(f"{target}: {len(events)} events")
