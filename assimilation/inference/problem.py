r"""The problem an assimilation or a forecast solves: frames, observations of them, and the clean frames before them.

A problem has a frame every ``step_s`` of the prior, from the first to the last observation. Observations may leave
frames out; they may not fall between frames. Context frames are those of a background (or of the start of a
forecast) that end one step before the first frame: as many as the network can see, without a gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from assimilation.fields.fields import Ensemble
from assimilation.fields.grid import Grid, Variable
from assimilation.inference.domain import (
    check_grid,
    check_variables,
    reach_of,
    state_variables,
    step_of,
)
from assimilation.inference.lagrangian import RAIN, Advection, Draws, Members, advection_of
from assimilation.inference.starts import never_seen, on_steps
from assimilation.observation.base import ObservationStream
from priors.card import Prior
from priors.runtime.errors import InputError, warn

# Largest distance of a time from a whole number of steps, as a share of a step.
OFF_STEP = 0.01


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be estimated, and what is known about it.

    Attributes:
        times: of every frame, datetime64[ns].
        variables: of the state, along k.
        grid: of the state, along y and x.
        trajectories: independent trajectories with the same times.
        stream: observations; None for a forecast.
        stream_index: index in the stream of every frame, -1 where the stream has no such time.
        context: clean frames before the first one in network units, (n or 1, members or 1, c, k, y, x).
        advection: motion along which a forecast is carried, None where it stays in place.
        unseen: where the start of a forecast has never seen anything, None where it has everywhere.
        passive: observations that are not used, to verify with; None where there are none.
    """

    times: np.ndarray
    variables: tuple[Variable, ...]
    grid: Grid
    trajectories: int = 1
    stream: ObservationStream | None = None
    stream_index: Sequence[int] = ()
    context: Float[Tensor, "n m c k y x"] | None = None
    advection: Advection | None = None
    unseen: Bool[np.ndarray, "n y x"] | None = None
    passive: ObservationStream | None = None

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.times)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a state, (k, y, x)."""
        return (len(self.variables), *self.grid.shape)

    def states(self, members: Members, trajectory: int, frame: int, *, draws: Draws | None = None) -> Members:
        """Return the members of a finished frame as an analysis has them: carried along, NaN where nothing is known.

        What comes from a part that was never seen is not known either. ``draws``: see `Advection.carried`.
        """
        known = (
            members if self.advection is None else self.advection.carried(members, trajectory, frame, draws)
        )
        if self.unseen is None:
            return known
        unseen = self.unseen[trajectory % len(self.unseen)]
        if self.advection is None:
            return np.where(unseen, np.float32(np.nan), known)
        masks = self.advection.origins(unseen, trajectory, frame, members=len(members), draws=draws)
        return np.stack([np.where(masks[m] | unseen, np.float32(np.nan), one) for m, one in enumerate(known)])


def analysis_problem(
    stream: ObservationStream,
    prior: Prior,
    *,
    background: Ensemble | None = None,
    source: str = "observations",
    background_source: str = "background",
) -> Problem:
    """Return the problem of estimating every frame from the first observation to the last.

    Args:
        stream: the observations.
        prior: of trajectories.
        background: fields or members up to one step before the first observation, None for none.
        source: what messages call the observations.
        background_source: what messages call the background.

    Raises:
        InputError: state, grid, times or background do not fit the prior.
    """
    check_variables(stream.variables, prior, source=source)
    check_grid(stream.grid, prior, source=source)
    step = step_of(prior)
    times, index = frames_of(stream.times, step, source=source)
    context = None
    if background is not None:
        context = context_of(background, prior, step, before=times[0])
        if context is None:
            raise InputError(
                f"{background_source}: ends at {background.times[-1]}, expected a frame at {times[0] - step}, one "
                "step before the first observation"
            )
        if len(context) not in (1, stream.trajectories):
            raise InputError(
                f"{background_source}: found {len(context)} trajectories, expected {stream.trajectories}"
            )
    variables = state_variables(prior.fields)
    return Problem(times, variables, stream.grid, stream.trajectories, stream, index, context)


def forecast_problem(
    start: Ensemble,
    prior: Prior,
    *,
    frames: int,
    longest: int | None = None,
    motion: str = "auto",
    source: str = "start",
) -> Problem:
    """Return the problem of continuing a state: its last frames are the context.

    Args:
        start: fields or members.
        prior: of trajectories.
        frames: how many to forecast.
        longest: most frames of the start to use; None uses as many as the network can see.
        motion: ``none``, ``advect`` or ``auto``, see `advection_of`.
        source: what messages call the start.

    Raises:
        InputError: the start is missing everywhere, or motion cannot be told from it.
    """
    step = step_of(prior)
    variables = state_variables(prior.fields)
    moving = motion != "none" and not any(start.grid.periodic) and all(one.minimum == 0 for one in variables)
    if moving:
        reach = reach_of(prior)
        start = on_steps(start, step, min(reach, longest or reach), source=source)
    first = start.times[-1] + step
    times = (first + step * np.arange(frames)).astype("datetime64[ns]")
    clean = clean_frames(start, prior, step, before=first, longest=longest)
    if clean is None:
        raise InputError(f"{source}: the last frame is missing everywhere, expected a state to start from")
    unseen = never_seen(_last(start, clean.shape[2]))
    if unseen is not None:
        warn(
            f"{source}: {100 * float(unseen.mean()):.3g} % of the grid have a value in no frame of the start; the "
            "forecast is missing there"
        )
    advection = advection_of(clean, variables, start.grid, wanted=motion)
    if (
        advection is None
        and moving
        and motion == "auto"
        and all(one.standard_name in RAIN for one in variables)
    ):
        warn(
            f"{source}: found {clean.shape[2]} frame at steps of {step / np.timedelta64(1, 's'):g} s, too few to see "
            "motion: the forecast stays in place (--step chooses frames, more of them show motion)"
        )
    if advection is not None:
        clean = advection.context(clean)
    context = prior.fields.encode(torch.from_numpy(clean))
    return Problem(
        times, start.variables, start.grid, len(clean), context=context, advection=advection, unseen=unseen
    )


def _last(start: Ensemble, count: int) -> Ensemble:
    return replace(start, members=start.members[:, :, -count:], times=start.times[-count:])


def frames_of(observed: np.ndarray, step: np.timedelta64, *, source: str) -> tuple[np.ndarray, list[int]]:
    """Return the times of a problem and the index among ``observed`` of each, -1 where there is none.

    Raises:
        InputError: a time lies between two frames.
    """
    steps = (observed - observed[0]) / step
    whole = np.rint(steps).astype(int)
    if (np.abs(steps - whole) > OFF_STEP).any():
        wrong = observed[int(np.argmax(np.abs(steps - whole)))]
        raise InputError(
            f"{source}: time: found {wrong}, expected whole steps of {step / np.timedelta64(1, 's'):g} s from "
            f"{observed[0]} on (the prior's time step)"
        )
    indices = [-1] * (int(whole[-1]) + 1)
    for index, frame in enumerate(whole):
        indices[frame] = index
    return (observed[0] + step * np.arange(len(indices))).astype("datetime64[ns]"), indices


def context_of(
    known: Ensemble, prior: Prior, step: np.timedelta64, *, before: np.datetime64
) -> Float[Tensor, "n m c k y x"] | None:
    """Return `clean_frames` in network units."""
    clean = clean_frames(known, prior, step, before=before)
    return None if clean is None else prior.fields.encode(torch.from_numpy(clean))


def clean_frames(
    known: Ensemble, prior: Prior, step: np.timedelta64, *, before: np.datetime64, longest: int | None = None
) -> Float32[np.ndarray, "n m c k y x"] | None:
    """Return the frames directly before a time, None where the last one is absent.

    A value missing within a frame becomes the least physical value, or the frame's mean where there is none; a
    frame without any value ends the context.
    """
    reach = reach_of(prior)
    frames: list[Float32[np.ndarray, "n m k y x"]] = []
    while len(frames) < min(reach, longest or reach):
        wanted = before - step * (len(frames) + 1)
        off = np.abs((known.times - wanted) / step)
        index = int(np.argmin(off))
        if off[index] > OFF_STEP or not np.isfinite(known.members[:, :, index]).any(axis=(-2, -1)).all():
            break
        frames.insert(0, known.members[:, :, index])
    if not frames:
        return None
    values = np.stack(frames, axis=2)
    for k, variable in enumerate(prior.fields.variables):
        field = values[..., k, :, :]
        mean = np.nanmean(field, axis=(-2, -1), keepdims=True)
        fill = mean if variable.minimum is None else np.full_like(mean, variable.minimum)
        values[..., k, :, :] = np.where(np.isfinite(field), field, fill)
    return values
