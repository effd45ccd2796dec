"""`tomocast inspect` on a thing of every kind."""

import json

import numpy as np
import pytest

from tests.support.assimilation.sevir_file import write_sevir
from tests.support.command_line import inside, mistake


def test_a_volume_a_scan_and_fields_are_told_apart(tmp_path):
    volume, scan, fields = tmp_path / "a.nii.gz", tmp_path / "a.h5", tmp_path / "a.nc"
    inside("phantom", "--slices", 2, "--grid", 32, "--out", volume)
    inside("simulate", "scan", volume, "--views", 5, "--grid", 16, "--out", scan)
    inside("simulate", "system", "lorenz96", "--trajectories", 1, "--steps", 3, "--out", fields)
    kinds = [json.loads(inside("inspect", path, "--json").stdout)["kind"] for path in (volume, scan, fields)]
    assert kinds == ["CT volume", "CT scan", "fields"]
    assert "2 x 32 x 32" in inside("inspect", volume).stdout


@pytest.mark.parametrize("name", ["a.txt", "a.h5"])
def test_a_file_of_no_kind_is_refused(tmp_path, name):
    np.arange(40, dtype=np.uint8).tofile(tmp_path / name)
    assert "unknown kind" in mistake("inspect", tmp_path / name)


def test_an_event_inside_an_archive_has_a_name_of_its_own(tmp_path):
    path, _ = write_sevir(tmp_path)
    told = json.loads(inside("inspect", path / "S2", "--json").stdout)
    assert told["kind"] == "fields"
    assert "S9" in mistake("inspect", path / "S9")
