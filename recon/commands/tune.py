"""The verb ``tune``: settings of a method chosen on scans whose volumes are known."""

from pathlib import Path
from typing import Annotated, Any

import typer

from priors.commands.options import (
    Config,
    Json,
    OutFolder,
    Overrides,
    Overwrite,
    PriorName,
    Resume,
    Seed,
    required,
)


def tune(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Method, as reconstruct takes it.")],
    overrides: Overrides = None,
    scans: Annotated[str, typer.Option(help="Scans, separated by commas.")] = "",
    references: Annotated[
        str, typer.Option(help="The volumes behind them in HU, in the same order, separated by commas.")
    ] = "",
    keys: Annotated[
        str, typer.Option(help="Settings of the method, separated by commas, such as fast.refine.pull.")
    ] = "",
    evaluations: Annotated[
        int, typer.Option(min=2, help="How often every scan is reconstructed at most.")
    ] = 30,
    prior: PriorName = None,
    seed: Seed = None,
    out: OutFolder = None,
    config: Config = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Choose settings of a method on scans whose volumes are known, and write them for ``reconstruct -c``."""
    from recon.run import jobs
    from recon.run.tuning import job

    options: dict[str, Any] = {"method.name": method, "method.prior": prior, "seed": seed}
    request = job.Request(
        scans=[Path(name) for name in _words(scans)],
        references=[Path(name) for name in _words(references)],
        keys=_words(keys),
        evaluations=evaluations,
    )
    settings = jobs.settings("reconstruct", config, options, overrides)
    job.tune(request, settings, required(out), resume=resume, overwrite=overwrite, as_json=json)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
