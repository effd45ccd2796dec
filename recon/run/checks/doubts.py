"""What a finished reconstruction says against itself: printed by the job, kept in ``metrics.json``, errors with
``--strict``.

Doubts about the scan are those of ``recon.inspect.warnings``; here are those about the result. Each is a rule with
honest exceptions, so the sentence says what was found and what it may mean.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from priors.runtime.terminal import visible
from recon.data.units import AIR_HU
from recon.data.volume import Volume

UNEXPLAINED = 10.0
"""Chi2 per ray above which a volume does not explain its data."""
FILTERED = 100.0
"""The same for filtered backprojection, which fits no data: few views alone leave tens."""
NEGATIVE = 0.1
"""Attenuation below this share of the volume's largest (its 99th percentile), negative, is more than noise ..."""
MANY = 0.05
"""... where this share of the voxels has it."""


def doubts_of(metrics: Mapping[str, Any], volume: Volume) -> tuple[str, ...]:
    """Return what is suspicious about a result, one sentence each."""
    sentences, chi2 = [], metrics["chi2_per_ray"]
    if chi2 is not None and chi2 > (FILTERED if metrics["method"] == "fbp" else UNEXPLAINED):
        sentences.append(
            f"chi2 per ray is {chi2:.4g}, noise alone leaves 1: the volume does not explain the data (rotation axis, "
            "geometry, truncation, scatter, or weights of the wrong scale)"
        )
    air = AIR_HU if volume.unit == "HU" else 0.0
    # Some planes, and some voxels of large ones: a share needs no more.
    planes, width = len(volume.values), min(volume.values.shape[1:])
    some = volume.values[:: max(1, planes // 16), :: max(1, width // 512), :: max(1, width // 512)]
    some = some - np.float32(air)
    largest = float(np.quantile(some, 0.99))
    if largest <= 0:
        sentences.append("the volume holds no positive attenuation")
        return tuple(sentences)
    share = float((some < -NEGATIVE * largest).mean())
    if share > MANY:
        sentences.append(
            f"{100 * share:.0f} % of voxels have negative attenuation, over {100 * NEGATIVE:.0f} % of the largest: "
            "flat field, rotation axis or truncation"
        )
    return tuple(sentences)


def say(doubts: Sequence[str]) -> None:
    """Print doubts on standard error."""
    for sentence in doubts:
        print(visible(f"warning: {sentence}"), file=sys.stderr)
