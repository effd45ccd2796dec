"""The verb ``demo recon``: a phantom, its scan, and every method."""

from pathlib import Path
from typing import Annotated

import typer

from priors.commands.options import Config, Overrides, Overwrite


def demo_recon(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("runs/demo"),
    config: Config = None,
    overwrite: Overwrite = False,
) -> None:
    """Scan a procedural chest and reconstruct it with every method: scores and one report."""
    from recon.run import demo, jobs

    layers = config or [jobs.CONFIGS / "demo.yaml"]
    demo.run(jobs.settings("demo", layers, {}, overrides), out, overwrite=overwrite)
