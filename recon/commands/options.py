"""Options that only verbs of CT share."""

from typing import Annotated

import typer

AllowGaps = Annotated[
    bool, typer.Option("--allow-gaps", help="Interpolate slices that are missing between others.")
]
Series = Annotated[
    str | None,
    typer.Option("--series", help="SeriesInstanceUID, or its ending, where a DICOM folder holds several."),
]
