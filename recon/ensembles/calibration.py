r"""Which calibration a scan gets: rows of the prior's card, interpolated in log views per column and log dose.

A row holds for one method with one set of settings and one kind of orbit. Between rows log a, log rho and b are linear
in the logarithm of the views per column; beyond the last row they stay as they are up to a factor of 1.5, and over the
photons per ray likewise up to a factor of `DOSE_REACH`. Beyond that nothing is known, and the answer says why.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from priors.card.trust import NODES_HU, IntervalRow
from priors.runtime.run_folder.fingerprint import fingerprint
from recon.geometry.coverage import coverage
from recon.geometry.scan import ScanGeometry
from recon.reconstructors.diffusion.base import DiffusionReconstructor

VIEWS_REACH = 1.5
DOSE_REACH = 3.2
# What of a method's settings changes where or on what it runs, and not what it returns.
RUNNING = {"prior", "chunk", "device"}


@dataclass(frozen=True)
class Conditions:
    """What a calibration depends on.

    Attributes:
        method: its name.
        settings: hash of its settings, see `settings_hash`.
        views_per_column: of the scan.
        i0: photons per ray.
        orbit: see `orbit_kind`.
    """

    method: str
    settings: str
    views_per_column: float
    i0: float
    orbit: str


@dataclass(frozen=True)
class Scale:
    """How a deviation of draws becomes one of the mean's error.

    Attributes:
        a: factor of the whole body.
        b_hu: floor, HU.
        rows: of the card that were used.
        relative: factor of a at every node of HU.
    """

    a: float
    b_hu: float
    rows: tuple[IntervalRow, ...] = ()
    relative: tuple[float, ...] = (1.0,) * len(NODES_HU)

    def factor(self, hu: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Return a rho(h)."""
        found: Float[np.ndarray, ...] = self.a * np.interp(hu, NODES_HU, self.relative).astype(np.float32)
        return found


def settings_hash(method: DiffusionReconstructor) -> str:
    """Return a hash of the settings of a method that decide its result, the prior aside."""
    return fingerprint({"method": method.model_dump(exclude=RUNNING)})["method"][:16]


def orbit_kind(geometry: ScanGeometry) -> str:
    """Return the beam, with ``helix`` and ``limited angle`` where they apply: their null spaces are others."""
    seen = coverage(geometry)
    kind = str(geometry.beam)
    if not geometry.parallel and abs(seen.climb_mm) > 0:
        kind += ", helix"
    if seen.arc_deg < 180 + seen.fan_deg - 1.5 * seen.step_deg - 0.5:
        kind += ", limited angle"
    return kind


def find_scale(rows: Sequence[IntervalRow], now: Conditions) -> Scale | str:
    """Return the scale for some conditions, or the reason why the rows have none."""
    if not rows:
        return "the prior's card has no calibration"
    alike = [row for row in rows if row.method == now.method]
    if not alike:
        return f"the prior's card has no calibration of {now.method}"
    alike = [row for row in alike if row.orbit == now.orbit]
    if not alike:
        return f"the prior's card has no calibration of {now.method} for the orbit '{now.orbit}'"
    alike = [row for row in alike if row.settings == now.settings]
    if not alike:
        return f"the prior's card was calibrated with other settings of {now.method}"
    return _interpolated(alike, now)


def _interpolated(rows: Sequence[IntervalRow], now: Conditions) -> Scale | str:
    """Interpolate over views within every dose, then over doses."""
    doses = sorted({row.i0 for row in rows})
    at_dose: list[tuple[float, Scale]] = []
    why = ""
    for dose in doses:
        scale = _over_views([row for row in rows if row.i0 == dose], now.views_per_column)
        if isinstance(scale, str):
            why = scale
        else:
            at_dose.append((math.log(dose), scale))
    if not at_dose:
        return why
    log_dose, reach = math.log(now.i0), math.log(DOSE_REACH)
    if not at_dose[0][0] - reach <= log_dose <= at_dose[-1][0] + reach:
        low, high = (math.exp(at) for at in (at_dose[0][0], at_dose[-1][0]))
        return f"{now.i0:.3g} photons per ray, and the card's calibration is for {low:.3g} to {high:.3g}"
    return _between(log_dose, at_dose)


def _over_views(rows: Sequence[IntervalRow], views_per_column: float) -> Scale | str:
    ordered = sorted(rows, key=lambda row: row.views_per_column)
    low, high = ordered[0].views_per_column, ordered[-1].views_per_column
    # A few columns more or less of the same number of views are the same scan.
    if not low / VIEWS_REACH <= views_per_column <= high * VIEWS_REACH:
        return (
            f"{views_per_column:.3g} views per detector column, and the card's calibration is for {low:.3g} to "
            f"{high:.3g}"
        )
    known = [
        (math.log(row.views_per_column), Scale(row.a, row.b_hu, (row,), row.relative)) for row in ordered
    ]
    return _between(math.log(views_per_column), known)


def _between(at: float, known: Sequence[tuple[float, Scale]]) -> Scale:
    """Return log a and b interpolated at ``at``, held beyond the ends; the rows on both sides are named."""
    places = [place for place, _ in known]
    log_a = float(np.interp(at, places, [math.log(scale.a) for _, scale in known]))
    b_hu = float(np.interp(at, places, [scale.b_hu for _, scale in known]))
    above = int(np.clip(np.searchsorted(places, at), 0, len(known) - 1))
    below = above if places[above] == at else max(0, above - 1)
    used = {id(row): row for index in (below, above) for row in known[index][1].rows}
    nodes = zip(*(scale.relative for _, scale in known), strict=True)
    relative = tuple(float(np.exp(np.interp(at, places, np.log(values)))) for values in nodes)
    return Scale(math.exp(log_a), b_hu, tuple(used.values()), relative)
