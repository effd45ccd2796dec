"""What ``tomocast inspect backends`` tells: who can project here, on what, and why the others cannot."""

import os

import torch

from priors.runtime.inspection import Inspection
from recon.operators.backends import AUTOMATIC, FAMILY
from recon.operators.backends.base import Backend


def describe_backends() -> Inspection:
    """Describe every projector backend, installed or not, and the devices torch finds."""
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    facts = {
        "processor": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for torch and numba",
        "gpus": ", ".join(gpus) or "none that torch finds",
        "auto": ", then ".join(f"{b.name} for {' and '.join(b.devices)} tensors" for b in AUTOMATIC),
        **{backend.name: _sentence(backend) for backend in FAMILY},
    }
    return Inspection("projector backends", facts)


def _sentence(backend: Backend) -> str:
    reason = backend.availability()
    clauses = [
        "available" if reason is None else f"NOT available: {reason}",
        f"version {backend.version()}" if backend.version() else "not installed",
        "matched adjoint" if backend.matched else "UNMATCHED adjoint",
        f"beams {', '.join(backend.beams)}",
        f"devices {', '.join(backend.devices)}",
        " ".join(str(dtype).removeprefix("torch.") for dtype in backend.dtypes),
    ]
    return "; ".join(clauses)
