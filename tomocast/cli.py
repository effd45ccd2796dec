"""The command line: verbs to functions of the packages, nothing else.

A mistake of the user is one line ``error: ...`` on standard error and exit status 2; an interruption is 130.
Nothing heavy is imported before a verb runs, so ``tomocast --help`` answers at once.
"""

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer

import assimilation.commands
import priors.commands.verbs
import recon.commands.verbs
from priors.runtime.errors import InputError, Interrupted
from priors.runtime.inspection import Inspection

app = typer.Typer(
    help="CT reconstruction and data assimilation with pretrained diffusion priors.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
recon.commands.verbs.add_to(app)
priors.commands.verbs.add_to(app)
assimilation.commands.add_to(app)


@app.command()
def inspect(
    thing: Annotated[
        str,
        typer.Argument(help="A prior, a file or folder (volume, scan, fields, observations), or 'backends'."),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    png: Annotated[
        Path | None, typer.Option("--png", help="Draw the scanner of a scan to this file.")
    ] = None,
) -> None:
    """Tell what something is, and what looks wrong with it."""
    path = Path(thing)
    if thing == "backends" and not path.exists():
        from recon.inspect.backends import describe_backends

        _tell(describe_backends(), as_json=json)
        return
    # An event of an archive, FILE/EVENT, is a name inside a file.
    inside = path.parent.is_file()
    if not (path.exists() or inside) or (path.is_dir() and (path / "card.yaml").is_file()):
        priors.commands.verbs.inspect_prior(thing, as_json=json)
        return
    import assimilation.inspect.files
    import recon.inspect.files

    if png is not None:
        recon.inspect.files.draw(path, png)
    for family in (
        (assimilation.inspect.files,) if inside else (recon.inspect.files, assimilation.inspect.files)
    ):
        if family.claims(path):
            _tell(family.inspect_file(path), as_json=json)
            return
    raise InputError(f"{path}: unknown kind, expected a prior, a CT volume or scan, fields or observations")


def _tell(found: Inspection, *, as_json: bool) -> None:
    from priors.runtime.record import to_json

    sys.stdout.write(to_json(found.record()) + "\n" if as_json else found.text())


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        status = app(standalone_mode=False)
    except (Interrupted, KeyboardInterrupt, typer.Abort) as stop:
        print(f"\ninterrupted; {stop}" if str(stop) else "\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        line = _mistake(error)
        if line is None:
            raise
        # Objects of a damaged file may fail again when they are let go of; the user has been told already.
        sys.unraisablehook = lambda _: None
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _mistake(error: Exception) -> str | None:
    """Return the line to print for an error the user can do something about, None for a defect of ours."""
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    # typer carries its own copy of click from 0.20 on: its usage errors are known by what they can do.
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        return f"{error.format_message().strip().rstrip('.')}{hint}"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "memory: not enough is free; use a smaller grid, fewer slices or smaller chunks"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return f"{error.filename or 'output'}: {error.strerror}"
    if type(error).__module__.startswith("pydantic_core"):
        return " ".join(str(error).split())
    return None
