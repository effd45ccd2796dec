"""The verb ``average``: the prior of a run with weights averaged over another length."""

from pathlib import Path
from typing import Annotated

import typer


def average(
    run: Annotated[Path, typer.Argument(help="Run folder of train, with average.snapshot_every.")],
    length: Annotated[
        float, typer.Option(help="Deviation of the average's weights in time, as a share of the run.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the prior to write.")],
) -> None:
    """Write the prior of a finished run with weights averaged over another length."""
    from priors.training.averages import write_average

    distance = write_average(run, length, out)
    print(
        f"{out}: averaged over {length:g} of the run, its profile to {100 * distance:.2g} %; not compared with "
        "held-out data"
    )
