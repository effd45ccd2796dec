r"""The two ways NERD makes a network estimate agree with the data at one noise level.

``cg``, Jacobian-free: X0 = f(u) once, then conjugate gradients on

    (A.T W A + [rho] D.T D + g I) X = A.T W y - D.T q_0 + g X0,      g = pull / v(s)

where v(s) is the squared error a denoiser leaves at level s, min(s^2, error_hu^2): the network's estimate is treated as
a second measurement of that variance. This is DDS (Chung et al., ICLR 2024) with a matched adjoint, PWLS weights and a
non-periodic D.

``vjp``, through the network: with X0 = f(V),

    c = A.T W (A X0 - y) + D.T q,       grad_V = J_f(V).T c + lambda (V - u)

so V moves and f(V) stays in the network's range (SITCOM, ICML 2025; NERD, arXiv 2511.14680). V is kept in
u-coordinates, where ||J_f|| is of order one at every level; in x_t it grows like 1 / alpha.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from recon.reconstructors.diffusion.coupling import Duals
from recon.reconstructors.diffusion.problem import NerdProblem

Volumes = Float[Tensor, "z y x"]


@dataclass(frozen=True)
class Refined:
    """Result of one noise level: estimate, the point the noise is read from, duals, figures."""

    x: Volumes
    noise: Volumes
    duals: Duals
    figures: dict[str, float]


class CgRefinement(BaseModel):
    """Jacobian-free refinement.

    Attributes:
        iterations: conjugate-gradient steps per level.
        sweeps: alternations of CG and dual update per level.
        pull: weight of the network's estimate relative to a measurement of variance v(s); 1 is the Bayesian choice for
            white errors, smaller trusts the data more.
        error_hu: deviation of the denoiser's error at large levels.
        overestimate: the network is told a noise level this much larger than the noise that was added, because the
            estimate's own error (streaks of few views) is in the state too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: int = Field(12, ge=1)
    sweeps: int = Field(1, ge=1)
    pull: float = Field(0.05, gt=0)
    error_hu: float = Field(200.0, gt=0)
    overestimate: float = Field(6.0, ge=1)

    def __call__(self, problem: NerdProblem, u: Volumes, duals: Duals, level: float) -> Refined:
        """Refine the state ``u`` (u-coordinates) at noise level ``level``."""
        estimate = problem.denoise(u, self.overestimate * level)
        # CG starts from the estimate: what few iterations cannot reach stays the network's, not zero.
        x, figures = estimate, {}
        for _ in range(self.sweeps):
            x = self.solve(problem, estimate, duals, start=x, level=level)
            figures["dual_residual"] = problem.dual_residual(duals, x)
            duals = problem.update_duals(duals, x, convexity=self._weight(level, problem.hu))
        figures["chi2"] = problem.data.chi2(problem.data.residual(x))
        return Refined(x, (u - estimate) / level, duals, figures)

    def _weight(self, level: float, hu: float) -> float:
        """Return g, the inverse variance given to the network's estimate, in network units of so many HU."""
        return self.pull / min(level**2, (self.error_hu / hu) ** 2)

    def solve(
        self, problem: NerdProblem, estimate: Volumes, duals: Duals, *, start: Volumes, level: float
    ) -> Volumes:
        """Return the minimiser around ``estimate``, see `NerdProblem.data_solve`."""
        weight = self._weight(level, problem.hu)
        return problem.data_solve(estimate, duals, start=start, weight=weight, iterations=self.iterations)


class VjpRefinement(BaseModel):
    """Refinement through the network, by gradient steps on the network's input.

    Attributes:
        iterations: largest number of inner steps per level.
        step: ``adam``, or ``condat``, gradient steps of the parameter-free length 1 / (L_A + lambda + 4 rho) with
            L_A = ||W^(1/2) A||^2, which converges when ||J_f|| <= 1.
        learning_rate_hu: Adam's, but at most a fifth of the noise level: longer steps leave the
            neighbourhood in which the network was told to denoise.
        forward_weight: lambda, the pull of V toward the diffusion state, in inverse variance per (1000 HU)^2.
        overestimate: as in `CgRefinement`.
        polish: a last solve around f(V), as a measurement of deviation ``polish.error_hu``; None leaves f(V) as it is.
        kappa: data are fitted when chi2 <= kappa^2 per ray.
        dual_tolerance: the coupling is settled when its relative residual is below this.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: int = Field(5, ge=1)
    step: Literal["adam", "condat"] = "adam"
    learning_rate_hu: float = Field(5.0, gt=0)
    forward_weight: float = Field(0.0, ge=0)
    overestimate: float = Field(2.5, ge=1)
    polish: CgRefinement | None = CgRefinement(iterations=10, pull=1.0, error_hu=50.0)
    kappa: float = Field(1.02, gt=0)
    dual_tolerance: float = Field(1e-2, gt=0)

    def __call__(self, problem: NerdProblem, u: Volumes, duals: Duals, level: float) -> Refined:
        """Refine the state ``u`` (u-coordinates) at noise level ``level``."""
        point, moments = u, (torch.zeros_like(u), torch.zeros_like(u))
        chi2 = dual_residual = float("inf")
        told = self.overestimate * level
        forward_weight = self.forward_weight * (problem.hu / 1000) ** 2
        for count in range(1, self.iterations + 1):
            x = problem.denoise(point, told)
            residual = problem.data.residual(x)
            chi2, dual_residual = problem.data.chi2(residual), problem.dual_residual(duals, x)
            # Adam's steps are long, so PDHG's dual moves slowly: with its full step it oscillates.
            duals = problem.update_duals(duals, x, convexity=0.1 * problem.coupling.rho)
            if chi2 <= self.kappa**2 and dual_residual <= self.dual_tolerance:
                break
            cotangent = problem.data.gradient(residual) + problem.pull(duals, x)
            gradient = problem.vjp(point, cotangent, told) + forward_weight * (point - u)
            point = point - self._move(problem, gradient, moments, count=count, level=level)
        x = problem.denoise(point, told)
        # The noise is read off before the polish, which leaves the network's range.
        noise = (point - x) / level
        if self.polish is not None:
            x = self.polish.solve(problem, x, duals, start=x, level=self.polish.error_hu / problem.hu)
            chi2 = problem.data.chi2(problem.data.residual(x))
        figures = {"chi2": chi2, "dual_residual": dual_residual, "inner_steps": float(count)}
        return Refined(x, noise, duals, figures)

    def _move(
        self,
        problem: NerdProblem,
        gradient: Volumes,
        moments: tuple[Volumes, Volumes],
        *,
        count: int,
        level: float,
    ) -> Volumes:
        """Return the step along ``gradient``; Adam's moments (0.9, 0.999) are updated in place."""
        if self.step == "condat":
            curvature = problem.coupling.curvature() if problem.coupled else 0.0
            forward_weight = self.forward_weight * (problem.hu / 1000) ** 2
            return gradient / (problem.data.curvature() + forward_weight + curvature)
        first, second = moments
        first.lerp_(gradient, 0.1)
        second.lerp_(gradient**2, 0.001)
        scale = (second / (1 - 0.999**count)).sqrt_().add_(1e-8)
        # Adam's step has the size of the rate whatever the gradient's, so the level alone must bound it.
        rate = min(self.learning_rate_hu / problem.hu, 0.2 * level)
        return rate / (1 - 0.9**count) * first / scale
