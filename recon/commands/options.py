"""Options that only verbs of CT share."""

from typing import Annotated

import typer

Series = Annotated[
    str | None,
    typer.Option("--series", help="SeriesInstanceUID, or its ending, where a DICOM folder holds several."),
]
