r"""How the error of a total-variation reconstruction changes with its weights, without solving it again.

At the minimiser x*(t) of F(x, t) the derivative of F along the voxels that are free (above zero) vanishes, so

    dx*/dt = -H^(-1) d(grad F)/dt,    H = A.T W A + lambda D.T B D

and for the mean squared error E = mean (x* - r)^2 one solve with H serves all settings t:

    H p = dE/dx,      dE/dt = -<p, d(grad F)/dt>

Total variation is not smooth: a group v of differences of length n has the curvature (1 - v v.T / n^2) / n, an infinite
one where n = 0, which keeps flat what is flat. n is replaced by max(n, eps) with eps `FLAT` of the mean
attenuation: groups below it are as good as flat. H is positive definite where the data see everything; conjugate
gradients solve it to a relative residual that the caller tightens as its search converges (MAID, Salehi et al., 2024).
Sources: implicit differentiation, Ehrhardt and Roberts (2021), arXiv 2106.03721; Deledalle et al. (2014).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from priors.linalg import cg, inner
from recon.operators.base import LinearOperator
from recon.operators.differences import Differences
from recon.reconstructors.base import Measurement
from recon.reconstructors.tv import TV
from recon.solvers.functionals import L21

Volumes = Float[Tensor, "z y x"]
KEYS = ("weight", "slice_coupling")
FLAT = 1e-3
STEP = 1e-4


@dataclass(frozen=True)
class Sensitivity:
    """Derivatives of E at a reconstruction.

    Args:
        method: whose settings; its minimiser is ``x``.
        measurement: y and W.
        projector: A.
        x: the reconstruction in 1/mm.
    """

    method: TV
    measurement: Measurement
    projector: LinearOperator
    x: Volumes

    def of(self, gradient: Volumes, keys: tuple[str, ...], *, tolerance: float = 1e-3) -> dict[str, float]:
        """Return dE/dt for settings of `KEYS`, given dE/dx.

        Args:
            gradient: dE/dx at ``x``.
            keys: settings that are above zero.
            tolerance: relative residual of the solve.
        """
        free = (self.x > 0).to(self.x.dtype)
        with torch.no_grad():
            operator, weight = self._variation(self.method)
            groups = operator(self.x)
            length = groups.square().sum(0).sqrt()
            floor = length.clamp(min=FLAT * float(self.x.mean()))
            unit = torch.where(length > floor * (1 - 1e-6), groups / floor, torch.zeros_like(groups))

            def curvature(v: Volumes) -> Volumes:
                d = operator(free * v)
                bent = (d - unit * (unit * d).sum(0)) / floor
                data = self.projector.normal(free * v, weights=self.measurement.weights)
                return free * (data + weight * operator.adjoint(bent))

            p = cg(curvature, free * gradient, iterations=1000, tolerance=tolerance)
            return {key: -inner(p, self._mixed(key)) for key in keys}

    def _variation(self, method: TV) -> tuple[Differences, float]:
        """Return D and lambda."""
        term = method.problem(self.measurement, self.projector).terms[1]
        assert isinstance(term.operator, Differences)
        assert isinstance(term.functional, L21)
        return term.operator, term.functional.weight

    def _mixed(self, key: str) -> Volumes:
        """Return d(grad F)/dt at fixed x, by a central difference of the total-variation part alone."""
        value = float(getattr(self.method, key))
        ends = [
            self._slope(self.method.model_copy(update={key: value * (1 + sign * STEP)})) for sign in (1, -1)
        ]
        return (ends[0] - ends[1]) / (2 * STEP * value)

    def _slope(self, method: TV) -> Volumes:
        """Return the gradient of the total variation at ``x``."""
        operator, weight = self._variation(method)
        groups = operator(self.x)
        floor = groups.square().sum(0).sqrt().clamp(min=FLAT * float(self.x.mean()))
        slope: Volumes = weight * operator.adjoint(groups / floor)
        return slope
