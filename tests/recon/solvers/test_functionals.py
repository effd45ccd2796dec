"""Proximal maps against brute force, conjugates against Moreau's identity and the definition."""

import math

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.solvers.functionals import L1, L21, Box, Functional, NonNegative, SquaredL2

TARGET, WEIGHTS = torch.tensor([0.5, -1.0, 2.0, 0.0]).double(), torch.tensor([2.0, 0.0, 0.1, 30.0]).double()
SEPARABLE = [L1(0.7), SquaredL2(TARGET, WEIGHTS), Box(-0.5, 1.0), NonNegative()]
EVERY = [*SEPARABLE, L21(0.7)]


def sample(functional: Functional, seed: int, scale: float = 1.5) -> torch.Tensor:
    shape = (3, 5) if isinstance(functional, L21) else (4,)
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("functional", SEPARABLE, ids=repr)
@pytest.mark.parametrize("step", [0.2, 3.0])
def test_separable_prox_beats_every_point_of_a_fine_grid(functional: Functional, step: float) -> None:
    v = sample(functional, 0)
    found = functional.prox(v, step)

    def cost(x: torch.Tensor) -> float:
        return functional(x) + float(((x - v) ** 2).sum()) / (2 * step)

    best = cost(found)
    for index in range(4):
        for shift in np.linspace(-2, 2, 401):
            other = found.clone()
            other[index] += shift
            # The minimum is exact, so no other point may win by more than round-off.
            assert cost(other) >= best - 1e-12


@pytest.mark.parametrize("step", [0.3, 2.0])
def test_group_prox_is_cvxpys(step: float) -> None:
    functional, v = L21(0.7), sample(L21(0.7), 4)
    x = cvxpy.Variable(v.shape)
    cost = 0.7 * cvxpy.sum(cvxpy.norm(x, 2, axis=0)) + cvxpy.sum_squares(x - v.numpy()) / (2 * step)
    cvxpy.Problem(cvxpy.Minimize(cost)).solve(solver=cvxpy.CLARABEL)
    # The conic solver stops at a gap of 1e-8, so x is good to about its square root.
    assert np.abs(functional.prox(v, step).numpy() - x.value).max() < 2e-4
    assert functional(v) == pytest.approx(0.7 * np.linalg.norm(v.numpy(), axis=0).sum(), rel=1e-12)


@pytest.mark.parametrize("functional", EVERY, ids=repr)
@given(seed=st.integers(0, 999), step=st.floats(0.01, 50))
@settings(max_examples=25, deadline=None)
def test_moreau(functional: Functional, seed: int, step: float) -> None:
    v = sample(functional, seed)
    # v = prox_{sF}(v) + s prox_{F*/s}(v / s): also true for the maps that do not use the base's formula.
    rebuilt = functional.prox(v, step) + step * functional.conjugate_prox(v / step, 1 / step)
    torch.testing.assert_close(rebuilt, v, rtol=1e-9, atol=1e-9)
    base = Functional.conjugate_prox(functional, v, step)
    torch.testing.assert_close(functional.conjugate_prox(v, step), base, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("functional", EVERY, ids=repr)
def test_prox_is_firmly_nonexpansive_and_takes_one_step_per_element(functional: Functional) -> None:
    v, w = sample(functional, 7), sample(functional, 8)
    p, q = functional.prox(v, 0.6), functional.prox(w, 0.6)
    assert float(((p - q) ** 2).sum()) <= float(((p - q) * (v - w)).sum()) + 1e-12
    steps = torch.full_like(v[0] if isinstance(functional, L21) else v, 0.6)
    torch.testing.assert_close(functional.prox(v, steps), p, rtol=1e-12, atol=1e-12)


def test_conjugate_of_weighted_squares_survives_tiny_weights_in_float32() -> None:
    v, step = torch.full((4,), 100.0), 1e4
    data = SquaredL2(torch.ones(4), torch.tensor([0.0, 1e-6, 1e-3, 1.0]))
    exact = data.weights.double() * (v.double() - step) / (data.weights.double() + step)
    # Five float32 operations, no cancellation: a few units of 2^-24.
    torch.testing.assert_close(data.conjugate_prox(v, step).double(), exact, rtol=5e-7, atol=0)


def test_constraints_are_infinite_outside() -> None:
    assert NonNegative()(torch.tensor([0.0, 1.0])) == 0
    assert NonNegative()(torch.tensor([-1e-9, 1.0])) == math.inf
    assert Box(0.0, 1.0)(torch.tensor([1.0, 1.1])) == math.inf
    assert eval(repr(NonNegative())) == NonNegative()
