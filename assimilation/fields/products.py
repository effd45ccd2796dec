r"""What forecasters read from an ensemble: mean, deviation, probability-matched mean, probability of exceedance.

    mean          x(p) = 1/M sum_m x_m(p)                       smooth: few heavy cells, much drizzle
    matched       the values of all members, sorted, every M-th of them, in the order of the mean    (Ebert 2001)
    probability   P(p) = 1/M sum_m [x_m(p) >= threshold]

The matched mean has the places of the mean and the amounts of the members. It is not the mean of anything: for squared
errors the mean is better, for events of heavy rain the matched mean.
"""

import numpy as np
from jaxtyping import Float

from assimilation.fields.grid import Variable

RAIN_THRESHOLDS = (0.5, 1.0, 5.0)
"""mm/h: drizzle, rain, heavy rain."""
Members = Float[np.ndarray, "m y x"]
Plane = Float[np.ndarray, "y x"]


def thresholds_of(
    variables: tuple[Variable, ...], wanted: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    """Return the thresholds of a forecast: those wanted, or those of rain where the state is rain in mm/h."""
    if wanted is not None:
        return tuple(sorted(set(wanted)))
    return RAIN_THRESHOLDS if all(one.unit == "mm/h" for one in variables) else ()


def probability_matched_mean(members: Members) -> Plane:
    """Return the mean with the distribution of the members (Ebert 2001, Mon. Wea. Rev. 129, 2461).

    Args:
        members: physical values; a cell that one of them lacks is left out and NaN in the result.
    """
    known = np.isfinite(members).all(axis=0)
    mean = members.astype(np.float64).mean(axis=0)
    pooled = np.sort(members[:, known].astype(np.float64), axis=None)
    count = len(members)
    out = np.full(mean.shape, np.nan)
    # Of every M values of the pool one: the middle one, or the mean of the two in the middle.
    groups = pooled.reshape(-1, count)
    middle = 0.5 * (groups[:, (count - 1) // 2] + groups[:, count // 2])
    values = np.empty(len(middle))
    values[np.argsort(mean[known], kind="stable")] = middle
    out[known] = values
    return out


def exceedance(members: Members, threshold: float) -> Plane:
    """Return the share of members that reach a threshold, NaN where one has no value."""
    reached = (members >= threshold).mean(axis=0)
    return np.where(np.isfinite(members).all(axis=0), reached, np.nan)


def product_variables(variable: Variable, thresholds: tuple[float, ...]) -> tuple[Variable, ...]:
    """Return what `products` holds of a variable, in its order."""
    name, unit = variable.name, variable.unit
    of_value = [
        Variable(f"{name}_{kind}", unit, variable.standard_name, variable.minimum)
        for kind in ("mean", "matched_mean")
    ]
    deviation = Variable(f"{name}_deviation", unit, "", 0.0)
    return (
        *of_value,
        deviation,
        *(Variable(f"{name}_probability_{threshold:g}", "1", "", 0.0) for threshold in thresholds),
    )


def products(members: Members, thresholds: tuple[float, ...]) -> Float[np.ndarray, "k y x"]:
    """Return mean, matched mean, deviation (divisor m - 1) and probabilities of exceedance."""
    values = members.astype(np.float64)
    deviation = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])
    return np.stack(
        [
            values.mean(axis=0),
            probability_matched_mean(members),
            np.where(np.isfinite(values).all(axis=0), deviation, np.nan),
            *(exceedance(members, threshold) for threshold in thresholds),
        ]
    ).astype(np.float32)
