"""``config show`` and ``config schema`` know every job, and what they print is read again."""

import json

import pytest

from priors.runtime.config import read_yaml
from tests.support.command_line import inside, mistake
from tomocast.commands.config import JOBS


@pytest.mark.parametrize("job", JOBS)
def test_every_job_shows_its_settings_and_their_schema(job, tmp_path):
    schema = json.loads(inside("config", "schema", "--job", job).stdout)
    shown = inside("config", "show", "--job", job).stdout
    (tmp_path / "shown.yaml").write_text(shown)
    keys = {line.split(":")[0] for line in shown.splitlines() if line[0].isalpha()}
    assert keys == set(schema["properties"])
    # A value that must be given is marked in the one and required in the other, and reads as not given.
    given = read_yaml(tmp_path / "shown.yaml")
    assert keys - set(given) == set(schema.get("required", []))


def test_a_missing_value_is_asked_for(tmp_path):
    (tmp_path / "a.yaml").write_text(inside("config", "show", "--job", "assimilate").stdout)
    line = mistake("assimilate", "none.nc", "-c", tmp_path / "a.yaml", "--print-config")
    assert "prior: found nothing, expected a value" in line
    done = inside("assimilate", "none.nc", "-c", tmp_path / "a.yaml", "--print-config", "prior=mine")
    assert "prior: mine" in done.stdout


def test_settings_given_are_shown():
    shown = inside("config", "show", "--job", "assimilate", "prior=mine", "sampler.steps=4").stdout
    assert "prior: mine" in shown
    assert "steps: 4" in shown


def test_the_settings_of_a_known_system_are_read_again(tmp_path):
    shown = inside("config", "show", "--job", "simulate lorenz96", "forcing=9").stdout
    (tmp_path / "system.yaml").write_text(shown)
    again = inside("simulate", "system", "lorenz96", "-c", tmp_path / "system.yaml", "--print-config").stdout
    assert again == shown
    line = mistake("simulate", "system", "kolmogorov", "-c", tmp_path / "system.yaml", "--print-config")
    assert "name: found 'lorenz96', expected 'kolmogorov'" in line


def test_an_unknown_job_and_a_wrong_key_are_told():
    assert "did you mean 'assimilate'?" in mistake("config", "show", "--job", "asimilate")
    assert "did you mean 'members'?" in mistake("config", "show", "--job", "forecast", "member=3")
