"""Levels per frame: the staircase by its definition, the training sampler by its distribution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from priors.diffusion.levels import TrajectoryLevels, staircase


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.one_of(st.none(), st.integers(0, 12)), st.integers(1, 20))
def test_the_staircase_descends_from_noise_to_clean_by_single_steps(steps, lag, frames):
    rows = staircase(steps, lag, frames)
    assert rows.dtype == torch.float64
    assert torch.all(rows[0] == 1)
    assert torch.all(rows[-1] == 0)
    falls = (rows[:-1] - rows[1:]) * steps
    # Levels are whole multiples of 1 / steps: float64 rounds them by less than 1e-12.
    assert torch.all((falls.round() - falls).abs() < 1e-9)
    assert set(falls.round().int().flatten().tolist()) <= {0, 1}
    # Earlier frames are never noisier than later ones, and something happens in every row.
    assert torch.all(rows[:, :-1] <= rows[:, 1:])
    assert torch.all(falls.sum(1) > 0.5)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(0, 12), st.integers(1, 20))
def test_exactly_lag_later_frames_are_in_flight_when_a_frame_ends(steps, lag, frames):
    rows = staircase(steps, lag, frames)
    for k in range(frames):
        ends = int((rows[:, k] == 0).nonzero()[0])
        # In the row where frame k arrives, frames up to k + lag have begun; with as few steps as frames in
        # flight some offsets coincide or a start falls on this very row.
        begun = int((rows[ends, k + 1 :] < 1).sum())
        if steps % (lag + 1) == 0 and steps > lag + 1:
            assert begun == min(lag, frames - 1 - k)


def test_an_infinite_lag_lowers_all_frames_together():
    assert torch.equal(
        staircase(4, None, 3), torch.linspace(1, 0, 5, dtype=torch.float64)[:, None].expand(5, 3)
    )


def test_a_small_staircase_by_hand():
    # offsets floor(k 4 / 2) = 0, 2, 4
    expected = torch.tensor(
        [[4, 4, 4], [3, 4, 4], [2, 4, 4], [1, 3, 4], [0, 2, 4], [0, 1, 3], [0, 0, 2], [0, 0, 1], [0, 0, 0]]
    )
    assert torch.equal(staircase(4, 1, 3), expected.double() / 4)


def test_independent_levels_are_uniform_and_never_context():
    generator = torch.Generator().manual_seed(0)
    t, context = TrajectoryLevels(independent_share=1.0)(500, 8, generator=generator)
    assert stats.kstest(t.flatten().numpy(), "uniform").pvalue > 1e-3
    # Frames of one sample are independent: 4000 products, deviation of their correlation 1 / sqrt(3500).
    correlation = float(torch.corrcoef(torch.stack([t[:, :-1].flatten(), t[:, 1:].flatten()]))[0, 1])
    assert abs(correlation) < 4 / 3500**0.5
    assert not context.any()


def test_staircase_samples_are_rows_below_clean_context():
    generator = torch.Generator().manual_seed(1)
    levels = TrajectoryLevels(independent_share=0.0, steps=10, lags=(0, 2, None))
    t, context = levels(300, 6, generator=generator)
    assert torch.equal(context, t == 0)
    assert not context.all(1).any()
    allowed = {
        tuple([0.0] * c + row.tolist())
        for lag in levels.lags
        for c in range(6)
        for row in staircase(10, lag, 6 - c)
    }
    assert all(tuple(row.tolist()) in allowed for row in t)
    counts = (t == 0).sum(1)
    assert {0, 1, 2, 3, 4, 5} <= set(counts.tolist())


def test_shares_are_met_and_draws_repeat():
    levels = TrajectoryLevels(independent_share=0.7, context_share=1.0, lags=(None,))
    first = levels(2000, 4, generator=torch.Generator().manual_seed(2))[0]
    again = levels(2000, 4, generator=torch.Generator().manual_seed(2))[0]
    assert torch.equal(first, again)
    # With an infinite lag a staircase sample repeats one level above its context; an independent one never does.
    staircases = (first[:, -1:] == first).sum(1) > 1
    single = (first[:, :-1] == 0).all(1)
    share = float((~(staircases | single)).double().mean())
    assert share == pytest.approx(0.7, abs=4 * (0.21 / 2000) ** 0.5)
