"""Differences against NumPy, their adjoint against a dense matrix, norms against closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.operators.differences import Differences

SHAPE = (4, 5, 6)


def dense(operator: Differences) -> torch.Tensor:
    """Return the matrix of an operator, column by column."""
    count = int(np.prod(operator.domain))
    columns = [operator(unit.reshape(operator.domain)).reshape(-1) for unit in torch.eye(count).double()]
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_axis_is_numpys_difference(axis: int) -> None:
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(axis), dtype=torch.float64)
    found = Differences(SHAPE, axes=(axis,), weights=(0.5,))(x)
    assert np.array_equal(found.numpy(), 0.5 * np.diff(x.numpy(), axis=axis))


def test_several_axes_are_stacked_with_a_zero_at_the_end() -> None:
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = Differences(SHAPE, weights=(0.25, 1.0, 2.0))(x)
    for group, weight in enumerate((0.25, 1.0, 2.0)):
        last = np.take(x.numpy(), [-1], axis=group)
        assert np.array_equal(found[group].numpy(), weight * np.diff(x.numpy(), axis=group, append=last))


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    axes=st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=3, unique=True),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_adjoint_is_exact(shape: tuple[int, int, int], axes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    operator = Differences(shape, axes=axes, weights=[0.3 + a for a in axes])
    x = torch.randn(operator.domain, generator=generator, dtype=torch.float64)
    y = torch.randn(operator.range, generator=generator, dtype=torch.float64)
    left, right = float((operator(x) * y).sum()), float((x * operator.adjoint(y)).sum())
    # Sums of at most 3 * 125 products: round-off below 400 * 2^-53 of the norms.
    assert abs(left - right) <= 1e-13 * (float(x.norm()) * float(y.norm()) + 1)
    assert operator.T.T is operator


def test_norm_has_its_closed_form_and_stays_below_the_bound() -> None:
    for axis, n in enumerate(SHAPE):
        operator = Differences(SHAPE, axes=(axis,), weights=(1.5,))
        # Power iteration stops at a change of 1e-4 per step, from below.
        assert operator.norm() == pytest.approx(2 * 1.5 * np.cos(np.pi / (2 * n)), rel=5e-3)
    several = Differences(SHAPE, weights=(0.5, 1.0, 2.0))
    exact = float(torch.linalg.matrix_norm(dense(several), 2))
    assert exact < several.norm_bound() < 1.1 * exact


def test_any_strides_go_in_and_slice_last_memory_comes_out() -> None:
    x = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(2)).permute(2, 1, 0)
    operator = Differences(SHAPE)
    assert torch.equal(operator(x), operator(x.contiguous()))
    assert operator(x)[0].permute(1, 2, 0).is_contiguous()
    assert operator.adjoint(operator(x)).permute(1, 2, 0).is_contiguous()


def test_wrong_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected different axes"):
        Differences(SHAPE, axes=(0, 0))
    with pytest.raises(ValueError, match="one for each of"):
        Differences(SHAPE, axes=(0, 1), weights=(1.0,))
