"""Beam hardening: polychromatic rays grow less than linearly with the length of their path.

    y' = a_1 y + a_2 y^2 + ...        w' = w / (dy'/dy)^2

linearises them. Coefficients come from a calibration of the scanner (steps of one material); a_1 = 1 keeps the values
of short paths. The polynomial must grow over the data, or two paths would become one.
Source: Herman, Phys. Med. Biol. 24, 81 (1979).
"""

from typing import Literal

import numpy as np
from pydantic import Field

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.preprocess.base import Step, corrected


class BeamHardening(Step):
    """Line integrals linearised by a polynomial without constant term.

    Attributes:
        coefficients: a_1, a_2, ... of y, y^2, ...
    """

    name: Literal["beam-hardening"] = "beam-hardening"
    coefficients: tuple[float, ...] = Field(min_length=1, max_length=8)

    def __call__(self, data: Scan) -> Scan:
        """Return the linearised scan.

        Raises:
            InputError: the polynomial does not grow over the line integrals of the scan.
        """
        curve = np.polynomial.Polynomial([0.0, *self.coefficients])
        slope = curve.deriv()
        low, high = float(data.sinogram.min()), float(data.sinogram.max())
        steepness = slope(np.linspace(low, high, 1000))
        if steepness.min() <= 0:
            at = float(np.linspace(low, high, 1000)[int(np.argmin(steepness))])
            raise InputError(
                f"beam-hardening: the polynomial falls at a line integral of {at:.4g}; expected one that grows "
                f"from {low:.4g} to {high:.4g}"
            )
        lines = data.sinogram.astype(np.float64)
        return corrected(data, self, curve(lines), data.weights / slope(lines) ** 2)
