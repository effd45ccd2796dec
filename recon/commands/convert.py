"""The verb ``convert``: a volume in another file format."""

from pathlib import Path
from typing import Annotated

import typer

from priors.commands.options import required
from recon.commands.options import AllowGaps, Series


def convert(
    volume: Annotated[
        Path, typer.Argument(metavar="VOLUME", help="Volume, or the run folder of a reconstruction.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; a folder for DICOM.")] = None,
    format: Annotated[
        str | None, typer.Option(help="Format, where the ending does not say it: dicom.")
    ] = None,
    series: Series = None,
    reference: Annotated[
        Path | None, typer.Option(help="DICOM series whose study and frame of reference are kept.")
    ] = None,
    allow_gaps: AllowGaps = False,
    keep_patient: Annotated[
        bool, typer.Option("--keep-patient", help="Copy patient and study data from the reference.")
    ] = False,
) -> None:
    """Write a volume in another format: NIfTI, DICOM, MetaImage, NRRD, TIFF, Zarr, HDF5, NumPy."""
    from recon.io.volumes.format import ReadOptions, WriteOptions
    from recon.run.convert import convert as convert_file

    target = required(out, "the file to write")
    write = WriteOptions(reference, keep_patient)
    convert_file(volume, target, read=ReadOptions(series, allow_gaps), write=write, name=format)
