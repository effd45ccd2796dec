"""The verb ``demo-assimilation``."""

from pathlib import Path
from typing import Annotated, Optional

import typer


def add_to(app: typer.Typer) -> None:
    """Give the command line its verb."""
    app.command("demo-assimilation")(demo_assimilation)


def demo_assimilation(
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Argument(metavar="KEY=VALUE", help="Settings that win over the file."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Run folder to write.")] = Path("runs/demo-assimilation"),
    config: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--config", "-c", help="YAML file of settings; may be repeated, later ones win."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
) -> None:
    """Assimilate a simulated turbulence from a tenth of its points, at three lags."""
    from assimilation.run import demo as demonstration
    from priors.runtime.config import load
    from priors.runtime.shipped import shipped

    default = shipped("configs") / "demo-assimilation.yaml"
    chosen = load(demonstration.DemoSettings, config or [default], overrides or [])
    demonstration.run(chosen, out, overwrite=overwrite)
