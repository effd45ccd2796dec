"""The real command line: in a process of its own, or in ours where each would pay for imports again."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What a command printed."""

    stdout: str
    stderr: str
    status: object = 0


def tomocast(*arguments: object, status: int = 0) -> Done:
    """Run ``tomocast`` in its own process; check its exit status and that the user sees no traceback."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tomocast", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == status, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return Done(done.stdout, done.stderr)


def inside(*arguments: object, status: int | None = 0) -> Done:
    """Run the same entry point in this process; check its exit status, unless that is None."""
    from tomocast.cli import main

    out, err = io.StringIO(), io.StringIO()
    code: object = None
    words = ["tomocast", *map(str, arguments)]
    with patch.object(sys, "argv", words), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
    assert status is None or code == status, err.getvalue()[-2000:]
    return Done(out.getvalue(), err.getvalue(), code)


def mistake(*arguments: object) -> str:
    """Run a command that is the user's mistake: status 2 and one line ``error: ...``; return the line."""
    done = inside(*arguments, status=2)
    lines = done.stderr.splitlines()
    assert [line.startswith("error: ") for line in lines] == [*([False] * (len(lines) - 1)), True]
    return lines[-1]


def torchrun(*arguments: object) -> None:
    """Run the command line in two processes that share the work; a failure fails the test.

    The current folder holds folders called like ours, which ``torchrun -m`` must not import.
    """
    with TemporaryDirectory() as folder:
        for name in ("recon", "priors", "assimilation", "configs"):
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "__init__.py").write_text("raise SystemExit('imported a stranger')")
        _torchrun(arguments, Path(folder))


def _torchrun(arguments: tuple[object, ...], folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*start, "-m", "tomocast", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
