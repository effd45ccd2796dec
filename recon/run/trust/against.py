r"""What the prior decided: the same scan reconstructed with another prior, and how far the two volumes are apart.

The data are the same, so what differs was put there by one prior or the other. Its share in the null space of the
projector, where no ray sees it, tells how much of it no measurement of this scan could have settled; the rest is how
far the priors pull against the data within their noise.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from priors.card import card_of_prior
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, RunContext, StepRecord
from recon.reconstructors.diffusion.base import DiffusionReconstructor
from recon.run.problem.pose import Problem
from recon.run.trust.draws import unseen_share
from recon.solvers.least_squares import LeastSquares

FILE = "against"
FAR = 0.99
Attenuation = Float[Tensor, "z y x"]


@dataclass(frozen=True)
class Pair:
    """Two reconstructions of one scan, 1/mm: with the prior of the settings, and with another."""

    first: Attenuation
    second: Attenuation


def solve_pair(problem: Problem, measurement: Measurement, projector: Projector, context: RunContext) -> Pair:
    """Reconstruct with both priors, with the same seed and settings; an interrupted pair goes on where it was.

    Raises:
        InputError: the method cannot work with this scan.
    """
    method = problem.settings.method
    assert isinstance(method, DiffusionReconstructor)
    # What follows scan and prior is settled anew: this is what one gets who has the other prior alone.
    asked = (problem.before or problem.settings).method
    named = asked.model_copy(update={"prior": problem.settings.against})
    other = named.resolved(measurement, projector) if named.automatic else named
    assert isinstance(other, DiffusionReconstructor)
    marks = [
        each.mark(measurement, projector, context, card_of_prior(each.prior), FILE)
        for each in (method, other)
    ]
    mark = "+".join(marks)
    done = None if context.checkpoint is None else context.checkpoint.companion(FILE)
    kept = None if done is None else done.load(mark, FILE)
    first = kept["first"] if kept is not None else method(measurement, projector, _half(context, 0))
    if done is not None and kept is None:
        done.offer({"first": first}, mark=mark, stage=FILE)
        done.save()
    return Pair(first, other(measurement, projector, _half(context, 1)))


def figures(problem: Problem, pair: Pair, measurement: Measurement, projector: Projector) -> dict[str, Any]:
    """Return what ``metrics.json`` says of the second volume and of the difference."""
    difference = pair.first - pair.second
    per_hu = measurement.mu_water / 1000
    squared = float(difference.square().mean(dtype=torch.float64))
    fit = LeastSquares(projector, measurement.sinogram, measurement.weights)
    with torch.no_grad():
        chi2 = fit.chi2(fit.residual(pair.second))
    return {
        "prior": card_of_prior(str(problem.settings.against)).name,
        "rms_hu": squared**0.5 / per_hu,
        "quantile_99_hu": float(torch.quantile(_some(difference.abs()), FAR)) / per_hu,
        "null_space_share": unseen_share(difference, projector),
        "chi2_per_ray": chi2,
    }


def fact(found: dict[str, Any]) -> str:
    """Return what stands under the heading of a report, and on the terminal."""
    return (
        f"{found['rms_hu']:.3g} HU rms from {found['prior']} (99 % within {found['quantile_99_hu']:.3g} HU), "
        f"{100 * found['null_space_share']:.1f} % of it where no ray sees it"
    )


def _some(values: Attenuation) -> Float[Tensor, "_"]:
    """Return at most 2^24 values, which is what torch finds a quantile of."""
    flat = values.flatten()
    return flat[:: max(1, -(-flat.numel() // 2**24))]


def _half(context: RunContext, number: int) -> RunContext:
    """Return the context of one of two reconstructions: its stage, its steps counted on."""

    def on_step(record: StepRecord) -> None:
        total = record.total
        if total is not None:
            record = replace(record, iteration=number * total + record.iteration, total=2 * total)
        context.on_step(record)

    return replace(context, on_step=on_step, stage=f"prior {number}")
