r"""Noise levels of NERD that follow the scan.

What a scan leaves open is an error E in HU (`evidence`), what a prior leaves open at the noise level s an error e(s),
which grows like sqrt(s). The levels worth visiting are those where the two are of a size:

    e(start) = `START` E,      e(stop) = `STOP` E

The loop starts from a total-variation volume whose errors are structured: streaks, and false straight borders where no
view looked along. The network keeps what it takes for anatomy, so the noise of the first level must drown them; above
it calls are spent on what the start has already. Below the last level the network would be asked to tell details that
the data do not hold, and a state that is wrong by more than its noise is taken for noise-free: structures break up.

The shares were fitted on a training patient at 4, 8, 16 and 60 views and at a tenth of the dose, together with the
overestimate, the pull and the momentum, which move the best levels (docs/results/methods.md). Around them the result is
flat: a start half as large again changes less than 0.1 dB.

e(s) is the card's table of denoising errors on patients kept aside, interpolated in log-log; a prior without a table
gets that of ct-chest-256, 92 HU sqrt(s / 1000 HU).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from priors.card.description import PriorCard
from priors.codec import Codec
from recon.reconstructors.diffusion.data_term import NetworkUnits

Auto = Literal["auto"]
Number = TypeVar("Number", int, float)

START, STOP = 0.25, 0.07
LEAST_START_HU, LEAST_STOP_HU = 150.0, 10.0
MOST_START_HU, MOST_STOP_HU = 3000.0, 200.0
ERROR_AT_1000_HU = 92.0


@dataclass(frozen=True)
class Levels:
    """The first and the last noise level in HU."""

    start_hu: float
    stop_hu: float


def errors_of(card: PriorCard) -> dict[float, float]:
    """Return the deviation of a prior's estimate in HU by noise level in HU, as far as its card tells."""
    if not isinstance(card.codec, Codec):
        return {}
    hu = NetworkUnits.of(card.codec, unit=card.unit).hu
    # The card's PSNR is on [-1, 1], a range of 2 network units.
    return {level * hu: 2 * hu * 10 ** (-psnr / 20) for level, psnr in card.held_out_psnr.items()}


def choose(error_hu: float, errors_hu: Mapping[float, float]) -> Levels:
    """Return the levels for a scan.

    Args:
        error_hu: what the scan leaves open.
        errors_hu: deviation of the prior's estimate in HU by noise level in HU; empty where nobody measured it.
    """
    start, stop = (level_of(share * error_hu, errors_hu) for share in (START, STOP))
    # Two digits: what a person reads in the record is what was used.
    return Levels(
        float(f"{min(max(start, LEAST_START_HU), MOST_START_HU):.2g}"),
        float(f"{min(max(stop, LEAST_STOP_HU), MOST_STOP_HU):.2g}"),
    )


def level_of(error_hu: float, errors_hu: Mapping[float, float]) -> float:
    """Return the noise level in HU at which a prior's estimate is wrong by ``error_hu``."""
    if len(errors_hu) < 2:
        return 1000.0 * (error_hu / ERROR_AT_1000_HU) ** 2
    # Errors that do not grow with the level are the scatter of a small measurement: the largest so far stands.
    points: list[tuple[float, float]] = []
    for level, error in sorted(errors_hu.items()):
        if level > 0 and error > (points[-1][1] if points else 0.0):
            points.append((level, error))
    if len(points) < 2:
        return level_of(error_hu, {})
    above = next((k for k, (_, error) in enumerate(points) if error >= error_hu), len(points) - 1)
    (s0, e0), (s1, e1) = points[max(above, 1) - 1], points[max(above, 1)]
    slope = math.log(s1 / s0) / math.log(e1 / e0)
    return float(s0 * (error_hu / e0) ** slope)


def settled(value: Number | Auto) -> Number:
    """Return a setting that is a number by now.

    Raises:
        RuntimeError: it still waits for a scan, which is a mistake of the caller.
    """
    if isinstance(value, str):
        raise RuntimeError("this setting follows the scan: call resolved() first")
    return value
