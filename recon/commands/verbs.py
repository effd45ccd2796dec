"""The verbs of ``recon``: reconstruct, simulate, convert, phantom, score, demo, config.

Settings come from ``-c`` files, then from options, then from ``key=value`` arguments; later ones win.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

Config = Annotated[
    Optional[list[Path]],  # noqa: UP045 (typer reads the old spelling on every supported version)
    typer.Option("--config", "-c", help="YAML file of settings; may be repeated, later ones win."),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Argument(metavar="KEY=VALUE", help="Settings that win over every file and option."),
]
Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the resolved settings and stop.")]
Series = Annotated[
    str | None, typer.Option(help="SeriesInstanceUID, or its ending, where a DICOM folder holds several.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in this folder.")]


def add_to(app: typer.Typer) -> None:
    """Give the command line its verbs."""
    for verb in (reconstruct, simulate, convert, phantom, score, demo):
        app.command()(verb)
    app.command("config")(config)
    app.command("prepare-ct")(prepare_ct)


def reconstruct(
    geometry: Annotated[
        Path, typer.Argument(help="Scan: tomocast HDF5, HTC 2022, Data Exchange, or scan.yaml.")
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder to write.")] = None,
    method: Annotated[
        str | None, typer.Option(help="fbp, cgls, sirt, tv, nerd-fast, nerd-admm or nerd-pdhg.")
    ] = None,
    prior: Annotated[str | None, typer.Option(help="Embedded prior, or a folder with a card.")] = None,
    config: Config = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.")] = None,
    views: Annotated[str | None, typer.Option(help="Views to use, START:STOP:STEP.")] = None,
    views_step: Annotated[int | None, typer.Option(min=1, help="Use every K-th view.")] = None,
    slices: Annotated[str | None, typer.Option(help="Slices to reconstruct, START:STOP.")] = None,
    grid: Annotated[int | None, typer.Option(min=1, help="Pixels of the square slice.")] = None,
    formats: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--format", help="Write the volume in this format too, such as dicom; may be repeated."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print memory and time needed, and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Overwrite = False,
    print_config: PrintConfig = False,
    json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Reconstruct a volume from a scan into a run folder."""
    from recon.run import jobs

    if views_step is not None and views is not None:
        raise typer.BadParameter("give --views or --views-step, not both")
    options: dict[str, Any] = {
        "method.name": method,
        "method.prior": prior,
        "seed": seed,
        "views": f"::{views_step}" if views_step else views,
        "slices": slices,
        "grid": grid,
        "formats": formats or None,
    }
    settings = jobs.settings("reconstruct", config, options, overrides)
    if print_config:
        jobs.print_settings(settings)
    elif plan:
        from recon.run.planning import print_plan

        print_plan(geometry, settings, as_json=json)
    else:
        if out is None:
            raise typer.BadParameter("missing option '--out': the run folder to write")
        jobs.reconstruct(geometry, settings, out, resume=resume, overwrite=overwrite, as_json=json)


