"""Inference schedules: properties of the staircase, and rows that follow it frame by frame."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from assimilation.inference.schedule import InferenceSchedule
from assimilation.run.settings import AssimilateSettings
from priors.card import Prior, find_prior, read_card
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.levels import NoiseSpacing
from priors.diffusion.schedule import EDM, VP, Cosine, Rectified

sizes = st.tuples(st.integers(1, 12), st.one_of(st.none(), st.integers(0, 6)), st.integers(1, 13))


@given(sizes)
@settings(max_examples=60, deadline=None)
def test_levels_fall_from_one_to_zero_in_steps_of_at_most_one(size):
    steps, lag, frames = size
    levels = InferenceSchedule(steps=steps, lag=lag).levels(frames)
    assert (levels[0] == 1).all()
    assert (levels[-1] == 0).all()
    change = (levels[:-1] - levels[1:]) * steps
    assert (change >= 0).all()
    # A step is a whole number; division and product round once each.
    assert (change <= 1 + 1e-12).all()


@given(sizes)
@settings(max_examples=60, deadline=None)
def test_exactly_lag_later_frames_are_in_flight_when_a_frame_ends(size):
    steps, lag, frames = size
    levels = InferenceSchedule(steps=steps, lag=lag).levels(frames)
    for k in range(frames):
        end = int((levels[:, k] == 0).nonzero()[0])
        later = levels[end, k + 1 :]
        if lag is None:
            assert (later == 0).all()
            continue
        # With fewer levels than frames in flight several frames would have to descend in the same row.
        if steps >= lag + 1:
            assert int(((later > 0) & (later < 1)).sum()) == min(lag, frames - 1 - k)


@given(sizes)
@settings(max_examples=50, deadline=None)
def test_rows_of_the_staircase_are_its_columns(size):
    steps, lag, frames = size
    schedule = InferenceSchedule(steps=steps, lag=lag)
    levels, seen = schedule.levels(frames), torch.ones(frames, dtype=torch.float64)
    done: list[int] = []
    number = 0
    for number, row in enumerate(schedule.rows(frames), start=1):
        flight = slice(row.first, row.first + len(row.before))
        torch.testing.assert_close(seen[flight], torch.tensor(row.before, dtype=torch.float64))
        seen[flight] = torch.tensor(row.after, dtype=torch.float64)
        torch.testing.assert_close(seen, levels[number])
        done += list(row.emit)
        assert (seen[: row.keep] == 0).all()
    assert done == list(range(frames))
    assert number == schedule.count(frames) == len(levels) - 1


@given(st.integers(1, 5), st.integers(0, 4), st.integers(0, 4), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_overlapping_windows_see_lag_later_frames_and_draw_the_overlap_again(steps, lag, overlap, frames):
    schedule = InferenceSchedule(steps=steps, lag=lag, overlap=overlap)
    done: list[int] = []
    finished = 0
    evaluations = 0
    for number, row in enumerate(schedule.rows(frames), start=1):
        assert row.first == finished
        assert (number % steps == 1 or steps == 1) == (len(row.fresh) == len(row.before))
        evaluations += len(row.before)
        assert len(row.before) <= schedule.largest(frames)
        if row.emit:
            last = row.first + len(row.before)
            assert last == min(frames, row.emit[0] + lag + 1)
            assert row.emit[0] - row.first == min(overlap, row.emit[0])
        done += list(row.emit)
        finished = row.keep
    assert done == list(range(frames))
    assert finished == frames
    assert evaluations == schedule.evaluations(frames)


def test_an_infinite_lag_over_many_frames_takes_windows_with_half_of_them_as_lag():
    schedule = InferenceSchedule(steps=2, lag=None, longest=8)
    emitted = [(row.emit, row.first + len(row.before)) for row in schedule.rows(21) if row.emit]
    assert [frame for emit, _ in emitted for frame in emit] == list(range(21))
    assert all(len(row.before) <= 8 for row in schedule.rows(21))
    for emit, last in emitted:
        assert last == 21 or last - 1 - emit[-1] >= 4
    assert schedule.count(21) == len(list(schedule.rows(21)))


def test_an_infinite_lag_has_no_overlap():
    with pytest.raises(ValidationError, match="overlap"):
        InferenceSchedule(lag=None, overlap=2)


@pytest.mark.parametrize("schedule", [Cosine(), VP(), EDM(), Rectified()], ids=lambda one: one.name)
def test_noise_levels_span_the_useful_range_and_never_name_a_finished_frame(schedule):
    levels = NoiseSpacing()(torch.arange(11) / 10, schedule)
    assert (levels.diff() > 0).all()
    ends = schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends[0] < levels[0] <= max(0.0021, 1.01 * float(ends[0]))
    assert float(levels[-1]) <= min(80.0, float(ends[1])) * (1 + 1e-9)
    # Time 0 is how a network knows a finished frame; no frame in flight may have it.
    assert (schedule.inverse(levels) > 0).all()


def test_the_card_says_which_noise_levels_an_assimilation_takes(tmp_path):
    card = read_card(find_prior("ns-vorticity-64"))
    narrow = card.trajectory.model_copy(update={"levels": NoiseSpacing(lowest=0.02, highest=5.0, rho=1.0)})
    denoiser = NetworkDenoiser(
        card.network.build(), schedule=card.schedule, parametrisation=card.parametrisation
    )
    priors = [
        Prior.assembled(denoiser, card.model_copy(update={"trajectory": t}))
        for t in (card.trajectory, narrow)
    ]
    settings = AssimilateSettings(prior="x")
    wide, own = (settings.assimilator(prior).model.noise_levels((1.0, 0.5, 0.0)) for prior in priors)
    torch.testing.assert_close(
        wide[[0, 2]], torch.tensor([80.0, 0.002], dtype=torch.float64), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(own, torch.tensor([5.0, 2.51, 0.02], dtype=torch.float64), rtol=1e-9, atol=0)
