"""The manifest of the development data against the files."""

import hashlib
from pathlib import Path

import pytest
import yaml

from tests.support.real_data import real_data

MANIFEST = Path(__file__).parents[3] / "data_manifests" / "development.yaml"
FILES = yaml.safe_load(MANIFEST.read_text())["files"]


@pytest.mark.parametrize("entry", FILES, ids=[entry["path"] for entry in FILES])
def test_the_hash_is_that_of_the_file(entry: dict) -> None:
    with real_data(entry["path"]).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]


def test_no_patient_is_in_two_splits() -> None:
    splits: dict[str, set[str]] = {}
    for entry in FILES:
        if entry["path"].startswith("ct/"):
            patient = Path(entry["path"]).name.split(".")[0]
            splits.setdefault(patient, set()).add(entry["split"])
    assert all(len(split) == 1 for split in splits.values())
    assert splits["covidctmd_cap002"] == {"validation"}
