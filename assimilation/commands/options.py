"""Options that only verbs of data assimilation share."""

from typing import Annotated

import typer

Members = Annotated[int | None, typer.Option("--members", min=1, help="Members of the ensemble.")]
Strict = Annotated[bool, typer.Option("--strict", help="Make every warning an error.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Noise levels of a frame.")]
