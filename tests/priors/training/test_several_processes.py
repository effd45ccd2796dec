"""One process, two processes and two micro-batches train the same network, with ddp and with fsdp.

Two gloo processes are started once for all cases. In float64 sums over other shares differ by rounding, some 1e-15 per
operation, which a few steps of AdamW with clipping raise to about 1e-13; in float32 to about 1e-6.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from priors.training.configuration.config import TrainConfig, TrajectoryConfig
from priors.training.loop import train
from tests.support.priors import small_training, small_trajectories
from tests.support.priors.several_processes import cut

ROOT = Path(__file__).parents[3]
STEPS = 6
EXACT, SINGLE = {"compute": "float64"}, {"compute": "float32"}
# AdamW's first steps follow the signs of gradients: at the high rate of the other runs rounding grows tenfold in two.
CALM = {"steps": STEPS, "learning_rate": 3e-4, "warmup": 2, "ema": 0.95}


def slices(data: Path, **changes) -> dict:
    """Return a run of slices whose five samples cannot be halved."""
    tree = small_training.settings(data, steps=STEPS)
    tree["crops"] = [{"size": 16, "batch": 5}]
    tree["optimisation"]["warmup"] = 2
    tree["network"]["channels"] = [8, 8]
    tree |= {"validation_fields": 2, "validation_levels": [0.5]}
    return {**tree, "validate_every": 3, "save_every": 2, "keep": {"every": 4}, **changes}


def trajectories(data: Path, **changes) -> dict:
    """Return a run of trajectories, whose missing values and context differ from sample to sample."""
    tree = small_trajectories.settings(data, steps=STEPS)
    return {**tree, "validate_every": 3, "save_every": 2, "keep": {"every": 4}, **changes}


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_data):
    """Return the folders of all runs, by what was different about them."""
    root = tmp_path_factory.mktemp("runs")
    waves = small_trajectories.write_data(tmp_path_factory.mktemp("waves"))
    fsdp, micro = {"mode": "fsdp"}, {"accumulate": 2}
    blocks = {"compute": "float64", "checkpoint": "blocks"}
    alone = {
        "slices": slices(small_data, precision=EXACT),
        "slices-micro": slices(small_data, precision=EXACT, parallel=micro),
        "slices-blocks": slices(small_data, precision=blocks),
        "slices-32": slices(small_data, optimisation=CALM, precision=SINGLE),
        "waves": trajectories(waves, precision=EXACT),
        "waves-micro": trajectories(waves, precision=EXACT, parallel=micro),
        "waves-blocks": trajectories(waves, precision=blocks),
    }
    shared = {
        "slices-ddp": slices(small_data, precision=EXACT),
        "slices-fsdp": slices(small_data, precision=EXACT, parallel=fsdp),
        "slices-ddp-micro": slices(small_data, precision=EXACT, parallel=micro),
        "slices-32-ddp": slices(small_data, optimisation=CALM, precision=SINGLE),
        "slices-32-fsdp": slices(small_data, optimisation=CALM, precision=SINGLE, parallel=fsdp),
        "waves-ddp": trajectories(waves, precision=EXACT),
        "waves-fsdp": trajectories(waves, precision=blocks, parallel=fsdp),
    }
    for name, tree in alone.items():
        (root / name).mkdir()
        train(model(tree), root / name, resume=False, report=lambda *_: None)
    # Runs cut after four steps go on in the same way, and in others.
    going_on = {
        "slices-ddp-resumed": ("slices-ddp", "slices-ddp"),
        "slices-fsdp-resumed": ("slices-fsdp", "slices-fsdp"),
        "slices-fsdp-to-ddp": ("slices-ddp", "slices-fsdp"),
        "slices-alone-to-fsdp": ("slices-fsdp", "slices"),
    }
    cases = [[tree, str(root / name), None] for name, tree in shared.items()]
    cases += [
        [shared[tree], str(root / name), str(root / source)] for name, (tree, source) in going_on.items()
    ]
    for _, folder, _ in cases:
        Path(folder).mkdir()
    (root / "cases.json").write_text(json.dumps(cases))
    done = torchrun(ROOT / "tests" / "support" / "priors" / "several_processes.py", root / "cases.json")
    assert done.returncode == 0, done.stderr[-3000:]
    cut(root / "slices-ddp", root / "slices-ddp-to-alone")
    train(model(alone["slices"]), root / "slices-ddp-to-alone", resume=True, report=lambda *_: None)
    return root


def model(tree: dict):
    kind = TrajectoryConfig if tree.get("kind") == "trajectories" else TrainConfig
    return kind.model_validate(tree)


def losses(folder: Path) -> list[float]:
    rows = [json.loads(row) for row in (folder / "training.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    return [row["loss"] for row in rows]


def weights(folder: Path) -> torch.Tensor:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["step"] == STEPS
    return torch.cat([value.flatten() for part in ("network", "average") for value in state[part].values()])


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("slices-micro", "slices"),
        ("slices-ddp", "slices"),
        ("slices-fsdp", "slices"),
        ("slices-ddp-micro", "slices"),
        ("waves-micro", "waves"),
        ("waves-ddp", "waves"),
        ("waves-fsdp", "waves"),
        ("slices-fsdp-to-ddp", "slices"),
        ("slices-alone-to-fsdp", "slices"),
        ("slices-ddp-to-alone", "slices"),
    ],
)
def test_who_shares_the_samples_changes_nothing_in_float64(runs, name, reference):
    if "-to-" not in name:
        # A run that was cut after the first row has the mean loss of its own steps in the second.
        assert losses(runs / name) == pytest.approx(losses(runs / reference), rel=1e-12)
    expected = weights(runs / reference)
    assert float((weights(runs / name) - expected).abs().max()) < 1e-10 * float(expected.abs().max())


@pytest.mark.parametrize("name", ["slices-32-ddp", "slices-32-fsdp"])
def test_losses_agree_to_a_hundred_thousandth_in_float32(runs, name):
    assert losses(runs / name) == pytest.approx(losses(runs / "slices-32"), rel=1e-5)


@pytest.mark.parametrize("name", ["slices", "waves"])
def test_blocks_computed_twice_have_the_same_gradients_to_the_bit(runs, name):
    assert torch.equal(weights(runs / f"{name}-blocks"), weights(runs / name))


@pytest.mark.parametrize("name", ["slices-ddp", "slices-fsdp"])
def test_two_processes_resume_to_the_bit(runs, name):
    assert torch.equal(weights(runs / f"{name}-resumed"), weights(runs / name))


def test_checkpoints_have_the_same_names_whoever_wrote_them(runs):
    names = [
        {part: sorted(state[part]) for part in ("network", "average", "optimiser")}
        for state in (
            torch.load(runs / name / "checkpoint.pt", weights_only=True)
            for name in ("slices", "slices-ddp", "slices-fsdp")
        )
    ]
    assert names[0] == names[1] == names[2]


class EnoughError(Exception):
    """The first row of losses is written: the rest of a run is not needed."""


def stop(step: int, total: int, figures: dict) -> None:
    if step == 10:
        raise EnoughError


def test_torchrun_on_the_command_line_trains_and_exports(small_data, tmp_path):
    config, out = tmp_path / "discs.yaml", tmp_path / "out"
    # Enough steps for the self-test of the prior.
    tree = small_training.settings(small_data, steps=small_training.STEPS)
    tree |= {"save_every": 40, "precision": EXACT}
    OmegaConf.save(OmegaConf.create(tree), config)
    done = torchrun("-m", "tomocast", "train", config, "--out", out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("prior discs") == 1
    (tmp_path / "alone").mkdir()
    with pytest.raises(EnoughError):
        train(model(tree), tmp_path / "alone", resume=False, report=stop)
    pairs = [
        [json.loads(row)["loss"] for row in (folder / "training.jsonl").read_text().splitlines()]
        for folder in (out, tmp_path / "alone")
    ]
    # The first row, before rounding has grown over eighty steps at a high rate.
    assert len(pairs[0]) == 8
    assert pairs[0][0] == pytest.approx(pairs[1][0], rel=1e-8)
    assert "2 processes (ddp)" in (out / "log.txt").read_text()
