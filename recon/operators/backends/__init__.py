"""The family of projector backends: adding one means one file, and its name and instance here."""

from typing import Literal

from recon.operators.backends.astra_toolbox import Astra
from recon.operators.backends.base import Backend
from recon.operators.backends.numba_cpu.backend import Numba
from recon.operators.backends.reference.backend import Reference
from recon.operators.backends.torch_radon import TorchRadon
from recon.operators.backends.triton_gpu.backend import Triton

BackendName = Literal["auto", "triton", "numba", "reference", "astra", "torch_radon"]
"""What settings may say; ``auto`` takes the first of ``AUTOMATIC`` that works where the tensor is."""

# The last one serves tensors of every other device.
AUTOMATIC: tuple[Backend, ...] = (Triton(), Numba())
FAMILY: tuple[Backend, ...] = (*AUTOMATIC, Reference(), Astra(), TorchRadon())
