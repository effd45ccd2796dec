r"""Conjugate gradients on weighted least squares, without forming A.T W A.

    min over x   1/2 || W^(1/2) (A x - y) ||^2

    q = A p,   a = |s|^2 / (q.T W q),   x <- x + a p,   r <- r - a q,   s <- A.T W r,   p <- s + (|s'|^2 / |s|^2) p

with r = y - A x and s = A.T W r kept exactly by recurrence: one projection and one backprojection an iteration. The
iterates grow from large smooth structures to small ones, so stopping early is the only regularisation; by the
discrepancy principle it comes when chi2 / m reaches 1 (see ``least_squares``).
Source: Hestenes and Stiefel 1952; Bjorck, Numerical Methods for Least Squares Problems (1996), section 7.4.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from priors.linalg import inner
from recon.solvers.base import IterativeMethod, State
from recon.solvers.least_squares import LeastSquares


@dataclass(frozen=True)
class CglsState(State):
    """Iterate, residual and search direction.

    Attributes:
        residual: r = y - A x.
        direction: p.
        squared: |s|^2, the squared norm of the gradient.
        chi2: r.T W r per ray.
    """

    residual: Tensor
    direction: Tensor
    squared: float
    chi2: float


class Cgls(IterativeMethod[LeastSquares, CglsState]):
    """The iteration above."""

    state_class = CglsState

    def init(self, problem: LeastSquares, x0: Float[Tensor, "*shape"]) -> CglsState:
        """Start in the direction of steepest descent from ``x0``."""
        residual = problem.residual(x0)
        gradient = problem.pull(residual)
        chi2 = problem.chi2(residual)
        return CglsState(x0, 0, float("inf"), residual, gradient, inner(gradient, gradient), chi2)

    def step(self, problem: LeastSquares, state: CglsState) -> CglsState:
        """Take one iteration; at the minimum nothing moves any more."""
        image = problem.operator(state.direction)
        curvature = problem.squared(image)
        # Zero divided by zero otherwise: a start at the minimum, or a direction that no ray with a weight sees.
        if state.squared == 0 or curvature == 0:
            still = (state.residual, state.direction, state.squared, state.chi2)
            return CglsState(state.x, state.iteration + 1, 0.0, *still)
        length = state.squared / curvature
        x = state.x + length * state.direction
        residual = state.residual - length * image
        gradient = problem.pull(residual)
        squared = inner(gradient, gradient)
        direction = gradient + (squared / state.squared) * state.direction
        change = length * float(state.direction.norm()) / max(float(x.norm()), 1e-30)
        chi2 = problem.chi2(residual)
        return CglsState(x, state.iteration + 1, change, residual, direction, squared, chi2)

    def estimate(self, problem: LeastSquares, state: CglsState) -> Float[Tensor, "*shape"]:
        """Return x."""
        return state.x

    def figures(self, problem: LeastSquares, state: CglsState) -> dict[str, float]:
        """Return chi2 per ray and how much the last iteration moved x."""
        return {"chi2": state.chi2, "change": state.change}
