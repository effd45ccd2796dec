"""The checks of types and shapes that every test is under: at work in every test, whatever ran before it."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from priors.codec import Codec
from recon.geometry.grid import Grid
from recon.solvers.functionals import SquaredL2
from tests.support import type_checks


@pytest.mark.parametrize("attempt", ["first", "second"])
def test_a_wrong_shape_and_a_wrong_type_are_refused_in_every_test(attempt):
    functional = SquaredL2(torch.zeros(3), torch.ones(3))
    with pytest.raises(TypeCheckError, match="prox"):
        functional.prox(np.zeros(3), 0.5)
    # Loops are checked where they begin.
    for _ in range(2 * type_checks.CHECKED):
        functional.prox(torch.zeros(3), 0.5)


def test_the_fields_of_a_dataclass_are_checked():
    with pytest.raises(TypeCheckError):
        Grid("three", (1.0, 1.0, 1.0))


def test_what_is_decorated_is_still_itself():
    assert Codec.encode.__name__ == "encode"
    assert "physical" in Codec.encode.__annotations__
