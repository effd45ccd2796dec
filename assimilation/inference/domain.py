"""Whether a state fits a prior: variables, units, grid, time step and place."""

import numpy as np

from assimilation.fields.grid import Grid, Variable
from priors.card import Prior, PriorCard, TrajectoryCard
from priors.codec import FieldCodec
from priors.networks import SpaceTimeDiT
from priors.runtime.errors import InputError

# Largest difference of a grid's spacing from the prior's, as a share.
SPACING = 0.1
# Frames of context where the network does not say how far it sees.
NETWORK_FRAMES = 8


def trajectory_card(prior: Prior) -> TrajectoryCard:
    """Return what a prior knows about time and space.

    Raises:
        InputError: it is a prior of slices.
    """
    if prior.card.trajectory is None:
        raise InputError(f"prior {prior.card.name!r}: found a prior of slices, expected one of trajectories")
    return prior.card.trajectory


def step_of(prior: Prior) -> np.timedelta64:
    """Return the time between two frames of a prior.

    Raises:
        InputError: it is a prior of slices.
    """
    return np.timedelta64(round(trajectory_card(prior).step_s * 1e9), "ns")


def reach_of(prior: Prior) -> int:
    """Return how many frames before itself a frame sees in one layer of a prior's network."""
    network = prior.card.network
    return network.reach if isinstance(network, SpaceTimeDiT) else NETWORK_FRAMES


def reanalysis_frames(prior: Prior) -> int:
    """Return how many frames a reanalysis draws at once, where nothing else is asked for."""
    return trajectory_card(prior).reanalysis or reach_of(prior)


def state_variables(codec: FieldCodec) -> tuple[Variable, ...]:
    """Return the variables of a prior's state."""
    return tuple(Variable(one.name, one.unit, one.standard_name, one.minimum) for one in codec.variables)


def check_variables(variables: tuple[Variable, ...], prior: Prior, *, source: str) -> None:
    """Check names, order and units.

    Raises:
        InputError: they are not the prior's.
    """
    found, expected = (
        ", ".join(f"{one.name} [{one.unit}]" for one in state)
        for state in (variables, state_variables(prior.fields))
    )
    if found != expected:
        raise InputError(f"{source}: found a state of {found}, prior {prior.card.name!r} expects {expected}")


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
            f"{source}: found {grid.shape[0]} x {grid.shape[1]} points, periodic {_axes(grid.periodic)}; {name} "
            f"expects {prior.card.shape[-2]} x {prior.card.shape[-1]}, periodic {_axes(card.periodic)}"
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
            f"prior {card.name!r}: is for no particular domain, expected --background or a table that states its grid"
        )
    starts = (0.0, 0.0) if space.extent is None else (space.extent[0], space.extent[2])
    y, x = (
        start + step * np.arange(count)
        for start, step, count in zip(starts, space.spacing, card.shape[-2:], strict=True)
    )
    return Grid(y, x, "sphere" if sphere else "plane", space.spacing_unit, space.periodic)


def _axes(periodic: tuple[bool, bool]) -> str:
    return " and ".join(name for name, yes in zip(("y", "x"), periodic, strict=True) if yes) or "nowhere"


def _box(extent: tuple[float, ...]) -> str:
    return f"{extent[0]:g} to {extent[1]:g} by {extent[2]:g} to {extent[3]:g}"
