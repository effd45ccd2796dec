"""The process that visits an HDF5 file first: what loops is ended, what waits is not, nothing else is opened."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from priors.runtime.errors import InputError
from priors.runtime.files import hdf5_probe, hdf5_visit
from priors.runtime.files.permissions import permitted, used
from priors.runtime.files.reads import reading

VISIT = Path(hdf5_visit.__file__)
REQUEST = {"path": "none", "seconds": 0.3, "room": 2**30, "whole": 2**26}


@pytest.mark.parametrize(
    ("visit", "status"),
    [
        ("all(itertools.repeat(True))", 1),
        ("time.sleep(0.6) is None", 0),
        ("next(iter(()))", 0),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 1),
        ("True", 0),
        ("False", 2),
    ],
    ids=["loops", "waits", "fails", "crashes", "reads", "starves"],
)
def test_a_loop_and_hunger_are_damage(visit: str, status: int) -> None:
    # In a process of its own, as the product does it: a fork of this one, with its threads, may hang.
    code = (
        f"import itertools, os, signal, sys, time; sys.path.insert(0, {str(VISIT.parent)!r})\n"
        f"import hdf5_visit\nhdf5_visit._visit = lambda path, whole: {visit}\n"
        f"print(hdf5_visit._judge({REQUEST!r})['status'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(status)


def test_what_needs_more_memory_than_there_is_room_for_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.create_dataset("values", data=np.zeros((64, 512, 512), np.float32), chunks=(64, 512, 512))
    assert hdf5_probe.is_sound(tmp_path / "file.h5")
    hdf5_probe._verdict.cache_clear()
    # Less than the chunk of 64 MB.
    monkeypatch.setattr(hdf5_probe, "ROOM", 2**25)
    assert not hdf5_probe.is_sound(tmp_path / "file.h5")


def external_link(path: Path, other: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a/values"] = h5py.ExternalLink(str(other), "values")


def raw_storage(path: Path, other: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("values", (4,), "uint8", external=[(str(other), 0, 4)])


def virtual(path: Path, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "uint8")
    layout[:] = h5py.VirtualSource(str(other), "values", (4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("values", layout)


@pytest.mark.parametrize("write", [external_link, raw_storage, virtual])
def test_a_file_that_refers_to_another_is_refused_unless_allowed_and_then_named(tmp_path, write, capsys):
    other, path = tmp_path / "other.h5", tmp_path / "file.h5"
    with h5py.File(other, "w") as file:
        file["values"] = np.arange(4, dtype=np.uint8)
    write(path, other)
    with pytest.raises(InputError, match=r"other\.h5.*--follow-links"):
        hdf5_probe.check_hdf5(path)
    with permitted(links=True), reading() as others:
        hdf5_probe.check_hdf5(path)
        assert "other.h5" in used()[0]
    assert others == [other]
    assert "warning" in capsys.readouterr().err


def test_a_virtual_data_set_of_its_own_file_stays_within(tmp_path):
    layout = h5py.VirtualLayout((4,), "uint8")
    layout[:] = h5py.VirtualSource(".", "values", (4,))
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["values"] = np.arange(4, dtype=np.uint8)
        file.create_virtual_dataset("again", layout)
    hdf5_probe.check_hdf5(tmp_path / "file.h5")
