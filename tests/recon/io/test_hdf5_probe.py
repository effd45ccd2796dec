"""The child that visits an HDF5 file first: what loops is ended, what waits is not."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recon.io import hdf5_probe


@pytest.mark.parametrize(
    ("visit", "sound"),
    [
        (lambda path: all(itertools.repeat(True)), False),
        (lambda path: time.sleep(0.6), True),
        (lambda path: (_ for _ in ()).throw(OSError("told by the reader")), True),
    ],
    ids=["loops", "waits", "fails"],
)
def test_only_a_loop_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visit: Callable[[str], object], sound: bool
) -> None:
    (tmp_path / "file.h5").write_bytes(b"\x89HDF")
    monkeypatch.setattr(hdf5_probe, "SECONDS", 0.3)
    monkeypatch.setattr(hdf5_probe, "_visit", visit)
    assert hdf5_probe.is_sound(tmp_path / "file.h5") == sound
