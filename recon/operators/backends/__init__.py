"""The family of projector backends: adding one means one file, and its name and instance here."""

from typing import Literal

from recon.operators.backends.base import Backend
from recon.operators.backends.numba_cpu import Numba
from recon.operators.backends.reference import Reference

BackendName = Literal["auto", "numba", "reference"]
"""What settings may say; ``auto`` takes the first of ``AUTOMATIC`` that works where the tensor is."""

AUTOMATIC: tuple[Backend, ...] = (Numba(),)
FAMILY: tuple[Backend, ...] = (*AUTOMATIC, Reference())
