"""Starts of forecasts: absent frames and other steps are filled along the motion, what was never seen stays unknown."""

import numpy as np
import pytest

from assimilation.fields.fields import Ensemble, Grid, Variable
from assimilation.inference.lagrangian import Advection
from assimilation.inference.starts import never_seen, on_steps
from priors.runtime.errors import InputWarning

START = np.datetime64("2021-01-01", "ns")
MINUTE = np.timedelta64(60, "s")
GRID = Grid(np.arange(64.0), np.arange(64.0), "plane", "km")


def rain(minutes, speed=0.5):
    """Return a shower that moves ``speed`` cells a minute along x."""
    y, x = np.mgrid[:64, :64]
    frames = [12 * np.exp(-((x - 14 - speed * t) ** 2 + (y - 32) ** 2) / 60) for t in minutes]
    values = np.where(np.array(frames) < 0.1, 0, frames).astype(np.float32)[None, None, :, None]
    times = START + np.array(minutes) * MINUTE
    return Ensemble(values, times, (Variable("rain", "mm/h", "rainfall_rate", 0.0),), GRID)


def centre(frame):
    return float((frame * np.arange(64)).sum() / frame.sum())


@pytest.mark.parametrize(
    ("minutes", "filled"),
    [([0, 10, 20, 40], 1), ([0, 20, 40], 2), ([0, 6, 12, 18, 24, 30, 36], 2), ([0, 5, 15, 35], 1)],
)
def test_absent_frames_are_where_the_rain_was(minutes, filled):
    with pytest.warns(InputWarning, match=rf"{filled} of \d frames of the start are absent"):
        found = on_steps(rain(minutes), 10 * MINUTE, 4, source="start")
    assert found.times.size >= 3
    assert (np.diff(found.times) == 10 * MINUTE).all()
    expected = rain([int((time - START) / MINUTE) for time in found.times])
    for place in range(found.times.size):
        # The motion of a shower over 20 minutes is found to a fraction of a cell.
        own, true = found.members[0, 0, place, 0], expected.members[0, 0, place, 0]
        assert centre(own) == pytest.approx(centre(true), abs=0.4)
        assert own.max() == pytest.approx(12, rel=0.06)


def test_frames_that_are_there_are_not_touched():
    start = rain([0, 10, 20, 30])
    np.testing.assert_array_equal(on_steps(start, 10 * MINUTE, 4, source="start").members, start.members)


def test_an_hour_without_frames_ends_the_start():
    found = on_steps(rain([0, 60, 70]), 10 * MINUTE, 5, source="start")
    assert found.times.size == 2


def test_what_no_frame_has_seen_is_unknown_and_so_is_what_comes_from_there():
    start = rain([0, 10])
    start.members[..., :16] = np.nan
    start.members[:, :, 0, :, 40:] = np.nan
    unseen = never_seen(start)
    assert unseen[0, :, :16].all()
    assert not unseen[0, :, 16:].any()
    assert never_seen(rain([0, 10])) is None
    velocity = np.zeros((1, 1, 2, 64, 64))
    velocity[:, :, 1] = 4.0
    (mask,) = Advection(velocity).origins(unseen[0], 0, 1, members=1)
    # After two steps of four cells, what was never seen covers eight columns more.
    assert mask[:, 8:24].all()
    assert not mask[:, 24:].any()
