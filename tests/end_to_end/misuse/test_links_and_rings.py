"""Links, pipes and rings where files are expected, and outputs of cheap verbs over what others own.

Everything is bounded in time: a pipe that is opened, or a ring that is followed, would hang the test.
"""

import os
import shutil
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from priors.datasets.manifest import manifest
from priors.runtime.errors import InputError
from tests.support.command_line import inside, mistake

SECONDS = 180


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """A signal ends what waits for ever."""

    def stop(*_: object) -> None:
        raise TimeoutError("waits for ever")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    inside("phantom", "--out", folder / "volume.nii.gz", "--slices", 3, "--grid", 16)
    inside("convert", folder / "volume.nii.gz", "--out", folder / "series", "--format", "dicom")
    frames = folder / "frames"
    frames.mkdir()
    for view in range(6):
        tifffile.imwrite(frames / f"view_{view}.tif", np.full((1, 16), 0.1 * (1 + view % 2), np.float32))
    (folder / "scan.yaml").write_text(
        "data: frames/view_*.tif\nkind: line-integrals\nunit: 1/mm\n"
        "orbit: {name: parallel, views: 6, column_mm: 1.0, row_mm: 1.0}\n"
    )
    return folder


@pytest.fixture
def files(made, tmp_path, monkeypatch) -> Path:
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def replaced(file: Path, kind: str, outside: Path) -> None:
    """Put a link or a pipe in the place of a file."""
    outside.mkdir()
    file.rename(outside / file.name)
    if kind == "symlink":
        file.symlink_to(outside / file.name)
    elif kind == "hard link":
        file.hardlink_to(outside / file.name)
    elif kind == "pipe":
        os.mkfifo(file)


READ = {
    "series": ("series", ("convert", "series", "--out", "new.nii.gz")),
    "frames": ("frames", ("reconstruct", "scan.yaml", "--out", "new")),
}


@pytest.mark.parametrize("name", READ)
def test_a_link_out_of_a_folder_is_refused_unless_asked_for(files, tmp_path, name):
    folder, words = READ[name]
    replaced(sorted((files / folder).iterdir())[1], "symlink", tmp_path / "outside")
    assert "--follow-links" in mistake(*words)
    assert not list(files.glob("new*"))
    inside(*words, "--follow-links")


@pytest.mark.parametrize("name", READ)
def test_a_hard_link_is_the_file_itself(files, tmp_path, name):
    folder, words = READ[name]
    replaced(sorted((files / folder).iterdir())[1], "hard link", tmp_path / "outside")
    inside(*words)


@pytest.mark.parametrize("name", READ)
def test_a_pipe_is_not_waited_for(files, tmp_path, name):
    folder, words = READ[name]
    replaced(sorted((files / folder).iterdir())[1], "pipe", tmp_path / "outside")
    assert "is a pipe" in mistake(*words)
    assert not list(files.glob("new*"))


@pytest.mark.parametrize("name", READ)
def test_a_link_to_nothing_is_no_missing_slice(files, name):
    folder, words = READ[name]
    lost = sorted((files / folder).iterdir())[1]
    lost.unlink()
    lost.symlink_to(files / "nothing")
    assert "is a link to nothing" in mistake(*words)


def test_a_folder_that_holds_itself_is_read_once(files):
    (files / "series" / "again").symlink_to(files / "series", target_is_directory=True)
    inside("convert", "series", "--out", "new.nii.gz")
    inside("convert", "volume.nii.gz", "--out", "old.nii.gz")
    assert len(inside("inspect", "new.nii.gz").stdout)
    import nibabel

    assert nibabel.load("new.nii.gz").shape == nibabel.load("volume.nii.gz").shape


def test_pages_that_come_back_are_not_followed(files):
    tifffile.imwrite("ring.tif", np.zeros((4, 16, 16), np.float32), photometric="minisblack", metadata=None)
    content = bytearray(Path("ring.tif").read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, first)
    Path("ring.tif").write_bytes(content)
    assert "come back" in mistake("convert", "ring.tif", "--out", "new.nii.gz")


def test_nul_in_a_manifest(files):
    Path("data.yaml").write_text('name: "a\\0b"\nfiles: [{path: "x\\0y"}]\n')
    with pytest.raises(InputError, match=r"data\.yaml"):
        manifest("data.yaml")
    assert "data.yaml" in mistake("data", "get", "data.yaml", "--out", "new")
    Path("scan.yaml").write_text(
        Path("scan.yaml").read_text().replace("frames/view_*.tif", '"frames/\\0.npy"')
    )
    mistake("reconstruct", "scan.yaml", "--out", "new")
    assert not Path("new").exists()


OWNED = {
    "phantom over a folder": "phantom --out project --slices 1 --grid 16",
    "demo recon": "demo recon --out project --overwrite",
    "demo assimilation": "demo assimilation --out project --overwrite",
    "export-prior": "export-prior ct-chest-256 --out project",
    "import-prior": "import-prior project --out project",
    "compare": "compare scan.yaml --methods fbp --out project --overwrite",
    "compare into its scan": "compare scan.yaml --methods fbp --out . --overwrite",
}


@pytest.mark.parametrize("name", OWNED)
def test_what_others_own_is_left_alone(files, name):
    project = files / "project"
    project.mkdir()
    (project / "config.yaml").write_text("name: a project of mine\n")
    (project / "model.safetensors").write_text("years")
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    mistake(*OWNED[name].split())
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


def test_compare_is_locked_and_goes_on(files):
    words = ("compare", "scan.yaml", "--methods", "fbp,cgls", "--out", "new", "method.iterations=3")
    inside(*words[:-1])
    figures = Path("new/comparison.json").read_bytes()
    assert "--resume" in mistake(*words[:-1])
    inside(*words[:-1], "--resume")
    assert Path("new/comparison.json").exists()
    assert len(figures) > 0
