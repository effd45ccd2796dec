"""Forecasts in the frame of the rain: a prior that knows how rain grows and decays need not know how it travels.

    seen       x(t - j, p), j = 0 .. J, and the motion between them; d_n(p) as in ``assimilation.inference.motion``
    given      z(-j, p) = x(t - j, p - d_j(p))     the context, carried to the time of its last frame: rain stands still
    forecast   z(n, p), n = 1, 2, ...              by the prior, as if nothing moved
    result     x(t + n, p) = z(n, p - d_n(p))      carried on with the motion

Where p - d lies beyond the grid nobody has seen what comes in: there the context passes over to the last frame, and
the forecast to the prior's own value at p. Without motion all this is the plain forecast, bit for bit.

Members of an ensemble of rain (`Draws`) differ in what comes in, as they should: near the edge it is the mirror image
of what rains inside, further than a distance drawn for the member it is the rain of another place, drawn as well,

    z(n, q) = z(n, m(q)), q less than e beyond the edge;    z(n, m(q + a)) further out;    m reflects at the edges

so that as much rains out there as inside, with the same texture, travelling, and nobody claims to know where.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from assimilation.fields.grid import Grid, Variable
from assimilation.inference.motion import Places, beyond, cells, displaced, mirrored, motion, sampled
from priors.runtime.errors import InputError

EDGE_WIDTH = 3.0  # cells from the edge within which what was seen passes over into what was not
RAIN = ("rainfall_rate", "lwe_precipitation_rate")
"""Standard names of what ``auto`` takes for rain."""

Frames = Float32[np.ndarray, "n m f k y x"]
State = Float32[np.ndarray, "k y x"]
Members = Float32[np.ndarray, "m k y x"]


@dataclass(frozen=True, eq=False)
class Draws:
    """What members differ by when they are carried, in cells.

    Attributes:
        shifts: how far each goes beyond the motion seen, along y and x.
        offsets: a, where the rain that comes from far beyond the edge is taken from.
        reach: e, how far beyond the edge it is the mirror image of the rain inside.
    """

    shifts: Float[np.ndarray, "m 2"]
    offsets: Float[np.ndarray, "m 2"]
    reach: Float[np.ndarray, "m"]


class Advection:
    """The motion seen in the frames a forecast starts from, of every trajectory and every member of the start.

    Attributes:
        velocity: displacement per step in cells, (n, m, 2, y, x).
    """

    def __init__(self, velocity: Float[np.ndarray, "n m 2 y x"]) -> None:
        self.velocity = velocity
        # Trajectory, lead and displacements asked for last: those of the next lead follow from them.
        self._held: tuple[int, int, list[Places | None]] = (-1, 0, [])

    @staticmethod
    def seen(frames: Frames) -> "Advection":
        """Return the motion between frames in physical units, as the first variable shows it.

        Raises:
            InputError: there is one frame only.
        """
        velocity = np.stack([np.stack([motion(member[:, 0]) for member in members]) for members in frames])
        return Advection(velocity)

    def context(self, frames: Frames) -> Frames:
        """Return the frames, every one carried to the time of the last."""
        out = frames.copy()
        for n, m in np.ndindex(frames.shape[:2]):
            # From the last frame backwards: each displacement continues the one of the frame after it.
            displacement: Places | None = None
            for j in range(1, frames.shape[2]):
                displacement = displaced(self.velocity[n, m], 1, since=displacement)
                out[n, m, -1 - j] = moved(frames[n, m, -1 - j], displacement, elsewhere=frames[n, m, -1])
        return out

    def carried(self, members: Members, trajectory: int, frame: int, draws: Draws | None = None) -> Members:
        """Return the members of a frame, forecast in the frame of the rain, where the rain will be.

        Args:
            members: rain that stands still.
            trajectory: which one.
            frame: of the forecast.
            draws: what the members differ by; None carries all along the motion seen, into places as they are.
        """
        displacements = self._of_members(trajectory, frame, len(members), draws)
        if draws is None:
            states = [
                moved(state, displacement, elsewhere=state)
                for state, displacement in zip(members, displacements, strict=True)
            ]
        else:
            each = zip(members, displacements, draws.offsets, draws.reach, strict=True)
            states = [_entered(*one) for one in each]
        return np.stack(states)

    def origins(
        self,
        mask: Bool[np.ndarray, "y x"],
        trajectory: int,
        frame: int,
        *,
        members: int,
        draws: Draws | None = None,
    ) -> list[np.ndarray]:
        """Return, for every member, which cells of a forecast frame come from the marked cells."""
        marked = []
        for displacement in self._of_members(trajectory, frame, members, draws):
            origin = cells(mask.shape) - displacement
            # Nearest neighbour, 0 outside: a mask has no values between, and beyond the grid nothing is marked.
            came = ndimage.map_coordinates(mask.astype(np.uint8), origin, order=0, mode="constant", cval=0)
            marked.append(came > 0)
        return marked

    def mean(self, trajectory: int) -> Float[np.ndarray, "m 2"]:
        """Return the mean displacement per step of every member of the start, in cells."""
        own = self.velocity[trajectory % len(self.velocity)]
        return np.asarray(own.mean(axis=(-2, -1)))

    def description(self, grid: Grid) -> str:
        """Return the mean speed in words."""
        size = np.asarray(grid.spacing)[:, None, None]
        speed = float(np.hypot(*np.moveaxis(self.velocity * size, 2, 0)).mean())
        return f"motion: {speed:.3g} {grid.unit} per step on average, seen in the start"

    def _of_members(self, trajectory: int, frame: int, count: int, draws: Draws | None) -> list[Places]:
        """Return d of every member of a forecast; the members of the start serve all in turn."""
        seen = self._displacements(trajectory, frame + 1)
        each = [seen[member % len(seen)] for member in range(count)]
        if draws is None:
            return each
        return [one + shift[:, None, None] for one, shift in zip(each, draws.shifts, strict=True)]

    def _displacements(self, trajectory: int, lead: int) -> list[Places]:
        """Return d of every member of the start."""
        own = self.velocity[trajectory % len(self.velocity)]
        held, before, since = self._held
        # Displacements follow from those of an earlier lead only; an earlier lead than the last one starts again.
        if held != trajectory or before > lead:
            before, since = 0, [None] * len(own)
        displacements = [displaced(v, lead - before, since=d) for v, d in zip(own, since, strict=True)]
        self._held = (trajectory, lead, [*displacements])
        return displacements


def moved(state: State, displacement: Places, *, elsewhere: State) -> State:
    """Return what has come by a displacement.

    From the edge on, what has come from beyond the grid passes over from the edge's value to ``elsewhere``.
    """
    # Without motion the state itself, so that the forecast is the plain one bit for bit.
    if not displacement.any():
        return state
    origin = cells(state.shape[1:]) - displacement
    # A weight that decays beyond the edge, not a step: a jump in the field would look like a front to the prior.
    seen = np.exp(-beyond(origin) / EDGE_WIDTH)
    arrived = np.stack([sampled(plane, origin) for plane in state])
    blended: State = (seen * arrived + (1 - seen) * elsewhere).astype(np.float32)
    return blended


def _entered(
    state: State, displacement: Places, offset: Float[np.ndarray, "2"], reach: float | np.floating
) -> State:
    """Return what has come by a displacement, with what comes in from beyond the grid as `Draws` say."""
    if not displacement.any():
        return state
    origin = cells(state.shape[1:]) - displacement
    distance = beyond(origin)
    near = np.stack([sampled(plane, mirrored(origin, plane.shape)) for plane in state])
    if not (distance > 0).any():
        return near.astype(np.float32)
    other = mirrored(origin + np.asarray(offset)[:, None, None], state.shape[1:])
    far = np.stack([sampled(plane, other) for plane in state])
    # Over about a cell each side of the distance: a jump would be a front that nobody saw.
    share = np.where(distance > 0, 1 / (1 + np.exp(np.minimum(distance - reach, 50))), 1.0)
    blended: State = (share * near + (1 - share) * far).astype(np.float32)
    return blended


def advection_of(
    frames: Frames, variables: tuple[Variable, ...], grid: Grid, *, wanted: str
) -> Advection | None:
    """Return the motion a forecast takes into account, None for a forecast in fixed places.

    Args:
        frames: of the start, physical.
        variables: of the state.
        grid: of the state.
        wanted: ``none``, ``advect``, or ``auto``: ``advect`` where the state is rain and motion can be seen.

    Raises:
        InputError: ``advect`` was asked for and the state, the grid or the number of frames does not allow it.
    """
    if wanted == "none":
        return None
    reasons = [*_against(frames, variables, grid)]
    if wanted == "auto" and (reasons or not all(one.standard_name in RAIN for one in variables)):
        return None
    if reasons:
        raise InputError(f"motion=advect: {reasons[0]}; motion=none forecasts in fixed places")
    return Advection.seen(frames)


def _against(frames: Frames, variables: tuple[Variable, ...], grid: Grid) -> Iterator[str]:
    """Yield what speaks against motion: what was found, what is expected."""
    if frames.shape[2] < 2:
        yield f"found {frames.shape[2]} frame to start from, expected two or more to see motion"
    if any(grid.periodic):
        yield "found a periodic grid, expected one that ends on every side"
    odd = [f"{one.name} [{one.unit}]" for one in variables if one.minimum != 0]
    if odd:
        yield f"found a state of {', '.join(odd)}, expected variables that are 0 where there is nothing, like rain"
