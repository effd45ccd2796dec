r"""What a run reads: observations, background and start, checked against the prior and put in its time steps.

A run has a frame every ``step_s`` of the prior, from the first to the last observation. Observations may leave
frames out; they may not fall between frames. Context frames are those of a background (or of the start of a
forecast) that end one step before the first frame: as many as the network can see, without a gap.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from assimilation.fields.fields import Ensemble, Grid, Variable
from assimilation.inference.assimilator import Task
from assimilation.inference.lagrangian import Advection, advection_of
from assimilation.io.archive import read_ensemble
from assimilation.io.registry import read_any_fields
from assimilation.io.streams import read_observations
from assimilation.run.settings import ForecastSettings
from priors.card import Prior, PriorCard, TrajectoryCard
from priors.codec import FieldCodec
from priors.networks import SpaceTimeDiT
from priors.runtime.errors import InputError

# Largest difference of a grid's spacing from the prior's, as a share.
SPACING = 0.1
# Largest distance of a time from a whole number of steps, as a share of a step.
OFF_STEP = 0.01
NETWORK_FRAMES = 8


@dataclass(frozen=True, eq=False)
class Frames:
    """A run's place in time and space.

    Attributes:
        task: what is to be computed.
        times: of every frame, datetime64[ns].
        variables: of the state.
        grid: of the state.
        advection: motion along which a forecast is carried, None where it stays in place.
    """

    task: Task
    times: np.ndarray
    variables: tuple[Variable, ...]
    grid: Grid
    advection: Advection | None = None


def read_assimilation(observations: Path, background: Path | None, prior: Prior) -> Frames:
    """Read observations and, if there is one, a background.

    Raises:
        InputError: a file cannot be read or does not fit the prior.
    """
    card = trajectory_card(prior)
    variables = state_variables(prior.fields)
    known = None if background is None else _read(background, prior)
    grid = None if known is None else known.grid
    if grid is None and observations.suffix in (".csv", ".parquet"):
        grid = own_grid(prior.card)
    stream = read_observations(
        observations, grid=grid, variables=variables, step_s=card.step_s, spacing=card.spacing
    )
    check_variables(stream.variables, prior, source=str(observations))
    check_grid(stream.grid, prior, source=str(observations))
    step = np.timedelta64(round(card.step_s * 1e9), "ns")
    times, places = frames_of(stream.times, step, source=str(observations))
    context = None
    if known is not None:
        context = context_of(known, prior, step, before=times[0])
        if context is None:
            raise InputError(
                f"{background}: ends at {known.times[-1]}, expected a frame at {times[0] - step}, one step "
                "before the first observation"
            )
        check_counts(context, stream.trajectories, source=str(background))
    shape = (len(variables), *stream.grid.shape)
    task = Task(len(times), stream.trajectories, shape, stream, places, context)
    return Frames(task, times, variables, stream.grid)


def read_forecast(start: Path, prior: Prior, chosen: ForecastSettings) -> Frames:
    """Read the fields a forecast starts from: their last frames are its context.

    Raises:
        InputError: the file cannot be read, does not fit the prior, or motion cannot be told from it.
    """
    card = trajectory_card(prior)
    known = _read(start, prior)
    step = np.timedelta64(round(card.step_s * 1e9), "ns")
    first = known.times[-1] + step
    times = first + step * np.arange(chosen.frames)
    clean = clean_frames(known, prior, step, before=first, longest=chosen.context)
    if clean is None:
        raise InputError(f"{start}: the last frame is missing everywhere, expected a state to start from")
    advection = advection_of(clean, state_variables(prior.fields), known.grid, wanted=chosen.motion)
    if advection is not None:
        clean = advection.context(clean)
    shape = (len(known.variables), *known.grid.shape)
    task = Task(chosen.frames, len(clean), shape, context=prior.fields.encode(torch.from_numpy(clean)))
    return Frames(task, times.astype("datetime64[ns]"), known.variables, known.grid, advection)


def trajectory_card(prior: Prior) -> TrajectoryCard:
    """Return what a prior knows about time and space.

    Raises:
        InputError: it is a prior of slices.
    """
    if prior.card.trajectory is None:
        raise InputError(f"prior {prior.card.name!r}: found a prior of slices, expected one of trajectories")
    return prior.card.trajectory


def reach_of(prior: Prior) -> int:
    """Return how many frames before itself a frame sees in one layer of a prior's network."""
    network = prior.card.network
    return network.reach if isinstance(network, SpaceTimeDiT) else NETWORK_FRAMES


def frames_together(prior: Prior) -> int:
    """Return how many frames a reanalysis draws together, where nothing else is asked for."""
    return trajectory_card(prior).reanalysis or reach_of(prior)


def state_variables(codec: FieldCodec) -> tuple[Variable, ...]:
    """Return the variables of a prior's state."""
    return tuple(Variable(one.name, one.unit, one.standard_name, one.minimum) for one in codec.variables)


def check_variables(found: tuple[Variable, ...], prior: Prior, *, source: str) -> None:
    """Check names, order and units.

    Raises:
        InputError: they are not the prior's.
    """
    told, expected = (
        ", ".join(f"{one.name} [{one.unit}]" for one in some)
        for some in (found, state_variables(prior.fields))
    )
    if told != expected:
        raise InputError(f"{source}: found a state of {told}, prior {prior.card.name!r} expects {expected}")


