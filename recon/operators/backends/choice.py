"""From the name of a backend to the one that computes.

A named backend is used or refused with the reason; tensors from elsewhere are brought to its device and the
result is sent back. ``auto`` takes the first that works on the tensor's own device, else the last that works
at all.
"""

import torch

from priors.runtime.errors import InputError
from recon.operators.backends import AUTOMATIC, FAMILY
from recon.operators.backends.base import Backend, Traced


def check_name(name: str) -> None:
    """Check the name of a backend.

    Raises:
        InputError: there is no such backend.
    """
    known = ["auto", *(backend.name for backend in FAMILY)]
    if name not in known:
        raise InputError(
            f"projector backend: found {name!r}, expected {', '.join(known[:-1])} or {known[-1]}"
        )


def choose(name: str, traced: Traced, device: torch.device) -> Backend:
    """Return the backend of a name for a geometry and for tensors of a device.

    Raises:
        InputError: the backend is unknown, not available, or refuses the geometry.
    """
    check_name(name)
    if name != "auto":
        backend = next(backend for backend in FAMILY if backend.name == name)
        reason = backend.availability() or backend.refusal(traced)
        if reason:
            raise InputError(f"projector backend {name}: {reason}")
        return backend
    usable = [b for b in AUTOMATIC if b.availability() is None and b.refusal(traced) is None]
    if not usable:
        names = ", ".join(backend.name for backend in AUTOMATIC)
        raise InputError(f"projector: no backend ({names}) works with a {traced.geometry.beam} beam here")
    return next((backend for backend in usable if device.type in backend.devices), usable[-1])
