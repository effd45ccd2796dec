r"""How honest intervals are: coverage and spread-skill ratio, whole, by region and by HU of the reference.

    coverage_90 = share of voxels with lower <= reference <= upper             0.9 where intervals are honest
    spread_skill = rms deviation / rmse of the mean                             1 where the deviation is honest

Regions are of the reference, inside the body: lung below -500 HU, soft tissue from -200 to 200, bone above 200, and
edges, where the in-plane gradient exceeds `EDGE_HU` per pixel; bins are of its HU. Regions of fewer than `FEWEST`
voxels are left out: a share of few says little.
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


def regions_of(reference: VolumeHU) -> dict[str, Mask]:
    """Return the regions of a reference in HU by name, NaN counting as outside.

    Raises:
        InputError: the reference shows no body.
    """
    known = np.isfinite(reference)
    values = np.where(known, reference, -1000.0)
    body = body_mask(values) & known
    dy, dx = np.gradient(values, axis=(1, 2))
    return {
        "body": body,
        "lung": body & (values < -500),
        "soft tissue": body & (np.abs(values) <= 200),
        "bone": body & (values > 200),
        "edges": body & (np.hypot(dy, dx) > EDGE_HU),
    }


def bins_of(reference: VolumeHU, body: Mask) -> dict[str, Mask]:
    """Return the bins of HU inside the body by name."""
    with np.errstate(invalid="ignore"):
        return {
            f"{low:.0f} to {high:.0f} HU": body & (reference >= low) & (reference < high)
            for low, high in pairwise(BINS_HU)
        }


def coverage(spread: Spread, reference: VolumeHU) -> dict[str, Any]:
    """Return ``coverage_90`` and ``spread_skill`` inside the body, and both ``by_region`` and ``by_hu``.

    Args:
        spread: of the reconstruction.
        reference: HU on the same grid, NaN where it has no value.

    Raises:
        InputError: the reference shows no body.
    """
    regions = regions_of(reference)
    whole = figures_of(spread, reference, regions["body"])
    named = {"by_region": regions, "by_hu": bins_of(reference, regions["body"])}
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
