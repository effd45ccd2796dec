"""The verb ``demo assimilation``: simulated turbulence, observed and assimilated at several lags."""

from pathlib import Path
from typing import Annotated

import typer

from priors.commands.options import Config, Overrides, Overwrite


def demo_assimilation(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("runs/demo-assimilation"),
    config: Config = None,
    overwrite: Overwrite = False,
) -> None:
    """Assimilate a simulated turbulence from a tenth of its points, at three lags."""
    from assimilation.run import demo
    from priors.runtime.config import load
    from priors.runtime.shipped import shipped

    default = shipped("configs") / "demo-assimilation.yaml"
    demo.run(load(demo.DemoSettings, config or [default], overrides or []), out, overwrite=overwrite)
