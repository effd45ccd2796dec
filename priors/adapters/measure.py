r"""What a network costs: bytes per pixel of an estimate and of a vector-Jacobian product.

The peak of the resident memory during one call is read from Linux (``VmHWM`` after its counter was set back), so that
what the convolution library keeps beside torch's own allocations counts too. Two sizes give a slope per pixel and what
does not grow with the slice.
"""

import ctypes
import gc
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from priors.card import Prior
from priors.codec import Codec
from priors.diffusion.fitted import FittedDenoiser
from priors.origin import Footprint

STATUS = Path("/proc/self/status")
LEVEL = 0.3


def footprint(prior: Prior, *, largest: int = 256) -> Footprint | None:
    """Return what the network of a slice prior needs, None where it cannot be measured.

    Args:
        prior: on the CPU.
        largest: side of the larger square slice to try; the size the network wants stays out of it.
    """
    if not isinstance(prior.codec, Codec) or not _resettable():
        return None
    fit = prior.card.fit
    stride = max(16, fit.stride)
    most = min(largest, max(prior.card.shape)) // stride * stride
    sizes = (max(stride, most // 2 // stride * stride), max(2 * stride, most))
    peaks = {}
    for size in sizes:
        peaks[size] = [_peak(partial(_call, prior, size, vjp=vjp)) for vjp in (False, True)]
    small, large = sizes
    pixels = large**2 - small**2
    slopes = [max(1.0, (b - a) / pixels) for a, b in zip(peaks[small], peaks[large], strict=True)]
    fixed = max(0.0, peaks[large][1] - slopes[1] * large**2)
    return Footprint(
        forward=float(f"{slopes[0]:.4g}"),
        vjp=float(f"{max(slopes):.4g}"),
        fixed=float(f"{fixed:.4g}"),
        size=large,
    )


def _call(prior: Prior, size: int, *, vjp: bool) -> None:
    """Denoise one slice, with a pull through the network or without."""
    denoiser = prior.denoiser
    if isinstance(denoiser, FittedDenoiser):
        free = denoiser.fit.model_copy(update={"size": None})
        denoiser = FittedDenoiser(denoiser.inner, free, air=denoiser.air)
    ends = denoiser.schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
    level = min(max(LEVEL, float(ends[0]) * 1.01), float(ends[1]) * 0.99)
    t = denoiser.schedule.inverse(torch.tensor([level], dtype=torch.float64))
    x = torch.zeros(1, 1, size, size)
    if not vjp:
        with torch.no_grad():
            denoiser(x, t)
        return
    with torch.enable_grad():
        leaf = x.requires_grad_()
        torch.autograd.grad(denoiser(leaf, t).sum(), leaf)


def _peak(call: Callable[[], None]) -> float:
    """Return by how many bytes the resident memory rose at most during a call."""
    call()
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _status("VmRSS:")
    _reset()
    call()
    return max(0.0, float(_status("VmHWM:") - before))


def _reset() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _resettable() -> bool:
    """Tell whether the peak counter can be set back here."""
    try:
        _reset()
        return _status("VmHWM:") > 0
    except OSError:
        return False


def _status(key: str) -> int:
    """Return a figure of this process in bytes, 0 where it is not told."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    return 0


def flops(prior: Prior, size: int) -> float:
    """Return the floating-point operations of one estimate of a square slice."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _call(prior, size, vjp=False)
    total = counter.get_total_flops()
    return float(total) if math.isfinite(total) else 0.0
