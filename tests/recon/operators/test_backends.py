"""The family of backends: names, choice and what they say of themselves."""

from typing import get_args

import pytest
import torch

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.backends import AUTOMATIC, FAMILY, BackendName
from recon.operators.backends.base import Traced
from recon.operators.backends.choice import choose
from recon.operators.projector import Projector
from recon.operators.rays import trace

VOLUME = Grid((2, 8, 8), (1.0, 1.0, 1.0))
SCAN = Parallel(views=3).fit(VOLUME).geometry()
TRACED = Traced(VOLUME, SCAN, trace(VOLUME, SCAN))
CPU = torch.device("cpu")


def test_settings_may_name_every_backend_and_no_other() -> None:
    assert get_args(BackendName) == ("auto", *(backend.name for backend in FAMILY))
    assert set(AUTOMATIC) <= set(FAMILY)
    assert all(backend.matched for backend in AUTOMATIC)


def test_auto_is_numba_for_tensors_of_the_cpu() -> None:
    assert choose("auto", TRACED, CPU).name == "numba"


def test_an_unknown_name_is_one_clear_line() -> None:
    with pytest.raises(InputError, match=r"found 'nmba', expected auto, .* or torch_radon"):
        choose("nmba", TRACED, CPU)


def test_a_backend_that_is_not_available_says_why() -> None:
    for backend in FAMILY:
        reason = backend.availability()
        if reason is None:
            assert backend.version()
        else:
            with pytest.raises(InputError, match=f"backend {backend.name}: "):
                Projector(SCAN, VOLUME, backend=backend.name)


def test_a_table_without_an_engine_is_refused() -> None:
    strange = Traced(VOLUME, SCAN, "a table nobody reads")
    for backend in FAMILY:
        assert "no engine" in (backend.refusal(strange) or "") or not backend.matched
    with pytest.raises(InputError, match="no backend"):
        choose("auto", strange, CPU)
