"""The command line: verbs to functions of the packages, nothing else.

A mistake of the user is one line ``error: ...`` on standard error and exit status 2; an interruption is 130.
Nothing heavy is imported before a verb runs, so ``tomocast --help`` answers at once.
"""

import errno
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from assimilation.commands.assimilate import assimilate
from assimilation.commands.demo import demo_assimilation
from assimilation.commands.forecast import forecast
from assimilation.commands.nowcast import nowcast
from assimilation.commands.observation_errors import observation_errors
from assimilation.commands.observe import observe
from assimilation.commands.prepare import prepare_trajectories
from assimilation.commands.score import score_ensemble
from assimilation.commands.simulate import simulate_system
from priors.commands.audit import audit
from priors.commands.average import average
from priors.commands.data import data
from priors.commands.export_prior import export_prior
from priors.commands.import_prior import import_prior
from priors.commands.sample import sample
from priors.commands.statistics import prepare_statistics
from priors.commands.train import train
from priors.runtime.errors import InputError, Interrupted, show_warnings
from priors.runtime.system import signals
from priors.runtime.system.environment import check_environment
from priors.runtime.system.memory import lack_of_memory
from priors.runtime.terminal import prepare_streams, visible
from recon.commands.compare import compare
from recon.commands.convert import convert
from recon.commands.demo import demo_recon
from recon.commands.phantom import phantom
from recon.commands.prepare import prepare_slices
from recon.commands.reconstruct import reconstruct
from recon.commands.score import score_volume
from recon.commands.simulate import simulate_scan
from recon.commands.tune import tune
from tomocast.commands.calibrate import SeveralViews, calibrate
from tomocast.commands.config import show_config, show_schema
from tomocast.commands.inspect import inspect
from tomocast.commands.permissions import permissive
from tomocast.spelling import current, note

PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "simulate": (
        "Simulate a CT scan of a volume, or a known system's trajectories.",
        {"scan": simulate_scan, "system": simulate_system},
    ),
    "prepare": (
        "Prepare training data: CT slices, or trajectories of fields.",
        {"slices": prepare_slices, "trajectories": prepare_trajectories, "statistics": prepare_statistics},
    ),
    "score": (
        "Score a reconstructed volume, or an ensemble of analyses or forecasts.",
        {"volume": score_volume, "ensemble": score_ensemble},
    ),
    "demo": (
        "Show what tomocast does, on data it makes: CT, or data assimilation.",
        {"recon": demo_recon, "assimilation": demo_assimilation},
    ),
    "config": (
        "Show a job's settings, or their JSON schema.",
        {"show": show_config, "schema": show_schema},
    ),
}
"""Verbs with a second word: what they do in general, and the function of each second word."""


SECONDS = {verb: tuple(functions) for verb, (_, functions) in PAIRS.items()}


class _Spelt(TyperGroup):
    """Understands the spellings of one release ago."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, current(args, SECONDS))


app = typer.Typer(
    cls=_Spelt,
    help="CT reconstruction and data assimilation with pretrained diffusion priors.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _verb in (
    reconstruct,
    compare,
    tune,
    convert,
    assimilate,
    forecast,
    nowcast,
    observe,
    observation_errors,
    train,
    sample,
    inspect,
):
    app.command()(permissive(_verb))
for _other in (phantom, import_prior, export_prior, audit, average):
    app.command()(_other)
app.command(cls=SeveralViews)(calibrate)
for _name, (_help, _seconds) in PAIRS.items():
    _group = typer.Typer(help=_help, no_args_is_help=True, rich_markup_mode=None)
    for _second, _function in _seconds.items():
        _group.command(_second)(_function if _name in ("config", "demo") else permissive(_function))
    app.add_typer(_group, name=_name)
app.add_typer(data, name="data")


def main() -> None:
    """Run the command line and exit with its status."""
    prepare_streams()
    with signals.graceful():
        sys.exit(_run())


def _run() -> int:
    """Run the command line and return its status."""
    spelling = note(sys.argv[1:], SECONDS)
    show_warnings()
    try:
        check_environment()
        status = app(standalone_mode=False)
        if status and signals.received():
            # typer turns an interruption into the status of Ctrl-C, whatever the signal was.
            raise KeyboardInterrupt
    except (Interrupted, KeyboardInterrupt, typer.Abort) as stop:
        print(visible(f"\ninterrupted; {stop}" if str(stop) else "\ninterrupted"), file=sys.stderr)
        return signals.status()
    except Exception as error:
        line = _mistake(error)
        if line is None:
            raise
        # Objects of a damaged file may fail again when they are let go of; the user has seen the error already.
        sys.unraisablehook = lambda _: None
        print(f"error: {visible(line)}", file=sys.stderr)
        return 2
    # After the work, so that a mistake stays one line.
    if spelling:
        print(spelling, file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError as error:
        # A full disk behind `>` shows when what was held back is written.
        print(f"error: standard output: could not be written ({error.strerror or error})", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 2
    return status if isinstance(status, int) else 0


def _mistake(error: Exception) -> str | None:
    """Return the line to print for an error the user can do something about, None for a defect of ours."""
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    # typer carries its own copy of click from 0.20 on: its usage errors are known by what they can do.
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        return f"{error.format_message().strip().rstrip('.')}{hint}"
    if (line := lack_of_memory(error)) is not None:
        return line
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EACCES,
        errno.EROFS,
        errno.EFBIG,
    ):
        return f"{error.filename or 'output'}: {error.strerror}"
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a name of a file holds the character NUL, which no file's name does"
    if type(error).__module__.startswith("pydantic_core"):
        return " ".join(str(error).split())
    return None
