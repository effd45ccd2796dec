"""Outputs are told apart from inputs however a file is named."""

from pathlib import Path

import pytest

from priors.runtime.errors import InputError
from priors.runtime.files.protect import check_output, check_outputs


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "scan.h5"
    path.write_text("measured")
    return path


def test_one_file_by_several_names(tmp_path, scan):
    symbolic, hard, folder = tmp_path / "symbolic.h5", tmp_path / "hard.h5", tmp_path / "folder"
    symbolic.symlink_to(scan)
    hard.hardlink_to(scan)
    folder.symlink_to(scan.parent)
    names = (scan, symbolic, hard, folder / "scan.h5", scan.parent / ".." / "in" / "scan.h5")
    for out in names:
        with pytest.raises(InputError, match="is an input"):
            check_output(out, [None, scan])
        with pytest.raises(InputError, match="is given for two outputs"):
            check_outputs(scan, None, out)


def test_what_lies_in_a_folder_that_is_read(tmp_path, scan):
    with pytest.raises(InputError, match="lies in the input"):
        check_output(scan, [scan.parent])
    with pytest.raises(InputError, match="lies in the input"):
        check_output(scan.parent / "run", [scan.parent], folder=True)
    with pytest.raises(InputError, match="contains the input"):
        check_output(tmp_path, [scan], folder=True)
    # A new file beside the slices takes nothing away.
    check_output(scan.parent / "volume.nii.gz", [scan.parent])
    check_output(tmp_path / "out.h5", [scan, scan.parent])
    check_output(None, [scan])
