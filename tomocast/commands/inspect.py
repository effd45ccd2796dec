"""The verb ``inspect``: what a file, a folder, a prior or this machine is."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from priors.commands.options import Json
from priors.runtime.errors import InputError
from priors.runtime.files.protect import check_output

if TYPE_CHECKING:
    from priors.runtime.inspection import Inspection


def inspect(
    thing: Annotated[
        str,
        typer.Argument(
            help="A prior, a run folder, a file or folder (volume, scan, fields, observations), or 'backends'."
        ),
    ],
    json: Json = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Draw the scanner of a scan to this file.")
    ] = None,
) -> None:
    """Tell what something is, and what looks wrong with it."""
    path = Path(thing)
    if thing == "backends" and not path.exists():
        from recon.inspect.backends import describe_backends

        _print(describe_backends(), json)
        return
    # An event of an archive, FILE/EVENT, is a name inside a file.
    inside = path.parent.is_file()
    if not (path.exists() or inside) or (path.is_dir() and (path / "card.yaml").is_file()):
        from priors.commands.inspect import inspect_prior

        inspect_prior(thing, as_json=json)
        return
    _inspect_file(path, json, inside=inside, png=png)


def _inspect_file(path: Path, json: str | None, *, inside: bool, png: Path | None) -> None:
    import assimilation.inspect.files
    import recon.inspect.files

    check_output(png, [path])
    from priors.runtime.run_folder.inspection import inspect_run, is_run

    if is_run(path):
        _print(_with_result(inspect_run(path), path), json)
        return
    if not inside and _is_checkpoint(path):
        from priors.commands.inspect_checkpoint import inspect_checkpoint

        _print(inspect_checkpoint(path), json)
        return
    if png is not None:
        recon.inspect.files.draw(path, png)
    families = (assimilation.inspect.files,) if inside else (recon.inspect.files, assimilation.inspect.files)
    for family in families:
        if family.claims(path):
            _print(family.inspect_file(path), json)
            return
    raise InputError(
        f"{path}: unknown kind, expected a prior, a checkpoint, a run folder, a CT volume or scan, or fields"
    )


def _with_result(run: "Inspection", path: Path) -> "Inspection":
    """Return the description of a run with that of the analyses in it, where there are some."""
    import assimilation.inspect.files

    result = next((path / name for name in ("analysis.nc", "analysis.zarr") if (path / name).exists()), None)
    if result is None:
        return run
    held = assimilation.inspect.files.inspect_file(result)
    facts = {**run.facts, **{key: text for key, text in held.facts.items() if key not in run.facts}}
    return replace(run, facts=facts, warnings=(*run.warnings, *held.warnings))


def _is_checkpoint(path: Path) -> bool:
    """Tell whether a path may be a prior of other software: by its ending, or by what the folder holds."""
    endings = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".pkl", ".msgpack", ".flax")
    inside = (
        "model_index.json", "unet/config.json", "unet_ema/config.json", "configs", "config.json",
        "_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt",
    )  # fmt: skip
    if path.is_dir() and not any((path / name).exists() for name in inside):
        return False
    if not path.is_dir() and path.suffix not in endings:
        return False
    from priors.adapters.registry import claims

    return claims(path)


def _print(description: "Inspection", json: str | None) -> None:
    from priors.runtime.output import emit_json

    if not emit_json(description.record(), json):
        sys.stdout.write(description.text())
