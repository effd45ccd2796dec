r"""Neighbouring slices agree except at real edges: tau ||D X||_1 along z, by two solvers with one interface.

D is the forward difference along z, S - 1 rows, not periodic, ||D||^2 <= 4. Both solvers hand the volume a pull
``D.T q`` and keep dual arrays that persist across noise levels:

    ADMM (scaled dual)     q = rho (D X - Z + U);   Z <- S_{tau/rho}(D X + U);   U <- U + D X - Z
    PDHG (Condat-Vu)       P <- clip(P + s_d (2 D X_k - D X_{k-1}), -tau, tau);  q = P,  s_d <= rho

S_k(v) = sign(v) max(|v| - k, 0). The threshold tau / rho is given in HU: a difference below it counts as noise. It is
scaled by in-plane spacing over slice spacing, since thin slices resemble each other more.
Sources: NERD (arXiv 2511.14680); ADMM, Boyd et al. 2011; Condat 2013, Vu 2013.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeVar

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from recon.operators.differences import Differences

Volumes = Float[Tensor, "z y x"]
Rows = Float[Tensor, "d y x"]
Duals = dict[str, Tensor]


class Coupling(BaseModel, ABC):
    """Interface. ``rho`` is the strength in inverse variance; 0 turns the coupling off.

    Attributes:
        rho: augmented Lagrangian weight (ADMM) or longest dual step (PDHG), per (1000 HU)^2; tau = rho * threshold.
        z_threshold_hu: differences between slices below this are noise, at isotropic voxels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rho: float = Field(60.0, ge=0)
    z_threshold_hu: float = Field(15.0, ge=0)

    @abstractmethod
    def start(self, x: Volumes, operator: Differences) -> Duals:
        """Return the dual arrays for a first volume."""

    @abstractmethod
    def update(
        self, duals: Duals, x: Volumes, operator: Differences, *, threshold: float, convexity: float
    ) -> Duals:
        """Return the duals after seeing the volume ``x``.

        ``threshold`` is tau / rho in network units, ``convexity`` the strong convexity of what ``x`` minimises; a
        dual gradient step longer than convexity / ||D||^2 would oscillate.
        """

    @abstractmethod
    def pull(self, duals: Mapping[str, Tensor], x: Volumes, operator: Differences) -> Volumes:
        """Return D.T q, the gradient of the coupling at ``x``."""

    @abstractmethod
    def linear_part(self) -> float:
        """Return the weight of D.T D that ``pull`` contains, which an implicit solver treats exactly."""

    @abstractmethod
    def dual_residual(self, duals: Mapping[str, Tensor], x: Volumes, operator: Differences) -> float:
        """Return how far the duals are from agreeing with ``x``, relative, 0 at a solution."""

    def curvature(self) -> float:
        """Return a bound of the coupling's curvature, 4 rho, for step sizes."""
        return 4 * self.rho


AnyCoupling = TypeVar("AnyCoupling", bound=Coupling)


def in_units(coupling: AnyCoupling, hu: float) -> AnyCoupling:
    """Return a coupling with ``rho`` in inverse variance of network units of so many HU."""
    return coupling.model_copy(update={"rho": coupling.rho * (hu / 1000) ** 2})


class AdmmCoupling(Coupling):
    """Splitting Z = D X with the scaled dual U."""

    def start(self, x: Volumes, operator: Differences) -> Duals:
        """See `Coupling`."""
        d = operator(x)
        return {"z": d, "u": torch.zeros_like(d)}

    def update(
        self, duals: Duals, x: Volumes, operator: Differences, *, threshold: float, convexity: float
    ) -> Duals:
        """See `Coupling`."""
        lifted = operator(x) + duals["u"]
        # Soft thresholding: differences below the threshold are noise (Z = 0), an edge keeps its height less that much,
        # and the dual gathers what was held back.
        z = torch.sign(lifted) * (lifted.abs() - threshold).clamp(min=0)
        return {"z": z, "u": lifted - z}

    def pull(self, duals: Mapping[str, Tensor], x: Volumes, operator: Differences) -> Volumes:
        """See `Coupling`."""
        return self.rho * operator.adjoint(operator(x) - duals["z"] + duals["u"])

    def linear_part(self) -> float:
        """See `Coupling`."""
        return self.rho

    def dual_residual(self, duals: Mapping[str, Tensor], x: Volumes, operator: Differences) -> float:
        """See `Coupling`: ||D X - Z|| / ||D X||."""
        d = operator(x)
        return float((d - duals["z"]).norm() / d.norm().clamp(min=1e-12))


class PdhgCoupling(Coupling):
    """Dual variable P in the box |P| <= tau, with the extrapolated difference."""

    def start(self, x: Volumes, operator: Differences) -> Duals:
        """See `Coupling`."""
        d = operator(x)
        return {"p": torch.zeros_like(d), "d": d, "change": torch.zeros_like(d)}

    def adopt(self, duals: Mapping[str, Tensor], x: Volumes, operator: Differences, *, rho: float) -> Duals:
        """Return the duals that continue ADMM's: its multiplier is P = rho U."""
        # Starting from zero duals instead would let slices drift apart until PDHG's short steps had built them up anew.
        p = rho * duals["u"]
        return {"p": p, "d": operator(x), "change": torch.zeros_like(p)}

    def update(
        self, duals: Duals, x: Volumes, operator: Differences, *, threshold: float, convexity: float
    ) -> Duals:
        """See `Coupling`."""
        d = operator(x)
        tau = self.rho * threshold
        # ||D||^2 <= 4: a dual ascent step longer than convexity / 4 overshoots the x that answers it, and oscillates.
        step = min(self.rho, convexity / 4)
        p = (duals["p"] + step * (2 * d - duals["d"])).clamp(-tau, tau)
        return {"p": p, "d": d, "change": p - duals["p"]}

    def pull(self, duals: Mapping[str, Tensor], x: Volumes, operator: Differences) -> Volumes:
        """See `Coupling`."""
        return operator.adjoint(duals["p"])

    def linear_part(self) -> float:
        """See `Coupling`."""
        return 0.0

    def dual_residual(self, duals: Mapping[str, Tensor], x: Volumes, operator: Differences) -> float:
        """See `Coupling`: the last change of P relative to P."""
        return float(duals["change"].norm() / duals["p"].norm().clamp(min=1e-12))
