"""The verb ``observe``: observations of known fields, with noise, from a seed."""

from pathlib import Path
from typing import Annotated, Any

import typer

from priors.commands.options import Config, Overrides, PrintConfig, required, show


def observe(
    fields: Annotated[Path, typer.Argument(help="NetCDF, Zarr, GRIB, or a folder of radar composites.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="To write: .nc, .zarr, .csv or .parquet.")] = None,
    operator: Annotated[
        str | None, typer.Option(help="points, identity, coarse, swath, channels or wind-speed.")
    ] = None,
    fraction: Annotated[float | None, typer.Option(help="Share of the cells seen in a frame.")] = None,
    factor: Annotated[int | None, typer.Option(help="Cells per block and axis, for coarse.")] = None,
    channels: Annotated[str | None, typer.Option(help="Observed variables, NAME,NAME, for channels.")] = None,
    fixed: Annotated[bool, typer.Option("--fixed", help="The same cells in all frames.")] = False,
    sigma: Annotated[
        str | None, typer.Option(help="Error: 0.1 of the standard deviation, or with a unit, 0.5K.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of places and noise.")] = None,
    variable: Annotated[str | None, typer.Option(help="Read this variable only.")] = None,
    spacing: Annotated[
        float | None, typer.Option(help="Average the fields to this grid spacing first, in their unit.")
    ] = None,
    step: Annotated[float | None, typer.Option(help="Keep a frame every so many seconds.")] = None,
    lead: Annotated[
        float | None, typer.Option(help="Of several starts by several leads, observe this lead, in hours.")
    ] = None,
    frames: Annotated[str | None, typer.Option(help="Frames to observe, START:STOP, after --step.")] = None,
    crop: Annotated[
        str | None, typer.Option(help="Part of the grid, Y0:Y1,X0:X1 in cells, after --spacing.")
    ] = None,
    config: Config = None,
    truth: Annotated[
        Path | None, typer.Option(help="Also write the fields that were observed: .nc or .zarr.")
    ] = None,
    print_config: PrintConfig = False,
) -> None:
    """Observe known fields as an instrument would: places, noise and error drawn from a seed."""
    from assimilation.run import observe as job
    from priors.runtime.config import load

    chosen: dict[str, Any] = {
        "name": operator,
        "fraction": fraction,
        "factor": factor,
        "fixed": fixed or None,
    }
    chosen["variables"] = channels.split(",") if channels else None
    given: dict[str, Any] = {"operator": chosen, "sigma": sigma, "seed": seed, "variable": variable}
    given |= {"spacing": spacing, "step_s": step, "lead_hours": lead, "frames": frames, "crop": crop}
    settings = load(job.ObserveSettings, [*(config or []), job.without_none(given)], overrides or [])
    if print_config:
        show(settings)
        return
    job.observe_file(fields, settings, required(out, "the file to write"), truth=truth)
