"""The verb ``train``: prepared arrays to a prior with its card."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from priors.commands.options import Json, Overrides, Overwrite, Plan, PrintConfig, Resume, required, show


def train(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML file of the training run.")
    ] = None,
    overrides: Overrides = None,
    layers: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--config", "-c", help="More YAML files, laid over the first; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder; the prior is left in OUT/prior.")
    ] = None,
    plan: Plan = False,
    resume: Resume = False,
    extend: Annotated[
        int | None,
        typer.Option("--extend", min=1, metavar="STEPS", help="Add steps to a run and continue it."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = None,
    print_config: PrintConfig = False,
    template: Annotated[
        str | None,
        typer.Option(
            "--template", metavar="KIND", help="Print a configuration of slices or trajectories, and stop."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Prepared folder whose values the template takes.")
    ] = None,
) -> None:
    """Train a prior on prepared arrays and export it with its card."""
    if template is not None:
        _print_template(template, data)
        return
    if config is None:
        raise typer.BadParameter("missing argument 'CONFIG': a YAML file; --template slices prints one")
    from priors.training.configuration.config import load_training
    from priors.training.run import print_plan, run

    files = [config, *(layers or [])]
    settings = load_training(files, overrides or [])
    if print_config:
        show(settings)
    elif plan:
        print_plan(settings, as_json=json)
    else:
        target = required(out)
        named = " -c ".join(file.name for file in files)
        command = " ".join([f"tomocast train {named}", *(overrides or []), f"--out {target.name}"])
        run(
            settings,
            target,
            command=command,
            resume=resume,
            overwrite=overwrite,
            extend=extend,
            as_json=json,
        )


def _print_template(kind: str, data: Path | None) -> None:
    from priors.training.configuration.template import template

    if kind not in ("slices", "trajectories"):
        raise typer.BadParameter(f"template: found '{kind}', expected slices or trajectories")
    print(template("slices" if kind == "slices" else "trajectories", data), end="")
