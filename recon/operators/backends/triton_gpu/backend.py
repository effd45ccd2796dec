"""The default projector on GPUs, CUDA and ROCm: Triton kernels, matched and without atomics.

With TRITON_INTERPRET=1 in the environment before triton is first imported its kernels run as NumPy on the CPU:
slow, but the same code, which is how the tests check it without a GPU.
"""

import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping
from typing import ClassVar

import torch

from recon.operators.backends.base import Backend, Engine, Traced, refusal_of_table
from recon.operators.cone_rays import ConeTable
from recon.operators.rays import RayTable


class Triton(Backend):
    """Triton kernels on a GPU."""

    name = "triton"
    matched = True
    beams = ("parallel", "fan", "cone", "parallel-3d")
    devices = ("cuda",)
    dtypes = (torch.float32, torch.float64, torch.bfloat16)
    engines: ClassVar[Mapping[type, str]] = {
        RayTable: "slices.SliceEngine",
        ConeTable: "cone.ConeEngine",
    }

    def availability(self) -> str | None:
        """Return why not: triton is not installed, or there is no GPU."""
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed (pip install 'tomocast[triton]', Linux only)"
        if not torch.cuda.is_available() and not interpreted():
            return "torch finds no GPU"
        return None

    def version(self) -> str | None:
        """Return triton's version."""
        installed = importlib.util.find_spec("triton") is not None
        return importlib.metadata.version("triton") if installed else None

    def refusal(self, traced: Traced) -> str | None:
        """Return why no engine reads the table, or that rays must be traced one by one."""
        table = traced.table
        if isinstance(table, ConeTable) and (table.upright != (0, table.rows)).any():
            return "it has no steep rays and no tilted detectors: use numba"
        return refusal_of_table(self.engines, traced)

    def engine(self, traced: Traced, device: torch.device) -> Engine:
        """Return the engine for the kind of table."""
        module, kind = self.engines[type(traced.table)].split(".")
        # Triton takes a second to import and reads its environment when it is: only on first use.
        kernels = importlib.import_module(f"recon.operators.backends.triton_gpu.{module}")
        engine: Engine = getattr(kernels, kind)(traced, device)
        return engine

    def home(self, device: torch.device) -> torch.device:
        """Return the tensor's own GPU, else the current one; the CPU when interpreted."""
        if device.type == "cuda":
            return device
        return torch.device("cpu") if interpreted() else torch.device("cuda", torch.cuda.current_device())


def interpreted() -> bool:
    """Return whether kernels run in triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"
