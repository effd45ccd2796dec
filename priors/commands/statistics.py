"""The verb ``prepare statistics``: what a configuration of training takes from prepared trajectories."""

from pathlib import Path
from typing import Annotated, Optional

import typer


def prepare_statistics(
    prepared: Annotated[Path, typer.Argument(help="Folder written by prepare trajectories.")],
    out: Annotated[Path | None, typer.Option("--out", help="YAML file to write; printed without it.")] = None,
    log1p: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Option(metavar="NAME=REFERENCE", help="See a variable through log(1 + r / REFERENCE)."),
    ] = None,
    reach: Annotated[int, typer.Option(min=1, help="Frames that the network will see back and ahead.")] = 5,
) -> None:
    """Measure codec and covariance in time of prepared trajectories, as a file that train takes with -c."""
    from priors.runtime.config import tree_to_yaml
    from priors.runtime.errors import InputError
    from priors.runtime.files.protect import check_output
    from priors.runtime.files.writing import atomic
    from priors.training.trajectories.data import PreparedTrajectories
    from priors.training.trajectories.statistics import settings_of

    references = {}
    for text in log1p or []:
        name, _, number = text.partition("=")
        try:
            references[name] = float(number)
        except ValueError:
            references[name] = 0.0
        if not 0 < references[name] < float("inf"):
            raise InputError(f"--log1p: found {text!r}, expected NAME=REFERENCE with a positive number")
    if out is not None:
        check_output(out, [prepared])
    text = tree_to_yaml(
        settings_of(PreparedTrajectories.load(prepared, "train"), log1p=references, reach=reach)
    )
    if out is None:
        print(text, end="")
        return
    with atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{out}: tomocast train CONFIG -c {out}")
