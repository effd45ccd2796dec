r"""SIRT and its ordered subsets: preconditioned gradient steps on weighted least squares over a simple set.

    x <- P( x + T_k A_k.T W_k (y_k - A_k x) ),      T_k = r / (A_k.T W_k A_k 1)

for the subsets k of the rays in turn; one iteration passes every subset once. P is the proximal map of the simple
functional: the projection onto x >= 0, or nothing. A has no negative weights, so the diagonal 1 / T_k bounds
A_k.T W_k A_k from above (a separable surrogate), and without subsets the step converges for 0 < r < 2. W = 1 / (A 1)
makes it the classical SIRT, whose T is 1 over the column sums of A; W = inverse variances makes it a PWLS method.

Subsets speed the first iterations up by about their number, at the price that the iterates end on a cycle near the
minimum (of the size of the inconsistency between subsets) instead of on it. They are visited in bit-reversed order,
so that neighbours in time are far apart in angle.
Sources: Gregor and Benson, IEEE Transactions on Medical Imaging 27 (2008) 918; Erdogan and Fessler, Physics in
Medicine and Biology 44 (1999) 2835 (ordered subsets on separable surrogates).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from recon.solvers.base import IterativeMethod, State
from recon.solvers.functionals import Functional
from recon.solvers.least_squares import LeastSquares

# A voxel that a subset sees by less than this fraction of the mean is left alone by it.
LEAST_SEEN = 1e-3


@dataclass(frozen=True, eq=False)
class Subset:
    """Some of the rays with their steps.

    Attributes:
        term: A_k, y_k and the inverse variances that chi2 is counted with.
        metric: W_k.
        steps: 1 / (A_k.T W_k A_k 1), zero where the subset sees nothing.
    """

    term: LeastSquares
    metric: Float[Tensor, "*range"]
    steps: Float[Tensor, "*domain"]

    @classmethod
    def of(cls, term: LeastSquares, *, statistical: bool) -> "Subset":
        """Return the subset with W_k the inverse variances, or 1 / (A_k 1) on the rays that count."""
        ones = torch.ones(term.operator.domain, dtype=term.target.dtype, device=term.target.device)
        length = term.operator(ones)
        # A ray that only grazes the grid would get a weight without bound.
        least = LEAST_SEEN * float(length.max())
        metric = term.weights if statistical else (term.weights > 0) / length.clamp(min=max(least, 1e-30))
        curvature = term.operator.adjoint(metric * length)
        seen = curvature > LEAST_SEEN * float(curvature.mean())
        return cls(term, metric, torch.where(seen, 1 / torch.where(seen, curvature, ones), 0 * ones))


@dataclass(frozen=True, eq=False)
class SirtProblem:
    """The subsets and the simple functional.

    Attributes:
        subsets: in the order in which they are visited.
        simple: whose proximal map is P.
    """

    subsets: tuple[Subset, ...]
    simple: Functional


@dataclass(frozen=True)
class SirtState(State):
    """The iterate and the fit it was seen to have.

    Attributes:
        chi2: per ray, every subset's part measured just before its own step of the last iteration.
    """

    chi2: float


class Sirt(IterativeMethod[SirtProblem, SirtState]):
    """The iteration above.

    Attributes:
        relaxation: r.
    """

    state_class = SirtState
    relaxation: float = Field(1.0, gt=0, lt=2)

    def init(self, problem: SirtProblem, x0: Float[Tensor, "*shape"]) -> SirtState:
        """Start from ``x0``."""
        return SirtState(x0, 0, float("inf"), float("inf"))

    def step(self, problem: SirtProblem, state: SirtState) -> SirtState:
        """Pass every subset once."""
        x, misfit = state.x, 0.0
        for subset in problem.subsets:
            residual = subset.term.residual(x)
            misfit += subset.term.squared(residual)
            steps = self.relaxation * subset.steps
            x = problem.simple.prox(x + steps * subset.term.operator.adjoint(subset.metric * residual), steps)
        change = float((x - state.x).norm()) / max(float(x.norm()), 1e-30)
        rays = sum(int((subset.term.weights > 0).sum()) for subset in problem.subsets)
        return SirtState(x, state.iteration + 1, change, misfit / max(1, rays))

    def estimate(self, problem: SirtProblem, state: SirtState) -> Float[Tensor, "*shape"]:
        """Return x."""
        return state.x

    def figures(self, problem: SirtProblem, state: SirtState) -> dict[str, float]:
        """Return chi2 per ray and how much the last iteration moved x."""
        return {"chi2": state.chi2, "change": state.change}


def visiting_order(count: int) -> list[int]:
    """Return 0 to ``count`` - 1 in bit-reversed order: 0, 4, 2, 6, 1, 5, 3, 7 for eight."""
    bits = max(1, math.ceil(math.log2(count))) if count > 1 else 1
    reverse = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(1 << bits)]
    return [k for k in reverse if k < count]
