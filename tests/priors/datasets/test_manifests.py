"""Every manifest follows the schema, and the verbs tell, get and check what they say."""

import hashlib
import json

import pytest
import yaml

from priors.datasets.manifest import manifest, names
from priors.runtime.errors import InputError
from tests.support.command_line import inside, mistake
from tests.support.priors.server import serving
from tomocast.cli import PAIRS

WANTED = {
    *("lidc-idri", "ldct-and-projection-data", "aapm-low-dose-2016", "lodopab-ct", "htc2022", "sevir"),
    *("dm4ct-medical", "dm4ct-lodoind", "dm4ct-rocks", "era5-weatherbench2", "navier-stokes", "development"),
}


def test_the_data_sets_of_the_field_have_manifests():
    assert set(names()) == WANTED


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_manifest_follows_the_schema(name):
    found = manifest(name)
    assert found.name == name
    assert found.splits
    assert found.prepare
    # Nobody's checksum is told where none is published.
    assert ("not published" in found.checksums) == (not any(item.checksum for item in found.files))


@pytest.mark.parametrize("name", sorted(WANTED))
def test_commands_of_a_recipe_are_verbs_of_ours(name):
    for line in manifest(name).prepare:
        if line.startswith("tomocast "):
            _, verb, second = line.split()[:3]
            words = [verb, second] if verb in PAIRS else [verb]
            assert f"tomocast {' '.join(words)} [OPTIONS]" in inside(*words, "--help").stdout


def a_manifest(path, site, **changes):
    tree = {
        "name": "mine",
        "title": "a test",
        "source": "here",
        "licence": "CC0",
        "citation": "nobody",
        "access": "direct",
        "checksums": "SHA-256, of this test",
        "axes": "x",
        "unit": "1",
        "contents": "two files",
        "split_by": "none",
        "splits": {"all": "everything"},
        "prepare": ["nothing"],
        "files": [
            {"path": "a.bin", "url": site.url("a"), "sha256": hashlib.sha256(site.content).hexdigest()},
            {"path": "sub/b.bin", "url": site.url("b")},
            {"path": "c.bin"},
        ],
        **changes,
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def test_get_and_check(tmp_path):
    with serving(b"some bytes") as site:
        mine = a_manifest(tmp_path / "mine.yaml", site)
        told = inside("data", "get", mine, "--out", tmp_path / "d").stdout
        assert "licence: CC0" in told
        assert "1 files have no direct URL" in told
        assert (tmp_path / "d" / "sub" / "b.bin").read_bytes() == b"some bytes"
        assert "1 of 3 files are missing or differ (c.bin)" in mistake("data", "check", mine, tmp_path / "d")
        (tmp_path / "d" / "c.bin").touch()
        told = inside("data", "check", mine, tmp_path / "d").stdout
        assert told.splitlines() == [
            "a.bin: as published",
            "sub/b.bin: there (no published checksum)",
            "c.bin: there (no published checksum)",
        ]
        (tmp_path / "d" / "a.bin").write_bytes(b"other")
        assert "(a.bin)" in mistake("data", "check", mine, tmp_path / "d")
        inside("data", "get", mine, "--out", tmp_path / "e", "--file", "sub/*")
        assert [path.name for path in (tmp_path / "e").rglob("*.bin")] == ["b.bin"]
        assert "no file like z*" in mistake("data", "get", mine, "--out", tmp_path / "e", "--file", "z*")


def test_what_needs_registration_says_how():
    line = mistake("data", "get", "aapm-low-dose-2016", "--out", "nowhere")
    assert "accept its terms" in line
    assert "no manifest 'lodopap', expected one of" in mistake("data", "show", "lodopap")
    assert "lists no files" in mistake("data", "check", "lidc-idri", ".")


def test_list_and_show():
    assert len(inside("data", "list").stdout.splitlines()) == len(WANTED)
    assert {entry["name"] for entry in json.loads(inside("data", "list", "--json").stdout)} == WANTED
    told = inside("data", "show", "dm4ct-rocks").stdout
    assert "CC BY 4.0" in told
    assert "sha256:f1e38c7e37" in told
    assert json.loads(inside("data", "show", "sevir", "--json").stdout)["split_by"] == "time"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"access": "registration"}, "needs some"),
        ({"licence": ""}, "licence"),
        ({"colour": "red"}, "colour"),
        ({"files": [{"path": "../a"}]}, "below the data set's folder"),
        ({"files": [{"path": "a", "url": "file:///etc/passwd"}]}, "url"),
        ({"files": [{"path": "a", "url": "http://a/b", "md5": "zz"}]}, "md5"),
        ({"files": [{"path": "a"}]}, "needs a file with a url"),
        ({"files": [{"path": "a", "url": "http://a"}, {"path": "a"}]}, "occurs twice"),
    ],
)
def test_a_manifest_of_a_user_is_checked(tmp_path, changes, told):
    with serving(b"") as site, pytest.raises(InputError, match=told):
        manifest(str(a_manifest(tmp_path / "mine.yaml", site, **changes)))
