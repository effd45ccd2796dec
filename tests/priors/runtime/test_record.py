"""The run folder: complete, strict JSON, and nothing about the machine or a patient."""

import json
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from priors.runtime.config import read_yaml
from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic
from priors.runtime.run_folder.record import (
    RunFolder,
    check_same_config,
    describe_input,
    open_run,
    to_json,
    versions,
)


class Settings(BaseModel):
    seed: int = 0
    weight: float = 1e-4


def test_a_run_is_described_completely(tmp_path):
    (tmp_path / "in").mkdir()
    scan = tmp_path / "in" / "scan.h5"
    scan.write_bytes(b"abc")
    run = open_run(tmp_path / "runs" / "one")
    run.write_config(Settings(seed=3))
    run.write_inputs({"scan": scan}, command="reconstruct", seed=3)
    run.log("first")
    run.log("second")
    assert read_yaml(run.file("config.yaml")) == {"seed": 3, "weight": 1e-4}
    inputs = json.loads(run.file("inputs.json").read_text())
    # SHA-256 of "abc", FIPS 180-2 appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert inputs["inputs"]["scan"] == {"file": "scan.h5", "bytes": 3, "sha256": expected}
    assert inputs["seed"] == 3
    assert [line.split(" ", 1)[1] for line in run.file("log.txt").read_text().splitlines()] == [
        "first",
        "second",
    ]


def test_no_path_of_the_machine_is_recorded(tmp_path):
    scan = tmp_path / "scan.h5"
    scan.write_bytes(b"x")
    run = open_run(tmp_path / "run")
    run.write_config(Settings())
    run.write_inputs({"scan": scan}, command="reconstruct", seed=0)
    for item in run.path.iterdir():
        text = item.read_text()
        assert str(tmp_path) not in text
        assert str(Path.home()) not in text


def test_the_hash_of_a_folder_covers_its_files_and_hides_their_names(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "DOE_JANE_1.dcm").write_bytes(b"a")
    before = describe_input(folder)
    (folder / "DOE_JANE_2.dcm").write_bytes(b"b")
    after = describe_input(folder)
    assert before["sha256"] != after["sha256"]
    assert "DOE" not in json.dumps(after)


def test_versions_name_the_packages_and_the_revision():
    found = versions()
    assert found["python"].startswith("3.")
    root = Path(__file__).parents[3]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        assert (
            found["git"]["revision"] == subprocess.run(command, capture_output=True, text=True).stdout.strip()
        )
    if found["tomocast"] is not None:
        assert "torch" in found["packages"]
        assert "pytest" not in found["packages"]


def test_a_folder_with_files_is_not_written_into(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt.*--resume"):
        open_run(tmp_path)
    with pytest.raises(InputError, match="no run"):
        open_run(tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_overwriting_empties_an_earlier_run_and_resuming_keeps_it(tmp_path):
    with open_run(tmp_path / "run") as run:
        run.write_config(Settings())
        run.log("old")
    with open_run(run.path, resume=True) as again:
        assert again.file("log.txt").exists()
    with open_run(run.path, overwrite=True):
        assert not run.file("log.txt").exists()


def test_a_folder_below_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used as a run folder"):
        open_run(tmp_path / "file" / "run")
    with pytest.raises(InputError, match="cannot be used as a run folder"):
        open_run(tmp_path / "file")


def test_resuming_with_other_settings_names_the_key(tmp_path):
    run = open_run(tmp_path / "run")
    check_same_config(run, Settings())
    run.write_config(Settings())
    check_same_config(run, Settings())
    with pytest.raises(InputError, match=r"weight was 0\.0001 .* found 0\.5"):
        check_same_config(run, Settings(weight=0.5))


def test_numbers_json_cannot_hold_become_null():
    text = to_json({"a": float("nan"), "b": [float("inf"), 1.5], 3: {"c": None}})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "3": {"c": None}}


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    run = RunFolder(tmp_path)
    run.write_json("metrics.json", {"a": 1})

    def fail() -> None:
        with atomic(run.file("metrics.json")) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert json.loads(run.file("metrics.json").read_text()) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["metrics.json"]


def test_a_full_disk_is_told_in_one_line(tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")

    def fill() -> None:
        with atomic(tmp_path / "out.txt"), full.open("w") as stream:
            stream.write("x")
            stream.flush()

    with pytest.raises(InputError, match=r"out\.txt.*No space left"):
        fill()
    assert list(tmp_path.iterdir()) == []
