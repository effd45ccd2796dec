"""Gross errors: rejected where they are beyond the limit, counted, and never where they are not."""

import numpy as np
import pytest
import torch

from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.point import Identity
from assimilation.observation.quality import CheckedStream
from assimilation.observation.stream import GriddedStream  # noqa: F401 (what is checked in runs)
from priors.runtime.errors import InputError, InputWarning


class Given(ObservationStream):
    def __init__(self, values):
        self.times, self.trajectories = np.arange(len(values)).astype("datetime64[h]"), 1
        self.variables, self.grid = (), None
        self._values = values

    def at(self, trajectory, index):
        values = torch.tensor(self._values[index], dtype=torch.float32)
        return Observation(values, torch.full_like(values, 0.25), Identity())


STATE = np.full((1, 1, 3), 280, np.float32)
DEVIATION = np.full((1, 1, 3), 2.0, np.float32)


def checked(values, limit=5.0):
    return CheckedStream(Given(values), STATE, DEVIATION, limit=limit, source="obs.csv")


def test_what_lies_within_the_limit_stays():
    # sqrt(0.25 + 4) = 2.06: 10.3 K at 5 standard deviations.
    stream = checked([[280, 290, 270], [281, 279, 290.2]])
    assert stream.rejected == 0
    assert stream.at(0, 1).values.tolist() == pytest.approx([281, 279, 290.2])


def test_what_lies_beyond_is_left_out_and_counted():
    with pytest.warns(InputWarning, match=r"2 of 6 observations rejected .*the worst is 320"):
        stream = checked([[280, 320, 270], [281, 269.0, 290.2]])
    found = stream.at(0, 0)
    assert found.values.tolist() == [280, 270]
    assert found.operator(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist() == [1, 3]
    assert stream.rejected == 2


def test_all_gross_errors_are_refused():
    with pytest.raises(InputError, match="all of 3 observations differ from the background"):
        checked([[380, 380, 380]])
