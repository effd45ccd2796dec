r"""The measurement in the network's units.

A prior works in its own value range. With attenuation = p X + q the projector would see p A X + A(q 1), so the map is
folded into the data and the projector never changes units:

    y = (sinogram - A(q 1)) / p        W = p^2 (weights)

Weights stay inverse variances: chi2 = sum W (A X - y)^2 has the expectation m, the number of rays, at the truth.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from priors.codec import Codec
from priors.linalg import power_norm
from priors.runtime.errors import InputError
from recon.data.units import MU_WATER, hu_to_attenuation
from recon.operators.base import LinearOperator
from recon.reconstructors.base import Measurement
from recon.solvers.least_squares import LeastSquares

Volumes = Float[Tensor, "z y x"]


@dataclass(frozen=True)
class NetworkUnits:
    """The affine map attenuation = slope * X + intercept, in 1/mm.

    Attributes:
        slope: 1/mm per network unit.
        intercept: 1/mm at network value zero.
        hu: Hounsfield units per network unit.
    """

    slope: float
    intercept: float
    hu: float = 1000.0

    @classmethod
    def of(cls, codec: Codec, *, unit: str = "HU", mu_water: float = MU_WATER) -> "NetworkUnits":
        """Combine a codec, in HU or in 1/mm, with the attenuation of water.

        Raises:
            InputError: another unit.
        """
        if unit == "1/mm":
            return cls(codec.scale, codec.offset, 1000 * codec.scale / mu_water)
        if unit != "HU":
            raise InputError(f"prior: its unit is {unit!r}, CT needs one in HU or 1/mm")
        ends = hu_to_attenuation(codec.decode(torch.tensor([0.0, 1.0], dtype=torch.float64)), mu_water)
        return cls(float(ends[1] - ends[0]), float(ends[0]), codec.scale)

    def attenuation(self, x: Volumes) -> Volumes:
        """Return attenuation in 1/mm."""
        return self.slope * x + self.intercept

    def network(self, attenuation: Volumes) -> Volumes:
        """Return network units."""
        return (attenuation - self.intercept) / self.slope


class DataTerm:
    r"""The functional 1/2 ||W^(1/2) (A X - y)||^2 in network units.

    Args:
        projector: A.
        measurement: sinogram and inverse variances.
        units: the affine map of the prior.
        model_error: deviation of what A cannot represent (voxels, beam hardening), in line integral; it is added to the
            noise, so that rays with many counts are not trusted beyond the model.
    """

    def __init__(
        self, projector: LinearOperator, measurement: Measurement, *, units: NetworkUnits, model_error: float
    ) -> None:
        background = projector(torch.full(projector.domain, units.intercept))
        weights = measurement.weights
        # 1 / (1 / w + error^2), written so that bad rays (w = 0) keep the weight zero.
        weights = weights / (1 + weights * model_error**2)
        self.projector = projector
        self.y = (measurement.sinogram - background) / units.slope
        self.weights = weights * units.slope**2
        self._fit = LeastSquares(projector, self.y, self.weights)
        self._curvature: float | None = None

    def residual(self, x: Volumes) -> Float[Tensor, "v r c"]:
        """Return A X - y."""
        return self.projector(x) - self.y

    def gradient(self, residual: Float[Tensor, "v r c"]) -> Volumes:
        """Return A.T W r."""
        return self.projector.adjoint(self.weights * residual)

    def normal(self, x: Volumes) -> Volumes:
        """Return A.T W A X."""
        return self.projector.normal(x, weights=self.weights)

    def chi2(self, residual: Float[Tensor, "v r c"]) -> float:
        """Return the weighted squared residual per ray; 1 is what noise alone gives."""
        return self._fit.chi2(residual)

    def curvature(self) -> float:
        """Return L_A = ||W^(1/2) A||^2 by power iteration, computed once."""
        if self._curvature is None:
            start = torch.rand(self.projector.domain, generator=torch.Generator().manual_seed(0)) + 0.5
            self._curvature = power_norm(self.normal, start, iterations=20)
        return self._curvature
