"""A run folder loses nothing: only files of runs go, one process writes at a time, a resume is of the same run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from priors.runtime.errors import InputError
from priors.runtime.files import temporary
from priors.runtime.files.writing import atomic, atomic_folder, replace_folder
from priors.runtime.run_folder import lock
from priors.runtime.run_folder.fingerprint import fingerprint
from priors.runtime.run_folder.record import open_run

ROOT = Path(__file__).parents[3]


def listed(folder: Path) -> list[str]:
    return sorted(item.relative_to(folder).as_posix() for item in folder.rglob("*") if not item.is_dir())


def test_overwriting_removes_what_runs_wrote_and_nothing_else(tmp_path, capsys):
    with open_run(tmp_path / "run") as run:
        run.claim("volume.nii.gz", "dicom/?????.dcm")
        for name in ("volume.nii.gz", "dicom/00001.dcm", "dicom/mine.dcm", "notes.txt", "config.yaml"):
            run.file(name).parent.mkdir(exist_ok=True)
            run.file(name).write_text(name)
    with open_run(run.path, overwrite=True):
        pass
    assert listed(run.path) == ["dicom/mine.dcm", "notes.txt", "run.json"]
    assert "notes.txt" in capsys.readouterr().err


def test_a_folder_that_merely_looks_like_a_run_is_not_emptied(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1")
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match=r"no run\.json"):
        open_run(tmp_path, overwrite=True)
    assert listed(tmp_path) == ["config.yaml", "thesis.tex"]


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "tomocast run 1", "files": ["../outside.txt"]}',
        '{"kind": "tomocast run 1", "files": ["/etc/passwd"]}',
        '{"kind": "another", "files": ["outside.txt"]}',
        '{"kind": "tomocast run 1"',
        "[]",
    ],
)
def test_a_manifest_cannot_name_what_lies_outside(tmp_path, text):
    outside = tmp_path / "outside.txt"
    outside.write_text("keep")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(InputError, match="no manifest of a run"):
        open_run(tmp_path / "run", overwrite=True)
    assert outside.read_text() == "keep"


def test_links_in_a_run_folder_are_not_followed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "00001.dcm").write_text("an original")
    with open_run(tmp_path / "run") as run:
        run.claim("dicom/?????.dcm", "log.txt")
        run.file("dicom").symlink_to(kept)
    with open_run(run.path, overwrite=True):
        pass
    assert (kept / "00001.dcm").read_text() == "an original"


def test_what_no_run_wrote_is_not_written_over(tmp_path):
    with open_run(tmp_path / "run") as run:
        run.log("begun")
    run.file("prior").mkdir(parents=True)
    run.file("prior/card.yaml").write_text("mine")
    with (
        open_run(run.path, resume=True) as again,
        pytest.raises(InputError, match=r"card\.yaml: no run wrote"),
    ):
        again.claim("prior/card.yaml")


@pytest.mark.parametrize("link", ["plain", "symlink", "hard"])
def test_an_input_in_the_folder_stays(tmp_path, link):
    with open_run(tmp_path / "run") as run:
        run.claim("scan.h5")
        run.file("scan.h5").write_text("measured")
    given = run.file("scan.h5")
    if link == "symlink":
        given = tmp_path / "link.h5"
        given.symlink_to(run.file("scan.h5"))
    if link == "hard":
        given = run.file("other.h5")
        given.hardlink_to(run.file("scan.h5"))
    with pytest.raises(InputError, match="contains the input"):
        open_run(run.path, overwrite=True, inputs=[given])
    assert run.file("scan.h5").read_text() == "measured"


def test_a_second_process_is_refused_and_named(tmp_path):
    with open_run(tmp_path / "run") as run:
        code = (
            "from pathlib import Path; from priors.runtime.run_folder.record import open_run; "
            f"open_run(Path({str(run.path)!r}), resume=True)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert f"process {os.getpid()} on {socket.gethostname()}" in done.stderr
        with pytest.raises(InputError, match="is writing into this folder"):
            open_run(run.path, overwrite=True)
    with open_run(run.path, resume=True):
        pass


def test_the_lock_of_a_killed_process_is_taken_over_and_told(tmp_path, capsys):
    code = (
        "import os, signal; from pathlib import Path; from priors.runtime.run_folder.record import open_run; "
        f"run = open_run(Path({str(tmp_path / 'run')!r})); run.log('begun'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -signal.SIGKILL
    with open_run(tmp_path / "run", resume=True) as run:
        assert "took over the lock of process" in run.file("log.txt").read_text()
    assert "which is gone" in capsys.readouterr().err
    assert not run.file("run.lock").exists()


def test_a_lock_of_another_machine_is_respected_while_its_file_is_renewed(tmp_path):
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / lock.NAME
    file.write_text(json.dumps({"pid": 1, "host": "elsewhere", "machine": "00000000"}))
    with pytest.raises(InputError, match="process 1 on elsewhere"):
        open_run(tmp_path / "run")
    os.utime(file, (time.time() - 2 * lock.GONE_S,) * 2)
    with open_run(tmp_path / "run") as run:
        assert "elsewhere" in run.file("log.txt").read_text()


def test_a_refused_run_leaves_no_folder(tmp_path):
    with open_run(tmp_path / "a" / "run"):
        pass
    assert not (tmp_path / "a" / "run").exists()


@pytest.mark.parametrize("suffix", [".txt", ""])
def test_leftovers_of_killed_processes_are_cleared_and_those_of_living_ones_kept(tmp_path, suffix):
    gone = subprocess.Popen(["true"])
    gone.wait()
    stale = tmp_path / f".partial-{temporary.host()}-{gone.pid}-0123abcd{suffix}"
    lives = tmp_path / f".partial-{temporary.host()}-{os.getppid()}-0123abcd{suffix}"
    elsewhere = tmp_path / f".partial-00000000-{gone.pid}-0123abcd{suffix}"
    old = tmp_path / f".partial-00000000-{gone.pid}-0123abce{suffix}"
    foreign = tmp_path / ".partial-download"
    for path in (stale, lives, elsewhere, old, foreign):
        path.write_text("x")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    with atomic(tmp_path / "result.txt") as partial:
        partial.write_text("y")
    assert {item.name for item in tmp_path.iterdir()} == {
        *(path.name for path in (lives, elsewhere, foreign)),
        "result.txt",
    }


def test_permissions_are_those_the_umask_leaves(tmp_path):
    before = os.umask(0o077)
    try:
        with atomic(tmp_path / "file") as partial:
            partial.write_text("pixels")
        with atomic_folder(tmp_path / "folder") as partial:
            (partial / "file").write_text("pixels")
        os.umask(0o002)
        with atomic(tmp_path / "shared") as partial:
            partial.write_text("pixels")
    finally:
        os.umask(before)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder", "shared")}
    assert modes == {"file": 0o600, "folder": 0o700, "shared": 0o664}


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr("priors.runtime.files.writing._exchange", lambda one, other: False)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert listed(tmp_path) == ["old/new"]


def test_a_fingerprint_tells_values_types_shapes_and_files_apart(tmp_path):
    values = np.arange(6, dtype=np.float32)
    file = tmp_path / "a.bin"
    file.write_bytes(b"1")
    parts = [
        values,
        values.reshape(2, 3),
        values.reshape(3, 2),
        values.astype(np.float64),
        values + np.float32(1e-7),
        *("6", 6, 6.0, True, None, (6,), ("6",), {"6": None}, file, tmp_path),
    ]
    marks = {fingerprint({"part": part})["part"] for part in parts}
    assert len(marks) == len(parts)
    assert fingerprint({"a": values[::2]}) == fingerprint({"a": values[::2].copy()})
    file.write_bytes(b"2")
    assert fingerprint({"part": file})["part"] not in marks
    with pytest.raises(TypeError):
        fingerprint({"a": object()})


def test_a_resume_with_other_data_names_the_part_and_writes_nothing(tmp_path):
    begun = fingerprint({"scan": np.arange(3), "grid": (1, 2, 3)})
    with open_run(tmp_path / "run") as run:
        run.begin(begun)
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    with open_run(run.path, resume=True) as again:
        again.check_same(begun, state=["checkpoint.pt"])
        with pytest.raises(InputError, match="grid: is not the same"):
            again.check_same(fingerprint({"scan": np.arange(3), "grid": (1, 2, 4)}))
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before
    run.file("fingerprint.json").write_text('{"scan"')
    with open_run(run.path, resume=True) as again, pytest.raises(InputError, match="is damaged"):
        again.check_same(begun)
    run.file("fingerprint.json").unlink()
    run.file("checkpoint.pt").write_bytes(b"state")
    with open_run(run.path, resume=True) as again, pytest.raises(InputError, match=r"checkpoint\.pt but no"):
        again.check_same(begun, state=["checkpoint.pt"])
