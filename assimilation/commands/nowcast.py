"""The verb ``nowcast``: a forecast from the newest frame of a folder, or for every frame that arrives in it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from assimilation.commands.options import Members
from priors.commands.options import Config, Overrides, PrintConfig, PriorName, Seed, required, show


def nowcast(
    folder: Annotated[
        Path, typer.Argument(help="Folder into which frames are written, radar composites say.")
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the forecasts' run folders.")] = None,
    prior: PriorName = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of each forecast.")] = None,
    members: Members = None,
    seed: Seed = None,
    step: Annotated[float | None, typer.Option(help="Keep a frame every so many seconds.")] = None,
    spacing: Annotated[
        float | None, typer.Option(help="Average to this grid spacing first, in its unit.")
    ] = None,
    crop: Annotated[
        str | None, typer.Option(help="Part of the grid, Y0:Y1,X0:X1 in cells, after --spacing.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on: a forecast for every frame that arrives.")
    ] = False,
    poll: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at the folder.")] = 5.0,
    idle: Annotated[
        float | None, typer.Option(min=0, help="End after so many seconds without a new frame.")
    ] = None,
    backlog: Annotated[
        int, typer.Option(min=1, help="Newest frames there at the first start that get a forecast.")
    ] = 1,
    config: Config = None,
    print_config: PrintConfig = False,
) -> None:
    """Forecast from the newest frame of a folder, or with --watch for every frame that arrives, as forecast does."""
    from assimilation.run.settings import ForecastSettings
    from priors.runtime.config import settings_of
    from priors.runtime.errors import Interrupted

    options: dict[str, Any] = {"prior": prior, "frames": frames, "members": members, "seed": seed}
    options |= {"step_s": step, "spacing": spacing, "crop": crop}
    chosen = settings_of(ForecastSettings, config, options, overrides)
    if print_config:
        show(chosen)
        return
    from assimilation.run.watch.loop import Watch, WatchOptions

    target = required(out, "the folder for the forecasts")
    loop = Watch(folder, target, chosen, WatchOptions(watch, poll, idle, backlog))
    try:
        done = loop.run()
    except KeyboardInterrupt:
        raise Interrupted(f"the same command goes on with what arrived meanwhile ({target})") from None
    print(f"{target}: {done} forecast{'s' if done != 1 else ''}")
