"""The options that verbs share, each defined once: ``--config``, ``--out``, ``--json`` and their kin."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel


def _check_json(target: str | None) -> str | None:
    """Refuse to write JSON over a file that holds something else."""
    if target is None or target == "-":
        return target
    path = Path(target)
    if path.is_dir() or (path.is_file() and path.suffix != ".json"):
        raise typer.BadParameter(f"found '{target}', which exists and is no .json file; expected FILE or -")
    return target


Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="local|ADDRESS", help="Share the work with a Dask cluster."),
]
Config = Annotated[
    Optional[list[Path]],  # noqa: UP045 (typer reads the old spelling on every supported version)
    typer.Option("--config", "-c", help="YAML file of settings; may be repeated, later ones win."),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings that win over every file and option."),
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write JSON to FILE; - prints it.", callback=_check_json),
]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Run folder to write.")]
OutFile = Annotated[Path | None, typer.Option("--out", help="File to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in this folder.")]
Plan = Annotated[bool, typer.Option("--plan", help="Print memory and time needed, and stop.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the resolved settings, and stop.")]
PriorName = Annotated[str | None, typer.Option("--prior", help="Embedded prior, or a folder with a card.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every random draw.")]


def required(out: Path | None, what: str = "the run folder to write") -> Path:
    """Return ``out``; it is needed only where something is written, so typer cannot ask for it.

    Raises:
        typer.BadParameter: it was not given.
    """
    if out is None:
        raise typer.BadParameter(f"missing option '--out': {what}")
    return out


def show(settings: "BaseModel") -> None:
    """Print resolved settings as YAML, for ``--print-config``."""
    from priors.runtime.config import to_yaml

    sys.stdout.write(to_yaml(settings))
