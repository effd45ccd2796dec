"""The state of a run in a file."""

import time

import pytest
import torch

from assimilation.inference.assimilator import RunState
from assimilation.run.checkpoint import Checkpoint, load_state
from priors.runtime.errors import InputError


def test_the_time_of_earlier_processes_is_kept(tmp_path):
    path = tmp_path / "state.pt"
    first = Checkpoint(path)
    first.keep(RunState(0, 3, 2, ()))
    time.sleep(0.02)
    first.save()
    state = load_state(path)
    assert (state["row"], state["chunk"]) == (3, 2)
    assert state["seconds"] >= 0.02
    second = Checkpoint(path, state["seconds"], state["cpu_seconds"])
    assert second.spent()[0] >= state["seconds"]
    second.keep(RunState(0, 4, 2, ()))
    assert load_state(path)["seconds"] >= state["seconds"]


def test_states_are_written_now_and_then_and_on_demand(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state.pt")
    for row in range(50):
        checkpoint.keep(RunState(0, row, 2, ()))
    # Fifty states within two seconds: the first was written, the last is in memory.
    assert load_state(checkpoint.path)["row"] == 0
    checkpoint.save()
    assert load_state(checkpoint.path)["row"] == 49


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "state.pt"
    assert load_state(path) is None
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="checkpoint"):
        load_state(path)
    torch.save({"row": 1}, path)
    with pytest.raises(InputError, match="checkpoint"):
        load_state(path)
