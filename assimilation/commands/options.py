"""Options that only verbs of data assimilation share."""

from typing import Annotated

import typer

Members = Annotated[int | None, typer.Option("--members", min=1, help="Members of the ensemble.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Noise levels of a frame.")]
