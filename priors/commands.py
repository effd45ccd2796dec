"""The verbs of ``priors``: train, sample, inspect."""

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
PriorName = Annotated[str, typer.Argument(help="Embedded prior, or a folder with card.yaml.")]


def add_to(app: typer.Typer) -> None:
    """Give the command line its verbs."""
    for verb in (train, sample, inspect):
        app.command()(verb)


def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the training run.")],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Argument(metavar="KEY=VALUE", help="Settings that win over the file."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; the prior is left in it.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings and stop.")
    ] = False,
) -> None:
    """Train a prior on prepared arrays and export it with its card."""
    from priors.runtime.config import load, to_yaml
    from priors.training import TrainConfig
    from priors.training.run import run

    chosen = load(TrainConfig, [config], overrides or [])
    if print_config:
        sys.stdout.write(to_yaml(chosen))
        return
    if out is None:
        raise typer.BadParameter("missing option '--out': the run folder to write")
    command = f"tomocast train {config.name} --out {out.name}"
    run(chosen, out, command=" ".join([command, *(overrides or [])]), resume=resume, overwrite=overwrite)


def sample(
    prior: PriorName,
    out: Annotated[Path, typer.Option("--out", help="NumPy file (.npy) to write, physical units.")],
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 12,
    steps: Annotated[int, typer.Option(min=1, help="Noise levels.")] = 40,
    size: Annotated[int | None, typer.Option(min=16, help="Pixels of a square sample.")] = None,
    seed: Seed = 0,
    page: Annotated[Path | None, typer.Option(help="Also write a PNG page of the samples.")] = None,
    beside: Annotated[Path | None, typer.Option(help="Real slices (.npy) for the page.")] = None,
) -> None:
    """Draw unconditional samples from a prior."""
    from priors.training.run import draw

    draw(prior, out, count=count, steps=steps, size=size, seed=seed, page=page, beside=beside)


def inspect(
    prior: PriorName,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False,
) -> None:
    """Verify a prior and print its card."""
    from priors.card import load_prior
    from priors.runtime.config import to_yaml
    from priors.runtime.record import to_json

    loaded = load_prior(prior)
    if json:
        parameters = sum(weight.numel() for weight in loaded.denoiser.parameters())
        told = {"card": loaded.card.model_dump(mode="json"), "parameters": parameters, "verified": True}
        sys.stdout.write(to_json(told) + "\n")
    else:
        sys.stdout.write(to_yaml(loaded.card))
