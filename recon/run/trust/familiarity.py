"""Whether a reconstruction is of something its prior knows: residual, data misfit, orientation, spacing and unit."""

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from priors.audits.familiarity import FIGURES, FLOORS, TURNED, residual, score, spread_slices
from priors.audits.verdict import Check, Verdict, score_check
from priors.card import Prior, PriorCard, open_prior
from priors.diffusion.denoiser import resolved_device
from recon.data.units import attenuation_to_hu
from recon.reconstructors.diffusion.base import DiffusionReconstructor
from recon.run.problem.pose import Problem

MISFIT, LOST = 2.0, 20.0
"""Chi2 per ray above which data and prior contradict each other, and above which they have nothing in common."""
SPACING = 0.01


def judged(
    problem: Problem, attenuation: Float[Tensor, "z y x"], *, chi2: float
) -> dict[str, dict[str, Any]]:
    """Return ``{"familiarity": ...}`` of a reconstruction with a diffusion prior, nothing of another."""
    method = problem.settings.method
    if not isinstance(method, DiffusionReconstructor):
        return {}
    prior = open_prior(method.prior, device=resolved_device(method.device).type, label=method.label)
    values = attenuation.detach().cpu().contiguous().numpy()
    return {"familiarity": familiarity(problem, values, prior, chi2=chi2)}


def familiarity(
    problem: Problem, attenuation: Float[np.ndarray, "z y x"], prior: Prior, *, chi2: float
) -> dict[str, Any]:
    """Return verdict, score and reasons.

    Args:
        problem: what was reconstructed.
        attenuation: the result, 1/mm.
        prior: that made it.
        chi2: per ray, of the result.
    """
    checks = [
        *_unit(problem, prior.card),
        *_spacing(problem, prior.card),
        *_orientation(problem),
        *_misfit(chi2),
    ]
    chosen = attenuation[spread_slices(len(attenuation))]
    values = attenuation_to_hu(chosen, problem.scan.mu_water) if prior.card.unit == "HU" else chosen
    found = residual(prior, values, seed=problem.settings.seed)
    section = prior.card.familiarity
    distance = None
    if found is None:
        checks.append(
            Check(
                "unknown",
                "no residual of the prior: no body in the volume, levels unknown, or several slices a call",
            )
        )
    elif section is None:
        checks.append(
            Check(
                "unknown",
                f"the card of prior {prior.card.name!r} does not say what it finds familiar "
                "(`tomocast calibrate PRIOR --patients PREPARED` measures it)",
            )
        )
    else:
        distance = score(found.figures, section.mean, section.deviation)
        parts = [
            abs(value - mean) / max(width, floor)
            for value, mean, width, floor in zip(
                found.figures, section.mean, section.deviation, FLOORS, strict=True
            )
        ]
        checks += score_check(distance, FIGURES[int(np.argmax(parts))])
    if found is not None and section is not None:
        checks += _turned(found.turned)
    return {
        **Verdict.of(checks, distance).metrics(),
        "figures": None if found is None else dict(zip(FIGURES, found.figures, strict=True)),
    }


def _unit(problem: Problem, card: PriorCard) -> list[Check]:
    if card.unit == "HU" and problem.scan.unit == "1/mm":
        return [
            Check(
                "unfamiliar",
                "the prior is in HU and the scan in 1/mm without the attenuation of water; "
                f"{problem.scan.mu_water:.4g} per mm was taken for it",
            )
        ]
    return []


def _spacing(problem: Problem, card: PriorCard) -> list[Check]:
    if card.pixel_mm is None:
        return []
    low, high = card.pixel_mm
    odd = [mm for mm in problem.grid.voxel_mm[1:] if not low * (1 - SPACING) <= mm <= high * (1 + SPACING)]
    if not odd:
        return []
    return [Check("unfamiliar", f"pixels of {odd[0]:.3g} mm, and the prior knows {low:.3g} to {high:.3g} mm")]


def _orientation(problem: Problem) -> list[Check]:
    """Judge by the patient's axes where the scan knows them: training slices are axial, with the front on top."""
    if np.allclose(problem.scan.frame, np.eye(4)):
        # A scanner's own millimetres say nothing about a patient.
        return []
    axes = problem.scan.affine(problem.grid)[:3, :3]
    directions = axes / np.linalg.norm(axes, axis=0)
    if abs(directions[2, 2]) < np.sqrt(0.5):
        return [Check("unfamiliar", "the slices are not axial, and the prior knows axial ones")]
    if directions[1, 1] > np.sqrt(0.5):
        return [Check("unfamiliar", "the slices lie upside down: their rows run from back to front")]
    if abs(directions[1, 1]) < np.sqrt(0.5):
        return [Check("unfamiliar", "the slices are turned by a quarter: their rows run from side to side")]
    return []


def _misfit(chi2: float) -> list[Check]:
    if chi2 <= MISFIT:
        return []
    return [
        Check(
            "do-not-believe" if chi2 > LOST else "unfamiliar",
            f"chi2 per ray is {chi2:.3g}: prior and data contradict each other, or geometry or weights are wrong",
        )
    ]


def _turned(ratios: tuple[float, float, float]) -> list[Check]:
    best = int(np.argmin(ratios))
    if ratios[best] >= 1 - TURNED:
        return []
    return [
        Check(
            "unfamiliar",
            f"turned by {90 * (best + 1)} degrees the slices are denoised {100 * (1 - ratios[best]):.0f} % better: "
            "they may lie the wrong way round",
        )
    ]
