"""Departures of a finished filter run from its observations: innovations, residuals, and those withheld."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float32

from assimilation.fields.streams import FieldStream
from assimilation.inference.domain import reach_of, trajectory_card
from assimilation.inference.one_ahead import one_ahead
from assimilation.inference.trajectory import TrajectoryModel
from assimilation.observation.base import Observation, ObservationOperator, ObservationStream
from assimilation.observation.places import SEVERAL, Places
from assimilation.verification.observation_errors import Samples
from priors.card import Prior

CHUNK = 8  # members whose next frame is computed at a time


@dataclass
class Collected:
    """Departures so far, and the places they are at.

    Attributes:
        places: index of every place by (variable, key along y, key along x).
        parts: arrays of the frames so far, in the order of the fields of `Samples`.
        spreads: (M + 1)/M var_m H(x_m) of each analysis.
    """

    places: dict[tuple[int, int, int], int] = field(default_factory=dict)
    parts: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    spreads: list[np.ndarray] = field(default_factory=list)

    def add(
        self,
        observation: Observation,
        where: Places,
        *,
        time: int,
        analysis: Float32[np.ndarray, "m k y x"],
        background: Float32[np.ndarray, "m k y x"] | None,
    ) -> None:
        """Add the departures of one frame; without a background the analysis is taken for one."""
        equivalent = _equivalents(observation.operator, analysis)
        before = equivalent if background is None else _equivalents(observation.operator, background)
        values = observation.values.double().numpy()
        valid = np.isfinite(equivalent).all(axis=0) & np.isfinite(before).all(axis=0)
        variable, place = self._known(observation.operator, where)
        count = len(equivalent)
        spread = equivalent.var(axis=0, ddof=1) * (count + 1) / count if count > 1 else np.zeros(values.shape)
        innovation, residual = values - before.mean(axis=0), values - equivalent.mean(axis=0)
        variance = observation.variance.double().numpy()
        times = np.full(values.shape, time)
        self.parts.append(
            tuple(each[valid] for each in (variable, place, times, innovation, residual, variance))
        )
        self.spreads.append(spread[valid])

    def samples(self) -> Samples:
        """Return all departures."""
        if not self.parts:
            return Samples(*(np.zeros(0, int) for _ in range(6)))
        return Samples(*(np.concatenate(column) for column in zip(*self.parts, strict=True)))

    def _known(self, operator: ObservationOperator, where: Places) -> tuple[np.ndarray, np.ndarray]:
        """Return variable and index of the place of every observation."""
        variable = where.variables(operator)
        y, x = where.keys(operator)
        keys = zip(variable.tolist(), y.tolist(), x.tolist(), strict=True)
        return variable, np.array([self.places.setdefault(key, len(self.places)) for key in keys], int)


def collected(
    stream: ObservationStream, analyses: FieldStream, prior: Prior, *, skip: int, blind: bool = False
) -> Collected:
    """Return the departures of observations from analyses and, one frame ahead of them, from their backgrounds.

    Args:
        stream: observations on the analyses' grid.
        analyses: of a filter, which at each time knows no later observation.
        prior: that made them.
        skip: first frames left out, beside the very first, which has no background.
        blind: the analyses have not seen these observations: they need no background.
    """
    model = TrajectoryModel(prior.denoiser, spacing=trajectory_card(prior).levels)
    where = Places((len(stream.variables), *stream.grid.shape))
    found = Collected()
    observed_at = {time: index for index, time in enumerate(stream.times)}
    for trajectory in range(stream.trajectories):
        past: deque[np.ndarray] = deque(maxlen=reach_of(prior))
        for frame, time in enumerate(analyses.times):
            analysis = analyses.read(trajectory, frame)
            known = observed_at.get(time)
            observation = None if known is None or frame < skip else stream.at(trajectory, known)
            if observation is not None and (blind or past):
                background = None if blind else _ahead(model, prior, np.stack(past, axis=1))
                found.add(observation, where, time=frame, analysis=analysis, background=background)
            past.append(analysis)
    return found


def of_variables(samples: Samples) -> list[int]:
    """Return the variables that were observed, `SEVERAL` last."""
    return sorted({*samples.variable.tolist()}, key=lambda k: (k == SEVERAL, k))


def _ahead(
    model: TrajectoryModel, prior: Prior, frames: Float32[np.ndarray, "m f k y x"]
) -> Float32[np.ndarray, "m k y x"]:
    chunks = [
        one_ahead(model, prior.fields, frames[first : first + CHUNK])
        for first in range(0, len(frames), CHUNK)
    ]
    return np.concatenate(chunks)


def _equivalents(operator: ObservationOperator, members: Float32[np.ndarray, "m k y x"]) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(operator(torch.from_numpy(members)).double().numpy())
