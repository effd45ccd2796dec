"""Hounsfield units and attenuation.

    HU = 1000 (mu - mu_water) / (mu_water - mu_air),   mu_air = 0

because line integrals are measured relative to an air scan. Attenuation mu is in 1/mm everywhere inside; HU
exist only in files, codecs and metrics. Reference values of water: 0.0193 at 70 keV to 0.0206 at 60 keV (NIST
XCOM).
"""

from typing import TypeVar

import numpy as np
from torch import Tensor

MU_WATER = 0.0193
"""Attenuation of water at 70 keV in 1/mm."""

AIR_HU = -1000.0
"""Hounsfield units of air, where attenuation is zero."""

PADDING_HU = -1024.0
"""Scanners write values below this outside the scanned circle; they mean "not measured" and are read as
air."""

Array = TypeVar("Array", np.ndarray, Tensor)


def hu_to_attenuation(hu: Array, mu_water: float = MU_WATER) -> Array:
    """Return the attenuation in 1/mm of ``hu`` (any shape)."""
    return (hu / 1000 + 1) * mu_water


def attenuation_to_hu(mu: Array, mu_water: float = MU_WATER) -> Array:
    """Return the Hounsfield units of ``mu`` in 1/mm (any shape)."""
    return (mu / mu_water - 1) * 1000
