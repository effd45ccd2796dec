"""The verb ``audit``: what it writes, and what it refuses."""

import json

import pytest
from typer.testing import CliRunner

from priors.runtime.errors import InputError
from tests.support.priors.small_trajectories import write_data
from tomocast import cli


def audit(*words: object):
    return CliRunner().invoke(cli.app, ["audit", *map(str, words)], standalone_mode=False)


def test_a_prior_of_slices_is_audited_and_its_card_written(small_prior, small_data, tmp_path):
    few = ("--samples", 8, "--steps", 2, "--slices", 4, "--noises", 2, "--flow-steps", 2)
    card = tmp_path / "card.yaml"
    done = audit(
        small_prior, "--data", small_data, "--against", small_prior, *few, "--out", card, "--json", "-"
    )
    assert done.exception is None
    rows = json.loads(done.stdout)["audits"]
    assert [each["audit"] for each in rows] == ["gap", "icr", "spikiness", "copying", "pfd"]
    assert rows[-1]["figures"]["pfd"] == 0
    text = card.read_text()
    assert all(f"audit: {name}" in text for name in ("gap", "icr", "copying", "pfd"))


@pytest.mark.parametrize("words", [(), ("--data", "nowhere")])
def test_a_mistake_is_one_error(small_prior, words):
    done = audit(small_prior, *words)
    assert isinstance(done.exception, InputError)


def test_data_of_other_variables_are_refused(tmp_path):
    done = audit("ns-vorticity-64", "--data", write_data(tmp_path / "waves"))
    assert isinstance(done.exception, InputError)
    assert "fields of" in str(done.exception)
