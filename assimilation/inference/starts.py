"""The frames a forecast starts from: at whole steps of the prior, and where they have never seen anything.

A frame that is absent at t, with the nearest ones at a and b around it, f = (t - a) / (b - a) and d the displacement
from a to b, is

    x(t, p) = (1 - f) x(a, p - f d) + f x(b, p + (1 - f) d)

Outages of radars and files of other steps (five or six minutes for a prior of ten) are filled so, up to
``LONGEST`` steps.
"""

import numpy as np
from jaxtyping import Bool

from assimilation.fields.fields import Ensemble
from assimilation.fields.times import SAME
from assimilation.inference.motion import cells, motion, sampled
from priors.runtime.errors import warn

LONGEST = 4.0  # steps between two frames across which one is still filled in


def on_steps(start: Ensemble, step: np.timedelta64, count: int, *, source: str) -> Ensemble:
    """Return the last frames of a start at whole steps before its end, those that are absent filled along the motion.

    Args:
        start: fields or members that are 0 where there is nothing, like rain.
        step: of the prior.
        count: most frames wanted.
        source: what warnings call the start.
    """
    held, members, filled = start.times, [], []
    wanted = [held[-1] - step * back for back in range(count)]
    usable = [k for k in range(held.size) if np.isfinite(start.members[:, :, k]).any(axis=(-2, -1)).all()]
    times = []
    for time in wanted:
        off = np.abs((held[usable] - time) / step) if usable else np.empty(0)
        if off.size and off.min() <= SAME:
            members.append(start.members[:, :, usable[int(np.argmin(off))]])
        else:
            between = _between(start, usable, time, step)
            if between is None:
                break
            members.append(between)
            filled.append(time)
        times.append(time)
    if filled:
        moments = ", ".join(str(time.astype("datetime64[s]"))[11:] for time in sorted(filled))
        warn(
            f"{source}: {len(filled)} of {len(times)} frames of the start are absent ({moments}); the motion fills them"
        )
    if not members:
        return start
    stacked = np.stack(members[::-1], axis=2)
    return Ensemble(stacked, np.array(times[::-1]), start.variables, start.grid, start.attributes)


def never_seen(start: Ensemble) -> Bool[np.ndarray, "n y x"] | None:
    """Return where no frame and no member of a start has a value of every variable; None where all is seen."""
    unseen = ~np.isfinite(start.members).all(axis=3).any(axis=(1, 2))
    return unseen if unseen.any() else None


def _between(
    start: Ensemble, usable: list[int], time: np.datetime64, step: np.timedelta64
) -> np.ndarray | None:
    """Return the members at a time between two frames, None where they are too far apart."""
    before = [k for k in usable if start.times[k] < time]
    after = [k for k in usable if start.times[k] > time]
    if not before or not after:
        return None
    a, b = before[-1], after[0]
    length = start.times[b] - start.times[a]
    if length / step > LONGEST:
        return None
    share = float((time - start.times[a]) / length)
    first, last = start.members[:, :, a], start.members[:, :, b]
    out = np.empty_like(first)
    for n, m in np.ndindex(first.shape[:2]):
        moved = motion(np.stack([first[n, m, 0], last[n, m, 0]]))
        points = cells(first.shape[-2:])
        for k in range(first.shape[2]):
            earlier = _sampled(first[n, m, k], points - share * moved)
            later = _sampled(last[n, m, k], points + (1 - share) * moved)
            both = (1 - share) * earlier + share * later
            # Where one of the two has not been seen, the other counts.
            out[n, m, k] = np.where(np.isnan(earlier), later, np.where(np.isnan(later), earlier, both))
    return out


def _sampled(plane: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return a plane at places, NaN where it is missing."""
    missing = ~np.isfinite(plane)
    values = sampled(np.where(missing, 0.0, plane), position)
    if not missing.any():
        return np.asarray(values)
    return np.where(sampled(missing.astype(float), position) > 0.5, np.nan, values)
