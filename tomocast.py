"""The command line: verbs to functions of the packages, nothing else.

A mistake of the user is one line ``error: ...`` on standard error and exit status 2; an interruption is 130.
Nothing heavy is imported before a verb runs, so ``tomocast --help`` answers at once.
"""

import errno
import sys

import typer

import assimilation.commands
import priors.commands
import recon.commands
from priors.runtime.errors import InputError, Interrupted

app = typer.Typer(
    help="CT reconstruction and data assimilation with pretrained diffusion priors.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
recon.commands.add_to(app)
priors.commands.add_to(app)
assimilation.commands.add_to(app)


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


if __name__ == "__main__":
    main()
