"""Operators of one's own against those of the package, through the operator alone and through an assimilation."""

import numpy as np
import pytest
import torch

import tomocast as tc
from assimilation.observation.area import BlockAverage
from assimilation.observation.base import Observation
from assimilation.observation.own import GivenObservations, LinearFunctions, TorchFunction
from priors.diffusion.guidance import Likelihood
from priors.runtime.errors import InputError
from tests.support.assimilation import tiny_prior

SHAPE = (1, tiny_prior.SIZE, tiny_prior.SIZE)
COARSE = (tiny_prior.SIZE // 4, 4, tiny_prior.SIZE // 4, 4)


def forward(x):
    return x.reshape(COARSE).mean(axis=(1, 3)).ravel()


def adjoint(y):
    plane = np.kron(y.reshape(COARSE[0], COARSE[2]), np.full((4, 4), 1 / 16))
    return plane[None]


OPERATORS = [LinearFunctions(forward, adjoint, SHAPE), TorchFunction(lambda x: BlockAverage(4)(x))]


@pytest.mark.parametrize("operator", OPERATORS, ids=["numpy", "torch"])
def test_values_tangents_and_adjoints_are_those_of_the_packages_operator(operator):
    draw = torch.Generator().manual_seed(0)
    x, change = torch.randn(2, 3, *SHAPE, generator=draw, dtype=torch.float64)
    w = torch.randn(3, 16, generator=draw, dtype=torch.float64)
    torch.testing.assert_close(operator(x[None]), BlockAverage(4)(x[None]))
    ones = torch.ones(1, 16, dtype=torch.float64)
    for mine, theirs, given in zip(
        *(Likelihood(ones, ones, one).linearised(x) for one in (operator, BlockAverage(4))),
        (change, w),
        strict=True,
    ):
        torch.testing.assert_close(mine(given), theirs(given))


def test_what_is_not_adjoint_or_of_another_shape_is_refused():
    with pytest.raises(InputError, match="adjoint of a linear operator"):
        LinearFunctions(forward, lambda y: 2 * adjoint(y), SHAPE)
    with pytest.raises(InputError, match="expected one axis"):
        LinearFunctions(lambda x: x, adjoint, SHAPE)
    with pytest.raises(InputError, match="adjoint returns"):
        LinearFunctions(forward, lambda y: y, SHAPE)
    with pytest.raises(InputError, match="expected \\(2, n\\)"):
        TorchFunction(lambda x: x.flatten())(torch.zeros(2, *SHAPE))


def test_an_assimilation_with_an_operator_of_ones_own_is_that_of_the_package(drifting_noise):
    truth = tiny_prior.fields(3, 1, 3)
    found = []
    for operator in (BlockAverage(4), *OPERATORS):
        entries = [
            Observation(BlockAverage(4)(torch.from_numpy(state)), torch.full((16,), 0.04), operator)
            for state in truth.values[0]
        ]
        stream = GivenObservations(truth.times, entries, variables=truth.variables, grid=truth.grid)
        one = [
            a.members
            for a in tc.analyses(stream, drifting_noise, members=2, lag=0, settings={"sampler": {"steps": 4}})
        ]
        assert len(one) == 3
        found.append(np.stack(one))
    # The same sums in another order, in single precision, of values about 10.
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4, atol=1e-3)
