"""The verb ``sample``: unconditional samples of a prior."""

from pathlib import Path
from typing import Annotated

import typer


def sample(
    prior: Annotated[str, typer.Argument(help="Embedded prior, or a folder with card.yaml.")],
    out: Annotated[
        Path, typer.Option("--out", help="File to write: .npy (physical units) or .png (a page).")
    ],
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 12,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Noise levels (40), or jumps of a few-step prior (4).")
    ] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Pixels of a square sample.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    sampler: Annotated[
        str | None, typer.Option(help="multistep (as a rule), variance-optimised, heun or ddim.")
    ] = None,
    label: Annotated[int | None, typer.Option(min=0, help="Class to draw from.")] = None,
    guidance: Annotated[
        float, typer.Option(min=0, help="Exaggerate the class (classifier-free); 0 draws from it.")
    ] = 0.0,
    beside: Annotated[Path | None, typer.Option(help="Real slices (.npy) to show on the page.")] = None,
) -> None:
    """Draw samples from a prior, of a class where it knows classes."""
    from priors.training.sampling import draw

    draw(
        prior,
        out,
        count=count,
        steps=steps,
        size=size,
        seed=seed,
        beside=beside,
        label=label,
        guidance=guidance,
        sampler=sampler,
    )
