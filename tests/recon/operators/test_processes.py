"""Two gloo processes give the volume of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from priors.runtime.system import processes

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    out = tmp_path_factory.mktemp("shared") / "figures.json"
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = [*start, "-m", "tests.support.recon.shared_checks", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        run, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, float] = json.loads(out.read_text())
    return found


def test_two_processes_hold_the_same_bits(figures: dict[str, float]) -> None:
    assert figures["processes"] == 2
    assert figures["same bits everywhere"]


def test_shares_of_whole_bundles_and_forward_views_are_one_process_to_the_bit(
    figures: dict[str, float],
) -> None:
    assert figures["whole bundles forward"] == 0
    assert figures["whole bundles adjoint"] == 0
    assert figures["cone forward"] == 0


def test_other_shares_and_sums_over_views_are_one_process_to_rounding(figures: dict[str, float]) -> None:
    # Narrower bundles and partial sums change the order of float32 sums of a few hundred terms.
    for name in ("odd shares forward", "odd shares adjoint", "cone adjoint"):
        assert figures[name] < 1e-6


def test_reconstructions_of_two_processes_are_those_of_one(figures: dict[str, float]) -> None:
    # Twenty iterations carry the rounding along.
    assert figures["fbp"] < 1e-5
    assert figures["tv"] < 1e-5


def test_shares_cover_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 3)
    for items in (0, 1, 2, 3, 7, 12):
        owned = [item for rank in range(3) for item in processes.share(items, rank)]
        assert owned == list(range(items))
