"""The verb ``simulate scan``: a volume to the scan a scanner would have made of it."""

from pathlib import Path
from typing import Annotated

import typer

from priors.commands.options import Config, OutFile, Overrides, PrintConfig, required, show
from recon.commands.options import Series


def simulate_scan(
    volume: Annotated[Path, typer.Argument(help="Volume: DICOM folder or zip, NIfTI, MetaImage, NumPy.")],
    overrides: Overrides = None,
    out: OutFile = None,
    orbit: Annotated[Path | None, typer.Option(help="YAML file of the orbit; parallel by default.")] = None,
    views: Annotated[int | None, typer.Option(min=1, help="Number of views.")] = None,
    i0: Annotated[float | None, typer.Option("--i0", help="Photons per ray without an object.")] = None,
    electronic_noise: Annotated[
        float | None, typer.Option(min=0, help="Standard deviation, photons.")
    ] = None,
    background: Annotated[float | None, typer.Option(min=0, help="Photons past the object.")] = None,
    grid: Annotated[int | None, typer.Option(min=1, help="Pixels of the reconstruction's slice.")] = None,
    slices: Annotated[str | None, typer.Option(help="Slices of the volume, START:STOP.")] = None,
    series: Series = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the noise.")] = None,
    config: Config = None,
    print_config: PrintConfig = False,
) -> None:
    """Simulate a low-dose scan of a volume on a finer grid than the reconstruction's."""
    from priors.runtime.config import read_yaml
    from recon.run import jobs, simulation

    options = {
        "i0": i0,
        "electronic_sd": electronic_noise,
        "background": background,
        "grid": grid,
        "slices": slices,
        "seed": seed,
        "orbit": None if orbit is None else read_yaml(orbit),
        "orbit.views": views,
    }
    settings = jobs.settings("simulate", config, options, overrides)
    if print_config:
        show(settings)
        return
    simulation.simulate(volume, settings, required(out, "the scan file to write"), series=series)
