"""The child that visits an HDF5 file first: what loops is ended, what waits is not."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from priors.runtime import hdf5_probe


@pytest.mark.parametrize(
    ("visit", "sound"),
    [
        (lambda path: all(itertools.repeat(True)), False),
        (lambda path: time.sleep(0.6) is None, True),
        (lambda path: (_ for _ in ()).throw(OSError("told by the reader")), True),
        (lambda path: True, True),
        (lambda path: False, False),
    ],
    ids=["loops", "waits", "fails", "reads", "starves"],
)
def test_a_loop_and_hunger_are_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visit: Callable[[str], object], sound: bool
) -> None:
    (tmp_path / "file.h5").write_bytes(b"\x89HDF")
    monkeypatch.setattr(hdf5_probe, "SECONDS", 0.3)
    monkeypatch.setattr(hdf5_probe, "_visit", visit)
    assert hdf5_probe.is_sound(tmp_path / "file.h5") == sound


def test_what_needs_more_memory_than_there_is_room_for_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.create_dataset("values", data=np.zeros((64, 512, 512), np.float32), chunks=(64, 512, 512))
    assert hdf5_probe.is_sound(tmp_path / "file.h5")
    hdf5_probe._survives.cache_clear()
    # Less than the chunk of 64 MB.
    monkeypatch.setattr(hdf5_probe, "ROOM", 2**25)
    assert not hdf5_probe.is_sound(tmp_path / "file.h5")