def check_grid(grid: Grid, prior: Prior, *, source: str) -> None:
    """Check spacing, unit, periodicity and, where the prior is for one domain, the place.

    Raises:
        InputError: the grid is not one the prior knows.
    """
    card = trajectory_card(prior)
    name = f"prior {prior.card.name!r}"
    if grid.unit != card.spacing_unit:
        raise InputError(f"{source}: found a grid in {grid.unit!r}, {name} expects {card.spacing_unit!r}")
    for axis, own, known in zip(grid.names, grid.spacing, card.spacing, strict=True):
        if not abs(own - known) <= SPACING * known:
            raise InputError(
                f"{source}: {axis}: found a spacing of {own:g} {grid.unit}, {name} expects {known:g}"
            )
    if any(card.periodic) and (grid.periodic != card.periodic or grid.shape != tuple(prior.card.shape[-2:])):
        raise InputError(
            f"{source}: found {grid.shape[0]} x {grid.shape[1]} points, periodic {_words(grid.periodic)}; {name} "
            f"expects {prior.card.shape[-2]} x {prior.card.shape[-1]}, periodic {_words(card.periodic)}"
        )
    if card.extent is not None:
        own_extent = (grid.y[0], grid.y[-1], grid.x[0], grid.x[-1])
        if not np.allclose(own_extent, card.extent, rtol=0, atol=0.5 * max(card.spacing)):
            raise InputError(
                f"{source}: found the domain {_box(own_extent)}, {name} is for {_box(card.extent)} only"
            )


def own_grid(card: PriorCard) -> Grid:
    """Return the grid a prior was trained on, from 0 or from its extent on.

    Raises:
        InputError: the prior is for no particular place.
    """
    space = card.trajectory
    assert space is not None
    sphere = space.spacing_unit.startswith("degree")
    if space.extent is None and sphere:
        raise InputError(
            f"prior {card.name!r}: is for no particular domain, expected --background or a table that tells its grid"
        )
    starts = (0.0, 0.0) if space.extent is None else (space.extent[0], space.extent[2])
    y, x = (
        start + step * np.arange(count)
        for start, step, count in zip(starts, space.spacing, card.shape[-2:], strict=True)
    )
    return Grid(y, x, "sphere" if sphere else "plane", space.spacing_unit, space.periodic)


def frames_of(observed: np.ndarray, step: np.timedelta64, *, source: str) -> tuple[np.ndarray, list[int]]:
    """Return the times of a run and the index among ``observed`` of each, -1 where there is none.

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
    places = [-1] * (int(whole[-1]) + 1)
    for index, frame in enumerate(whole):
        places[frame] = index
    return (observed[0] + step * np.arange(len(places))).astype("datetime64[ns]"), places


def context_of(
    known: Ensemble, prior: Prior, step: np.timedelta64, *, before: np.datetime64
) -> Float[Tensor, "n m c k y x"] | None:
    """Return `clean_frames` in network units."""
    found = clean_frames(known, prior, step, before=before)
    return None if found is None else prior.fields.encode(torch.from_numpy(found))


def clean_frames(
    known: Ensemble, prior: Prior, step: np.timedelta64, *, before: np.datetime64, longest: int | None = None
) -> Float32[np.ndarray, "n m c k y x"] | None:
    """Return the frames directly before a time, None where the last one is absent.

    A value missing within a frame becomes the least physical value, or the frame's mean where there is none; a
    frame without any value ends the context.
    """
    reach = reach_of(prior)
    found: list[Float32[np.ndarray, "n m k y x"]] = []
    while len(found) < min(reach, longest or reach):
        wanted = before - step * (len(found) + 1)
        off = np.abs((known.times - wanted) / step)
        place = int(np.argmin(off))
        if off[place] > OFF_STEP or not np.isfinite(known.members[:, :, place]).any(axis=(-2, -1)).all():
            break
        found.insert(0, known.members[:, :, place])
    if not found:
        return None
    values = np.stack(found, axis=2)
    for k, variable in enumerate(prior.fields.variables):
        part = values[..., k, :, :]
        mean = np.nanmean(part, axis=(-2, -1), keepdims=True)
        fill = mean if variable.minimum is None else np.full_like(mean, variable.minimum)
        values[..., k, :, :] = np.where(np.isfinite(part), part, fill)
    return values


def check_counts(context: Tensor, trajectories: int, *, source: str) -> None:
    """Check that a background has one trajectory, or as many as the observations.

    Raises:
        InputError: it has another number.
    """
    if len(context) not in (1, trajectories):
        raise InputError(f"{source}: found {len(context)} trajectories, expected {trajectories}")


def _read(path: Path, prior: Prior) -> Ensemble:
    """Return fields or an ensemble that fit the prior."""
    if (path.is_dir() and (path / "config.yaml").exists()) or _is_archive(path):
        known = read_ensemble(path)
    else:
        fields = read_any_fields(path)
        known = Ensemble(
            fields.values[:, None], fields.times, fields.variables, fields.grid, fields.attributes
        )
    check_variables(known.variables, prior, source=str(path))
    check_grid(known.grid, prior, source=str(path))
    return known


def _is_archive(path: Path) -> bool:
    return path.suffix in (".nc", ".zarr")


def _words(periodic: tuple[bool, bool]) -> str:
    return " and ".join(name for name, yes in zip(("y", "x"), periodic, strict=True) if yes) or "nowhere"


def _box(extent: tuple[float, ...]) -> str:
    return f"{extent[0]:g} to {extent[1]:g} by {extent[2]:g} to {extent[3]:g}"
