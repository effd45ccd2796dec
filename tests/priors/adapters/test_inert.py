"""Reading checkpoints of strangers: tensors come out as they were, and nothing runs."""

import argparse
import contextlib
import io
from collections import OrderedDict

import numpy as np
import pytest
import torch

from priors.adapters.inert import StandIn, read_pickle, read_tensors
from priors.runtime.errors import InputError
from tests.support.priors.foreign import damaged, malicious


def content() -> dict:
    draw = torch.Generator().manual_seed(0)
    shared = torch.randn(4, 3, generator=draw)
    return {
        "model": OrderedDict(
            a=shared,
            view=shared[1:, ::2],
            half=torch.randn(5, generator=draw).half(),
            whole=torch.arange(6),
            learned=torch.nn.Parameter(torch.randn(2, generator=draw)),
        ),
        "args": argparse.Namespace(heads=4, name="x"),
        "step": np.float64(7.5),
        "array": np.arange(3),
        "size": torch.Size([2, 3]),
        "kind": torch.float16,
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_tensors_come_out_as_they_were(tmp_path, zipped):
    wanted = content()
    torch.save(wanted, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        torch.load(tmp_path / "c.pt", weights_only=True)
    found = read_tensors(tmp_path / "c.pt")
    for key, value in wanted["model"].items():
        assert torch.equal(found["model"][key], value)
        assert found["model"][key].dtype == value.dtype
    assert isinstance(found["args"], StandIn)
    assert found["args"].path == "argparse.Namespace"
    assert found["args"].state == {"heads": 4, "name": "x"}
    assert found["size"] == torch.Size([2, 3])
    assert found["kind"] == torch.float16


def test_a_bare_pickle_with_tensors(tmp_path):
    import pickle

    wanted = {"a": torch.arange(4.0), "b": argparse.Namespace(c=1)}
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(wanted))
    found = read_pickle(tmp_path / "c.pkl")
    assert torch.equal(found["a"], wanted["a"])
    assert found["b"].state == {"c": 1}


def test_fifty_malicious_checkpoints_run_nothing(tmp_path):
    mark = tmp_path / "ran"
    files = malicious({"model": {"a": torch.zeros(3)}}, mark)
    assert len(files) >= 50
    for number, data in enumerate(files):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"asks to call|expected") as caught:
            read_tensors(path)
        assert "\n" not in str(caught.value)
        assert not mark.exists(), number


def test_the_payloads_would_run(tmp_path):
    mark = tmp_path / "ran"
    data = malicious({}, mark)[0]
    torch.load(io.BytesIO(data), weights_only=False)
    assert mark.exists()


def refusal(path) -> str:
    """Return the line of an error; damage in a tensor's values alone is none."""
    try:
        read_tensors(path)
    except InputError as error:
        return str(error)
    return ""


def test_damaged_files_are_one_line_each(tmp_path):
    for zipped in (True, False):
        stream = io.BytesIO()
        torch.save(content(), stream, _use_new_zipfile_serialization=zipped)
        for number, data in enumerate(damaged(stream.getvalue(), 60, seed=int(zipped))):
            path = tmp_path / f"{zipped}{number}.pt"
            path.write_bytes(data)
            line = refusal(path)
            assert "\n" not in line
            assert not line or str(path) in line


def test_a_program_is_no_checkpoint(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "c.pt")
    with pytest.raises(InputError, match="TorchScript program"):
        read_tensors(tmp_path / "c.pt")


def test_changing_torch_through_a_pickle_changes_nothing(tmp_path):
    # A BUILD on a named function sets attributes of it: the function must be ours, not torch's.
    import pickle

    raw = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00}q\x01U\x0c__defaults__q\x02K\x01\x85q\x03s"
        b"N\x86q\x04\x86q\x05."
    )
    attack = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__K\x01\x85s\x86b."
    before = torch._utils._rebuild_tensor_v2.__defaults__
    for data in (raw, attack):
        path = tmp_path / "c.pkl"
        path.write_bytes(data)
        with contextlib.suppress(InputError):
            read_pickle(path)
        assert torch._utils._rebuild_tensor_v2.__defaults__ == before
    pickle.loads(attack)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == (1,)
    torch._utils._rebuild_tensor_v2.__defaults__ = before
