"""Old spellings mean what they meant, and say what they are called now; new ones are left alone."""

import json

import pytest

from tests.support.command_line import inside, mistake
from tomocast.cli import SECONDS
from tomocast.spelling import current, note

OLD = [
    ("prepare-ct SOURCE --out X", "prepare slices SOURCE --out X"),
    ("prepare x.yaml --out X", "prepare trajectories x.yaml --out X"),
    ("simulate CHEST.zip --views 30", "simulate scan CHEST.zip --views 30"),
    ("simulate --views 30 CHEST.zip", "simulate scan --views 30 CHEST.zip"),
    ("simulate-system lorenz96", "simulate system lorenz96"),
    ("demo", "demo recon"),
    ("demo --out X", "demo recon --out X"),
    ("demo-assimilation", "demo assimilation"),
    ("score RUN CHEST.zip", "score volume RUN CHEST.zip"),
    ("verify RUN truth.nc", "score ensemble RUN truth.nc"),
]
TODAY = [
    "simulate scan CHEST.zip",
    "simulate --help",
    "demo assimilation",
    "simulate scn CHEST.zip",
    "train x.yaml",
    "",
]


@pytest.mark.parametrize(("old", "new"), OLD)
def test_an_old_verb_is_understood_and_told(old, new):
    assert " ".join(current(old.split(), SECONDS)) == new
    assert "now" in note(old.split(), SECONDS)
    assert note(new.split(), SECONDS) is None
    assert " ".join(current(new.split(), SECONDS)) == new


@pytest.mark.parametrize("words", TODAY)
def test_todays_spelling_is_left_alone(words):
    assert " ".join(current(words.split(), SECONDS)) == words
    assert note(words.split(), SECONDS) is None


def test_a_bare_json_flag_prints_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.h5").touch()
    for words, meant in [
        ("inspect x --json", "inspect x --json -"),
        ("inspect --json scan.h5", "inspect --json - scan.h5"),
        ("reconstruct x --json --plan", "reconstruct x --json - --plan"),
        ("reconstruct x --json seed=3", "reconstruct x --json - seed=3"),
        ("inspect x --json out.json", "inspect x --json out.json"),
        ("inspect x --json -", "inspect x --json -"),
    ]:
        assert " ".join(current(words.split(), SECONDS)) == meant


def test_json_goes_where_it_is_sent(tmp_path):
    printed = json.loads(inside("data", "show", "sevir", "--json").stdout)
    done = inside("data", "show", "sevir", "--json", tmp_path / "sevir.json")
    assert json.loads((tmp_path / "sevir.json").read_text()) == printed
    assert "name: sevir" in done.stdout


def test_json_never_replaces_another_file(tmp_path):
    (tmp_path / "scan.h5").write_bytes(b"data")
    assert "no .json file" in mistake("data", "show", "sevir", f"--json={tmp_path / 'scan.h5'}")
    assert (tmp_path / "scan.h5").read_bytes() == b"data"


def test_an_old_verb_notes_the_new_one_after_its_work(tmp_path):
    words = ["lorenz96", "--trajectories", 1, "--steps", 2, "--out", tmp_path / "x.nc"]
    assert "'tomocast simulate system' now" in inside("simulate-system", *words).stderr
    assert mistake("verify", "none.nc", "none.nc").startswith("error: none.nc")
    assert len(inside("verify", "none.nc", "none.nc", status=2).stderr.splitlines()) == 1
