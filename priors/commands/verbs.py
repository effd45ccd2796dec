"""The verbs of ``priors``: train, sample, data; and what ``inspect`` says of a prior."""

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from priors.datasets.commands import data

Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
PriorName = Annotated[str, typer.Argument(help="Embedded prior, or a folder with card.yaml.")]


def add_to(app: typer.Typer) -> None:
    """Give the command line its verbs."""
    for verb in (train, sample):
        app.command()(verb)
    app.add_typer(data, name="data")


def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the training run.")],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads the old spelling on every supported version)
        typer.Argument(metavar="KEY=VALUE", help="Settings that win over every file."),
    ] = None,
    layers: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--config", "-c", help="More YAML files, laid over the first; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder; the prior is left in OUT/prior.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print memory and time needed, and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved settings and stop.")
    ] = False,
) -> None:
    """Train a prior on prepared arrays and export it with its card."""
    from priors.runtime.config import to_yaml
    from priors.training.config import load_training
    from priors.training.run import print_plan, run

    files = [config, *(layers or [])]
    chosen = load_training(files, overrides or [])
    if print_config:
        sys.stdout.write(to_yaml(chosen))
    elif plan:
        print_plan(chosen)
    else:
        if out is None:
            raise typer.BadParameter("missing option '--out': the run folder to write")
        named = " -c ".join(file.name for file in files)
        command = " ".join([f"tomocast train {named}", *(overrides or []), f"--out {out.name}"])
        run(chosen, out, command=command, resume=resume, overwrite=overwrite)


def sample(
    prior: PriorName,
    out: Annotated[
        Path, typer.Option("--out", help="File to write: .npy (physical units) or .png (a page).")
    ],
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 12,
    steps: Annotated[int, typer.Option(min=1, help="Noise levels.")] = 40,
    size: Annotated[int | None, typer.Option(min=16, help="Pixels of a square sample.")] = None,
    seed: Seed = 0,
    beside: Annotated[Path | None, typer.Option(help="Real slices (.npy) to show on the page.")] = None,
) -> None:
    """Draw unconditional samples from a prior."""
    from priors.training.run import draw

    draw(prior, out, count=count, steps=steps, size=size, seed=seed, beside=beside)


def inspect_prior(name: str, *, as_json: bool) -> None:
    """Verify a prior (hash, weights, self-test) and print what it is.

    Raises:
        InputError: it is unknown or fails a check.
    """
    if not as_json:
        sys.stdout.write(describe_prior(name))
        return
    from priors.card import load_prior, self_test_errors
    from priors.runtime.record import to_json

    loaded = load_prior(name)
    told = {
        "card": loaded.card.model_dump(mode="json"),
        "parameters": sum(weight.numel() for weight in loaded.denoiser.parameters()),
        "self_test": self_test_errors(loaded),
        "verified": True,
    }
    sys.stdout.write(to_json(told) + "\n")


def describe_prior(name: str) -> str:
    """Load a prior, which verifies it, and return its card, size, self-test and held-out errors as text.

    Raises:
        InputError: it is unknown or fails a check.
    """
    from priors.card import load_prior, self_test_errors
    from priors.codec import Codec
    from priors.runtime.config import to_yaml

    loaded = load_prior(name)
    card = loaded.card
    parameters = sum(weight.numel() for weight in loaded.denoiser.parameters())
    # One level is one physical size for slices only: variables differ, and under a logarithm places do.
    scale = loaded.codec.scale if isinstance(loaded.codec, Codec) else None
    heading = "in network units" if scale is None else f"in {card.unit}"
    measure = "held-out denoising PSNR" + ("" if scale is None else " on [-1, 1]")
    lines = [
        to_yaml(card.model_copy(update={"held_out_psnr": {}, "self_test": {}})).rstrip(),
        "",
        f"weights: {parameters:,} parameters, sha256 as on the card",
        "",
        f"{'noise level':>12}  {heading:>16}  {measure:>34}",
    ]
    for level, value in card.held_out_psnr.items():
        lines.append(f"{level:>12g}  {level * (scale or 1):>16.4g}  {value:>31.2f} dB")
    lines += ["", f"{'noise level':>12}  {'error of the self-test field':>28}  {'on the card':>12}"]
    for level, error in self_test_errors(loaded).items():
        recorded = card.self_test.get(level)
        told = "none" if recorded is None else f"{recorded:.4g}"
        lines.append(f"{level:>12g}  {error:>28.4g}  {told:>12}")
    return "\n".join(lines) + "\n"
