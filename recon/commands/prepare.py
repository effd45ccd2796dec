"""The verb ``prepare slices``: CT volumes to the arrays a slice prior is trained on."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from priors.commands.options import Cluster, Config, Overrides, PrintConfig, required, show


def prepare_slices(
    source: Annotated[Path, typer.Argument(help="Folder of DICOM series or NIfTI volumes, one per patient.")],
    overrides: Overrides = None,
    licence: Annotated[
        str | None,
        typer.Option(help="Terms the volumes may be used under; never assumed, kept with every series."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write.")] = None,
    validation: Annotated[float | None, typer.Option(help="Share of the patients to hold out.")] = None,
    hold_out: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Option(help="Patient to hold out instead (PatientID, folder or file); may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the split.")] = None,
    patients: Annotated[
        str | None, typer.Option(help="What tells patients apart: auto (PatientID), folders or files.")
    ] = None,
    reduce: Annotated[int | None, typer.Option(min=1, help="Means of blocks of this many pixels.")] = None,
    min_slices: Annotated[int | None, typer.Option(min=1, help="Leave out series of fewer slices.")] = None,
    pixel_mm: Annotated[
        Optional[tuple[float, float]],  # noqa: UP045
        typer.Option("--pixel-mm", help="Leave out series with other pixels: smallest and largest, in mm."),
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out damaged series instead of stopping.")
    ] = False,
    phantoms: Annotated[
        int | None, typer.Option(min=0, help="Procedural thorax slices to add to training.")
    ] = None,
    cluster: Cluster = None,
    config: Config = None,
    print_config: PrintConfig = False,
) -> None:
    """Prepare CT slices for training a prior: patients found, split, values and spacings checked."""
    from priors.runtime.config import settings_of
    from priors.runtime.system.cluster import workers
    from recon.prepare.settings import SliceSettings
    from recon.prepare.slices import prepare_slices as write_slices

    options = {
        "licence": licence,
        "validation": validation,
        "hold_out": hold_out or None,
        "seed": seed,
        "patients": patients,
        "reduce": reduce,
        "min_slices": min_slices,
        "pixel_mm": pixel_mm or None,
        "skip_unreadable": skip_unreadable or None,
        "phantoms": phantoms,
    }
    settings = settings_of(SliceSettings, config, options, overrides)
    if print_config:
        show(settings)
        return
    target = required(out, "the folder to write")
    with workers(cluster) as work:
        report = write_slices(source, target, settings, work=work)
    print(f"{target}: {len(report.series)} series\n{report.text()}")
