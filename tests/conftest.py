"""Settings and costly things of every test."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import type_checks

# Time on a busy machine says nothing about a property.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
type_checks.install()


def pytest_runtest_setup() -> None:
    """Check types and shapes anew in every test."""
    type_checks.begin_test()


@pytest.fixture(scope="session")
def drifting_noise(tmp_path_factory) -> Path:
    """The folder of a trajectory prior, trained once per session; a test copies what it changes."""
    from tests.support.assimilation import tiny_prior

    return tiny_prior.make(tmp_path_factory.mktemp("drifting-noise") / "prior")