def simulate(
    volume: Annotated[Path, typer.Argument(help="Volume: DICOM folder or zip, NIfTI, MetaImage, NumPy.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="Scan file to write (.h5).")] = None,
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
        jobs.print_settings(settings)
        return
    if out is None:
        raise typer.BadParameter("missing option '--out': the scan file to write")
    simulation.simulate(volume, settings, out, series=series)


def convert(
    grid: Annotated[Path, typer.Argument(help="Volume, or the run folder of a reconstruction.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; a folder for DICOM.")] = None,
    format: Annotated[
        str | None, typer.Option(help="Format, where the ending does not say it: dicom.")
    ] = None,
    series: Series = None,
    reference: Annotated[
        Path | None, typer.Option(help="DICOM series whose study and frame of reference are kept.")
    ] = None,
    keep_patient: Annotated[
        bool, typer.Option("--keep-patient", help="Copy patient and study data from the reference.")
    ] = False,
) -> None:
    """Write a volume in another format: NIfTI, DICOM, MetaImage, NRRD, TIFF, Zarr, HDF5, NumPy."""
    from recon.io.volumes.format import ReadOptions, WriteOptions
    from recon.run.convert import convert as convert_file

    if out is None:
        raise typer.BadParameter("missing option '--out': the file to write")
    write = WriteOptions(reference, keep_patient)
    convert_file(grid, out, read=ReadOptions(series), write=write, name=format)


def phantom(
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="NIfTI file to write.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Which patient.")] = None,
    slices: Annotated[int | None, typer.Option(min=1, help="Number of slices.")] = None,
    grid: Annotated[int | None, typer.Option(min=16, help="Pixels of a square slice.")] = None,
    config: Config = None,
    print_config: PrintConfig = False,
) -> None:
    """Write a procedural thorax in HU."""
    from recon.run import jobs, simulation

    options = {"seed": seed, "slices": slices, "grid": grid}
    settings = jobs.settings("phantom", config, options, overrides)
    if print_config:
        jobs.print_settings(settings)
        return
    if out is None:
        raise typer.BadParameter("missing option '--out': the NIfTI file to write")
    simulation.phantom(settings, out)


def score(
    result: Annotated[Path, typer.Argument(help="Run folder or volume.")],
    reference: Annotated[Path, typer.Argument(help="Volume, resampled to the result's grid.")],
    json: Annotated[str | None, typer.Option(help="Write JSON to this file; - prints it.")] = None,
    window: Annotated[tuple[float, float], typer.Option(help="Window in HU.")] = (-1000.0, 1000.0),
    mask: Annotated[str | None, typer.Option(help="'body' compares inside the body only.")] = None,
) -> None:
    """Compare a result with a reference, in HU."""
    from recon.run import compare

    compare.score(result, reference, window_hu=window, mask=mask, as_json=json)


def demo(
    overrides: Overrides = None,
    out: Out = Path("runs/demo"),
    config: Config = None,
    overwrite: Overwrite = False,
) -> None:
    """Scan a procedural chest and reconstruct it with every method: scores and one report."""
    from recon.run import demo as demonstration
    from recon.run import jobs

    layers = config or [jobs.CONFIGS / "demo.yaml"]
    demonstration.run(jobs.settings("demo", layers, {}, overrides), out, overwrite=overwrite)


def config(
    action: Annotated[str, typer.Argument(help="'show' prints settings, 'schema' their JSON schema.")],
    overrides: Overrides = None,
    job: Annotated[str, typer.Option(help="reconstruct, simulate, phantom or demo.")] = "reconstruct",
    config: Config = None,
) -> None:
    """Show resolved settings or their schema."""
    from priors.runtime.record import to_json
    from recon.run import jobs
    from recon.run.settings import schema

    if action == "show":
        jobs.print_settings(jobs.settings(job, config, {}, overrides))
    elif action == "schema":
        sys.stdout.write(to_json(schema(job)) + "\n")
    else:
        raise typer.BadParameter(f"found '{action}', expected 'show' or 'schema'")


def prepare_ct(
    source: Annotated[Path, typer.Argument(help="Folder of DICOM series or NIfTI volumes, one per patient.")],
    licence: Annotated[
        str, typer.Option(help="Terms the volumes may be used under; never assumed, kept with every series.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write.")] = None,
    validation: Annotated[float, typer.Option(help="Share of the patients to hold out.")] = 0.2,
    hold_out: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Option(
            "--hold-out", help="Patient to hold out instead (PatientID, folder or file); repeatable."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    patients: Annotated[
        str, typer.Option(help="What tells patients apart: auto (PatientID), folders or files.")
    ] = "auto",
    reduce: Annotated[int, typer.Option(min=1, help="Means of blocks of this many pixels.")] = 1,
    min_slices: Annotated[int, typer.Option(min=1, help="Leave out series of fewer slices.")] = 8,
    pixel_mm: Annotated[
        Optional[tuple[float, float]],  # noqa: UP045
        typer.Option("--pixel-mm", help="Leave out series with other pixels: smallest and largest, in mm."),
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out damaged series instead of stopping.")
    ] = False,
    phantoms: Annotated[int, typer.Option(min=0, help="Procedural thorax slices to add to training.")] = 0,
) -> None:
    """Prepare CT slices for training a prior: patients found, split, values and spacings checked."""
    from priors.runtime.config import validate
    from recon.prepare.settings import SliceSettings
    from recon.prepare.slices import prepare_slices

    if out is None:
        raise typer.BadParameter("missing option '--out': the folder to write")
    given = {
        "licence": licence,
        "validation": validation,
        "hold_out": tuple(hold_out or ()),
        "seed": seed,
        "patients": patients,
        "reduce": reduce,
        "min_slices": min_slices,
        "pixel_mm": pixel_mm or None,
        "skip_unreadable": skip_unreadable,
        "phantoms": phantoms,
    }
    report = prepare_slices(source, out, validate(SliceSettings, given, source="prepare slices"))
    print(f"{out}: {len(report.series)} series\n{report.text()}")
