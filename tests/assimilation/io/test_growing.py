"""Archives that grow frame by frame: killed at any write, continued, as large as the disk."""

import os
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import xarray as xr

from assimilation.fields.fields import Grid, Variable
from assimilation.io.archive import EnsembleWriter, read_ensemble
from assimilation.io.growing import CHUNK_BYTES, GrowingArchive
from assimilation.io.registry import open_stream
from priors.runtime.errors import InputError

GRID = Grid(np.arange(3.0), np.arange(4.0), "plane", "km")
VARIABLES = (Variable("a", "K"), Variable("b", "1"))
START = np.datetime64("2000-01-01", "ns")
HOUR = np.timedelta64(3600, "s")


def frame(place, trajectory=0, members=2):
    return np.random.default_rng((place, trajectory)).normal(size=(members, 2, 3, 4)).astype(np.float32)


def writer(path, *, resume=False, trajectories=1):
    return EnsembleWriter(path, variables=VARIABLES, grid=GRID, trajectories=trajectories, resume=resume)


def expected(trajectories, times):
    return np.stack([np.stack([frame(t, n) for t in range(times)], axis=1) for n in range(trajectories)])


@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_frames_come_in_any_order_of_trajectories(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    with writer(path, trajectories=2) as out:
        for place, trajectory in ((0, 1), (1, 1), (0, 0), (2, 1), (1, 0), (2, 0), (1, 1)):
            out.append_one(START + place * HOUR, frame(place, trajectory), trajectory=trajectory)
    found = read_ensemble(path)
    np.testing.assert_array_equal(found.members, expected(2, 3))
    np.testing.assert_array_equal(found.times, START + np.arange(3) * HOUR)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["zarr", "nc"])
@pytest.mark.parametrize("failing", range(7))
def test_a_write_that_fails_loses_nothing_that_was_complete(tmp_path, ending, failing, monkeypatch):
    """Every write of a chunk or of the note may be the last of a process."""
    path = tmp_path / f"a.{ending}"
    first = writer(path)
    first.append(START, frame(0)[None])
    left, note = [failing], GrowingArchive._note
    create = type(first._archive._arrays[0]).__setitem__

    def fail_when_it_is_time():
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(
        type(first._archive._arrays[0]), "__setitem__", lambda *a: (fail_when_it_is_time(), create(*a))[1]
    )
    monkeypatch.setattr(GrowingArchive, "_note", lambda self: (fail_when_it_is_time(), note(self))[1])

    def go_on():
        for place in range(1, 5):
            first.append(START + place * HOUR, frame(place)[None])

    with pytest.raises(KeyboardInterrupt):
        go_on()
    monkeypatch.undo()
    with writer(path, resume=True) as second:
        written = second.done().size
        assert written == 1 + failing // 3  # two variables and a note for each frame
        for place in range(written, 5):
            second.append(START + place * HOUR, frame(place)[None])
    np.testing.assert_array_equal(read_ensemble(path).members, expected(1, 5))


PROGRAM = """
import sys; sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.assimilation.io.test_growing import HOUR, START, frame, writer
out = writer(Path(sys.argv[1]), resume=True)
for place in range(out.done().size, 10_000):
    out.append(START + place * HOUR, frame(place)[None])
    print(place, flush=True)
"""


def test_a_killed_process_leaves_what_it_told_as_written(tmp_path):
    path, told = tmp_path / "a.zarr", -1
    for _ in range(2):
        command = [sys.executable, "-c", PROGRAM, str(path), os.getcwd()]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            told = int(line)
            if told % 7 == 6:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
    with writer(path, resume=True) as out:
        count = out.done().size
        assert count >= told + 1 >= 14
    np.testing.assert_array_equal(read_ensemble(path).members, expected(1, count))


def test_a_long_archive_is_written_and_read_in_the_memory_of_a_few_frames(tmp_path):
    grid = Grid(np.arange(100.0), np.arange(100.0), "plane", "km")
    values = np.random.default_rng(0).normal(size=(1, 8, 1, 100, 100)).astype(np.float32)  # 0.32 MB
    peaks = []
    for count in (10, 60):
        tracemalloc.start()
        with EnsembleWriter(tmp_path / f"{count}.zarr", variables=VARIABLES[:1], grid=grid) as out:
            for place in range(count):
                out.append(START + place * HOUR, values)
        with open_stream(tmp_path / f"{count}.zarr") as stream:
            for place in range(count):
                stream.read(0, place)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 16 MB more of archive; what grows is a list of times and the caches of the libraries.
    assert peaks[1] - peaks[0] < 2e6


def test_members_share_a_chunk_up_to_a_size(tmp_path):
    with writer(tmp_path / "a.zarr") as out:
        out.append(START, frame(0, members=5)[None])
    with xr.open_zarr(tmp_path / "a.zarr", consolidated=False, chunks=None) as data:
        assert data["a"].encoding["chunks"] == (5, 1, 3, 4)
    wide = Grid(np.arange(1500.0), np.arange(1500.0), "plane", "km")
    archive = GrowingArchive(tmp_path / "b.zarr", VARIABLES[:1], wide, trajectories=1, resume=False)
    archive._create(9)
    assert archive._arrays[0].chunks == (1, 1, 1500, 1500)
    assert CHUNK_BYTES < 2 * 4 * 1500**2


def test_what_cannot_be_continued_is_told(tmp_path):
    path = tmp_path / "a.zarr"
    writer(path).append(START, frame(0)[None])
    with pytest.raises(InputError, match="holds another archive"):
        writer(path, resume=True, trajectories=2)
    out = writer(path, resume=True)
    with pytest.raises(InputError, match="3 members, expected 2"):
        out.append(START + HOUR, frame(1, members=3)[None])
    with pytest.raises(InputError, match="trajectory 1, expected 0 to 0"):
        out.append_one(START + HOUR, frame(1), trajectory=1)
    (tmp_path / ".a.zarr.growing" / "done.json").write_text("{")
    with pytest.raises(InputError, match="cannot be continued"):
        writer(path, resume=True)
