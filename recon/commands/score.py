"""The verb ``score volume``: a reconstruction against a reference."""

from pathlib import Path
from typing import Annotated

import typer

from priors.commands.options import Json


def score_volume(
    result: Annotated[Path, typer.Argument(help="Run folder or volume.")],
    reference: Annotated[Path, typer.Argument(help="Volume, resampled to the result's grid.")],
    json: Json = None,
    window: Annotated[tuple[float, float], typer.Option(help="Window in HU.")] = (-1000.0, 1000.0),
    mask: Annotated[str | None, typer.Option(help="'body' compares inside the body only.")] = None,
) -> None:
    """Compare a reconstructed volume with a reference, in HU."""
    from recon.run.scores import scoring

    scoring.score(result, reference, window_hu=window, mask=mask, as_json=json)
