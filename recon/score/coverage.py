r"""How honest intervals are: coverage and spread-skill ratio, whole, by region and by HU of the reference.

    coverage_90 = share of voxels with lower <= reference <= upper             0.9 where intervals are honest
    spread_skill = rms deviation / rmse of the mean                             1 where the deviation is honest

Regions are those of the reconstruction, inside the body of the reference: lung below -500 HU, soft tissue from -200 to
200, bone above 200, and edges, where the in-plane gradient exceeds `EDGE_HU` per pixel. That is what a reader can point
at, and what an interval can be right about. The same by regions of the reference shows where the mean is biased: thin
bone that came out as soft tissue lies above its interval however honest that is. Regions of fewer than `FEWEST` voxels
are left out: a share of few says little.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from recon.score.metrics import body_mask

EDGE_HU = 100.0
FEWEST = 200
BINS_HU = (-1000.0, -900.0, -700.0, -300.0, -50.0, 50.0, 200.0, 2000.0)

VolumeHU = Float[np.ndarray, "z y x"]
Mask = Bool[np.ndarray, "z y x"]


@dataclass(frozen=True, eq=False)
class Spread:
    """Intervals of a reconstruction in HU.

    Attributes:
        mean: the reconstruction.
        deviation: of its error.
        lower: lower end of the 90 % interval.
        upper: its upper end.
    """

    mean: VolumeHU
    deviation: VolumeHU
    lower: VolumeHU
    upper: VolumeHU


def regions_of(shown: VolumeHU, reference: VolumeHU) -> dict[str, Mask]:
    """Return the regions of a volume by name, inside the body of a reference in HU; NaN counts as outside.

    Raises:
        InputError: the reference shows no body.
    """
    known = np.isfinite(reference)
    body = body_mask(np.where(known, reference, -1000.0)) & known
    values = np.where(np.isfinite(shown), shown, -1000.0)
    dy, dx = np.gradient(values, axis=(1, 2))
    return {
        "body": body,
        "lung": body & (values < -500),
        "soft tissue": body & (np.abs(values) <= 200),
        "bone": body & (values > 200),
        "edges": body & (np.hypot(dy, dx) > EDGE_HU),
    }


def bins_of(shown: VolumeHU, body: Mask) -> dict[str, Mask]:
    """Return the bins of HU inside the body by name."""
    with np.errstate(invalid="ignore"):
        return {
            f"{low:.0f} to {high:.0f} HU": body & (shown >= low) & (shown < high)
            for low, high in pairwise(BINS_HU)
        }


def coverage(spread: Spread, reference: VolumeHU) -> dict[str, Any]:
    """Return ``coverage_90`` and ``spread_skill`` of the body, and both ``by_region``, ``by_hu`` and ``by_reference``.

    Args:
        spread: of the reconstruction.
        reference: HU on the same grid, NaN where it has no value.

    Raises:
        InputError: the reference shows no body.
    """
    regions = regions_of(spread.mean, reference)
    body = regions["body"]
    whole = figures_of(spread, reference, body)
    named = {
        "by_region": regions,
        "by_hu": bins_of(spread.mean, body),
        "by_reference": regions_of(reference, reference),
    }
    return {
        **{key: whole[key] for key in ("coverage_90", "spread_skill")},
        **{
            kind: {
                name: figures_of(spread, reference, mask)
                for name, mask in masks.items()
                if mask.sum() >= FEWEST
            }
            for kind, masks in named.items()
        },
    }


def figures_of(spread: Spread, reference: VolumeHU, mask: Mask) -> dict[str, float]:
    """Return the figures of the voxels of a mask; the ratio of an exact mean is infinite and left at zero."""
    truth = reference[mask]
    error = np.sqrt(np.mean((spread.mean[mask] - truth) ** 2, dtype=np.float64))
    size = np.sqrt(np.mean(spread.deviation[mask] ** 2, dtype=np.float64))
    inside = (spread.lower[mask] <= truth) & (truth <= spread.upper[mask])
    return {
        "coverage_90": float(inside.mean()),
        "spread_skill": float(size / error) if error > 0 else 0.0,
        "rmse_hu": float(error),
        "bias_hu": float(np.mean(spread.mean[mask] - truth, dtype=np.float64)),
        "voxels": int(mask.sum()),
    }
