"""Primal-dual hybrid gradient: min_x  sum_i F_i(K_i x) + G(x)  with convex F_i, G.

With dual variables p_i and diagonal steps T (primal), S_i (dual), one iteration is

    x~   = prox_{T G}(x - T sum_i K_i.T p_i)
    p~_i = prox_{S_i F_i*}(p_i + S_i K_i (2 x~ - x))
    (x, p) <- (x, p) + r ((x~, p~) - (x, p)),      0 < r < 2

which converges when || S^(1/2) K T^(1/2) ||^2 < 1. The problem gives the shape of T and S_i; their size is
set here: the norm is bounded from above and the product of the steps is scaled to ``margin`` < 1. Longer
steps diverge, sometimes only after hundreds of iterations.
Sources: Chambolle and Pock 2011; Condat 2013 (relaxation); Pock and Chambolle 2011 (diagonal steps).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from priors.linalg import power_norm
from recon.operators.base import LinearOperator
from recon.solvers.base import IterativeMethod, State
from recon.solvers.functionals import Functional, Step


@dataclass(frozen=True, eq=False)
class Term:
    """One F(K x).

    Attributes:
        operator: K.
        functional: F.
        scale: relative dual steps S, a number or one per element of K's range.
    """

    operator: LinearOperator
    functional: Functional
    scale: Step = 1.0

    def advance(
        self, dual: Float[Tensor, "*range"], point: Float[Tensor, "*shape"], *, step: float, relaxation: float
    ) -> Float[Tensor, "*range"]:
        """Return the dual after its proximal step at the extrapolated ``point``, relaxed."""
        sigma = step * self.scale
        moved = self.functional.conjugate_prox(self.operator(point).mul_(sigma).add_(dual), sigma)
        return torch.lerp(dual, moved, relaxation)


@dataclass(frozen=True, eq=False)
class SaddleProblem:
    """The sum of terms and a simple functional.

    Attributes:
        terms: the F_i and K_i.
        simple: G.
        scale: relative primal steps T, a number or one per element of x.
        bound: upper bound of || S^(1/2) K T^(1/2) ||^2 where one is known; else it is measured.
    """

    terms: tuple[Term, ...]
    simple: Functional
    scale: Step = 1.0
    bound: float | None = None

    def gradient(self, duals: tuple[Tensor, ...]) -> Tensor:
        """Return sum_i K_i.T p_i."""
        total = self.terms[0].operator.adjoint(duals[0])
        for term, dual in zip(self.terms[1:], duals[1:], strict=True):
            total += term.operator.adjoint(dual)
        return total

    def objective(self, x: Float[Tensor, "*shape"]) -> float:
        """Return sum_i F_i(K_i x) + G(x)."""
        return sum(term.functional(term.operator(x)) for term in self.terms) + self.simple(x)

    def norm_squared(self, like: Float[Tensor, "*shape"]) -> float:
        """Return an upper bound of || S^(1/2) K T^(1/2) ||^2 for the relative steps.

        Without a ``bound`` it is the sum over the terms of norms found by power iteration. One iteration on
        all terms at once would settle on the projector's norm and miss that of differences, which is larger
        but belongs to rough vectors that start small.
        """
        if self.bound is not None:
            return self.bound
        root = self.scale**0.5
        noise = torch.rand(like.shape, generator=torch.Generator().manual_seed(0))
        # A projector's largest vector is positive, that of differences rough: positive noise has a part along both.
        start = torch.empty_like(like).copy_(noise + 0.5)
        total = 0.0
        for term in self.terms:

            def product(v: Tensor, term: Term = term) -> Tensor:
                return root * term.operator.normal(root * v, weights=term.scale)

            total += power_norm(product, start, iterations=500, tolerance=1e-6)
        return total


@dataclass(frozen=True)
class PdhgState(State):
    """Primal and dual iterates and the steps.

    Attributes:
        duals: p_i.
        step: factor of T and of every S_i.
        dual_change: |p - previous p| / |p|, the largest over the terms.
    """

    duals: tuple[Tensor, ...]
    step: float
    dual_change: float


class Pdhg(IterativeMethod[SaddleProblem, PdhgState]):
    """The iteration above.

    Attributes:
        margin: of the steps: || S^(1/2) K T^(1/2) ||^2 after scaling.
        relaxation: r.
    """

    state_class = PdhgState
    margin: float = Field(0.95, gt=0, lt=1)
    relaxation: float = Field(1.8, gt=0, lt=2)

    def init(self, problem: SaddleProblem, x0: Float[Tensor, "*shape"]) -> PdhgState:
        """Start from ``x0`` and zero duals, with the steps that the norm allows."""
        duals = tuple(torch.zeros_like(term.operator(x0)) for term in problem.terms)
        norm = problem.norm_squared(x0)
        step = (self.margin / norm) ** 0.5 if norm > 0 else 1.0
        return PdhgState(x0, 0, float("inf"), duals, step, float("inf"))

    def step(self, problem: SaddleProblem, state: PdhgState) -> PdhgState:
        """Take one iteration."""
        tau = state.step * problem.scale
        ahead = problem.simple.prox(state.x - tau * problem.gradient(state.duals), tau)
        mirrored = torch.sub(ahead, state.x).add_(ahead)
        duals, changes = [], []
        for term, dual in zip(problem.terms, state.duals, strict=True):
            duals.append(term.advance(dual, mirrored, step=state.step, relaxation=self.relaxation))
            changes.append(_relative_change(duals[-1], dual))
        x = torch.lerp(state.x, ahead, self.relaxation)
        change = _relative_change(x, state.x)
        return PdhgState(x, state.iteration + 1, change, tuple(duals), state.step, max(changes))

    def estimate(self, problem: SaddleProblem, state: PdhgState) -> Float[Tensor, "*shape"]:
        """Return x, brought back into the domain of G from which relaxation may have pushed it."""
        return problem.simple.prox(state.x, state.step * problem.scale)

    def figures(self, problem: SaddleProblem, state: PdhgState) -> dict[str, float]:
        """Return how much the last iteration moved x and the duals."""
        return {"change": state.change, "dual_change": state.dual_change}


def _relative_change(new: Tensor, old: Tensor) -> float:
    """Return |new - old| / |new|, in parts that fit the cache: a large temporary costs ten times as much."""
    axis = max(new.dim() - 2, 0)
    count = -(-new.shape[axis] // 8)
    pairs = zip(new.tensor_split(count, axis), old.tensor_split(count, axis), strict=True)
    return math.hypot(*(float((a - b).norm()) for a, b in pairs)) / max(float(new.norm()), 1e-30)
