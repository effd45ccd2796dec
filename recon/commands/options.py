"""Options that only verbs of CT share, and the longer ones of ``reconstruct``."""

from pathlib import Path
from typing import Annotated, Optional

import typer

AllowGaps = Annotated[
    bool, typer.Option("--allow-gaps", help="Interpolate slices that are missing between others.")
]
Series = Annotated[
    str | None,
    typer.Option("--series", help="SeriesInstanceUID, or its ending, where a DICOM folder holds several."),
]
ScanFile = Annotated[
    Path,
    typer.Argument(metavar="SCAN", help="Scan: tomocast HDF5, HTC 2022, Data Exchange, or scan.yaml."),
]
Method = Annotated[
    str | None,
    # Written out: deriving it from the union of methods would import torch for --help. A test compares the two.
    typer.Option(
        "--method",
        help="fbp, cgls, sirt, tv, exact (small problems); with a diffusion prior: nerd-fast, nerd-thorough, "
        "nerd-admm, nerd-pdhg, dds, dds-3d, diffusion-mbir, diffpir, dps, red-diff, sitcom, pnp-hqs or pnp-admm.",
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(
        "--draws", min=1, help="Draws of a diffusion method: writes their mean, deviation and 90 % interval."
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="Another prior: reconstruct with it too, and say what the priors decided and not the data.",
    ),
]
Slab = Annotated[
    int | None,
    typer.Option(
        "--slab", min=1, help="Slices in memory at a time; as many as fit where not all of them do."
    ),
]
PriorGrid = Annotated[
    bool,
    typer.Option(
        "--prior-grid",
        help="Reconstruct on the prior's pixel size where the grid's is another, and resample.",
    ),
]
Formats = Annotated[
    Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
    typer.Option("--format", help="Write the volume in this format too, such as dicom; may be repeated."),
]
