"""Observation operators: linear ones against dense matrices and their adjoint, others by finite differences."""

import numpy as np
import pytest
import torch

from assimilation.observation.area import BlockAverage
from assimilation.observation.base import Observation, ObservationOperator
from assimilation.observation.nonlinear import WindSpeed
from assimilation.observation.point import Channels, Identity, PointSampling, Selection
from assimilation.observation.swath import strip
from priors.runtime.errors import InputError

SHAPE = (2, 4, 6)
SIZE = 48
Y, X = torch.tensor([0.0, 0.25, 2.5, 3.0]), torch.tensor([5.0, 1.5, 4.75, 0.0])
CHANNEL = torch.tensor([0, 1, 1, 0])

LINEAR: dict[str, ObservationOperator] = {
    "identity": Identity(),
    "mask": Selection(Identity(), torch.tensor([3, 17, 40])),
    "channels": Channels((1,)),
    "block average": BlockAverage(2),
    "points": PointSampling(Y, X, CHANNEL),
    "points on a torus": PointSampling(Y + 0.75, X + 0.5, CHANNEL, (True, True)),
    "some blocks": Selection(BlockAverage(2), torch.tensor([0, 5, 11])),
}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(operator: ObservationOperator) -> torch.Tensor:
    """The matrix of a linear operator, one unit vector after the other."""
    return torch.stack([operator(e.reshape(SHAPE)) for e in torch.eye(SIZE, dtype=torch.float64)], dim=1)


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_operator_is_its_matrix(name):
    operator, state = LINEAR[name], draw(3, 5, *SHAPE)
    expected = state.reshape(3, 5, SIZE) @ dense(operator).T
    # Sums of at most four products in float64.
    torch.testing.assert_close(operator(state), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", LINEAR)
def test_linearity(name):
    operator, a, b = LINEAR[name], draw(*SHAPE), draw(*SHAPE, seed=1)
    torch.testing.assert_close(operator(2 * a - b), 2 * operator(a) - operator(b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LINEAR)
def test_backpropagation_is_the_adjoint(name):
    operator, state = LINEAR[name], draw(2, *SHAPE).requires_grad_()
    seen = operator(state)
    y = draw(*seen.shape, seed=2)
    (back,) = torch.autograd.grad(seen, state, y)
    torch.testing.assert_close((seen * y).sum(), (state * back).sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(back.reshape(2, SIZE), y @ dense(operator), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LINEAR)
def test_members_do_not_interact_and_the_type_is_kept(name):
    operator, states = LINEAR[name], draw(3, *SHAPE).float()
    seen = operator(states)
    assert seen.dtype == torch.float32
    for state, alone in zip(states, seen, strict=True):
        torch.testing.assert_close(operator(state), alone, rtol=0, atol=0)


def test_bilinear_sampling_is_exact_on_a_bilinear_field():
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    field = torch.stack([1 + 2 * y - x + 0.5 * x * y, 3 - y])
    expected = torch.where(CHANNEL == 0, 1 + 2 * Y - X + 0.5 * X * Y, 3 - Y)
    torch.testing.assert_close(PointSampling(Y, X, CHANNEL)(field), expected, rtol=1e-6, atol=1e-6)


def test_sampling_wraps_around_a_periodic_axis():
    field = torch.zeros(1, 1, 4)
    field[0, 0, 0], field[0, 0, 3] = 8.0, 4.0
    point = PointSampling(torch.tensor([0.0]), torch.tensor([3.25]), torch.tensor([0]), (False, True))
    assert point(field).item() == pytest.approx(0.75 * 4 + 0.25 * 8)


def test_a_grid_of_one_line_can_be_sampled():
    point = PointSampling(torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([0]))
    assert point(torch.full((1, 1, 1), 7.0)).item() == 7.0


def test_block_average_against_loops():
    state = draw(*SHAPE).numpy()
    expected = [
        state[k, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()
        for k in range(2)
        for i in range(2)
        for j in range(3)
    ]
    np.testing.assert_allclose(BlockAverage(2)(torch.from_numpy(state)).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("factor", [3, 0, 5])
def test_blocks_must_tile_the_grid(factor):
    with pytest.raises(InputError, match="factor"):
        BlockAverage(factor)(torch.zeros(SHAPE))


def test_wind_speed_against_the_norm_and_finite_differences():
    operator = WindSpeed(0, 1)
    state = 5 * draw(3, *SHAPE)
    speed = operator(state)
    expected = state.norm(dim=-3).flatten(-2)
    # The floor lowers the speed by at most itself.
    assert bool(((expected - speed) >= 0).all())
    assert float((expected - speed).max()) <= 1e-3
    assert torch.autograd.gradcheck(operator, (state.requires_grad_(),), eps=1e-6, atol=1e-6)


def test_wind_speed_has_a_gradient_in_calm_air():
    state = torch.zeros(2, 1, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(WindSpeed(0, 1)(state).sum(), state)
    assert bool((gradient == 0).all())


def test_a_swath_covers_its_share_and_moves():
    first, later = (
        strip((40, 40), width=0.25, shift=shift, inclination_deg=90.0, phase=0.0125) for shift in (0.0, 0.1)
    )
    assert first.mean() == pytest.approx(0.25)
    np.testing.assert_array_equal(np.roll(first, 4, axis=1), later)
    slanted = strip((200, 200), width=0.3, shift=0.4, inclination_deg=30.0, phase=0.2)
    # A slanted strip is cut by the edges: its share is that of the interval up to the part of one repeat.
    assert slanted.mean() == pytest.approx(0.3, abs=0.08)


def test_an_observation_refuses_what_has_no_likelihood():
    values = torch.ones(3)
    with pytest.raises(InputError, match="variance"):
        Observation(values, torch.tensor([1.0, 0.0, 1.0]), Identity())
    with pytest.raises(InputError, match="NaN"):
        Observation(torch.tensor([1.0, float("nan"), 1.0]), values, Identity())


def test_innovation_is_observed_minus_predicted():
    observation = Observation(torch.tensor([3.0]), torch.ones(1), Selection(Identity(), torch.tensor([2])))
    assert observation.innovation(torch.arange(6.0).reshape(1, 2, 3)).tolist() == [1.0]
