r"""What a network costs: bytes per pixel of an estimate and of a vector-Jacobian product.

The peak of the resident memory during one call is read from Linux (``VmHWM`` after its counter was set back), so that
what the convolution library keeps beside torch's own allocations counts too. One slice and two give what each needs
and what they share.
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
from priors.card.origin import Footprint
from priors.codec import Codec
from priors.diffusion.fitted import FittedDenoiser
from priors.runtime.system.memory import available_bytes

STATUS = Path("/proc/self/status")
LEVEL = 0.3
MORE = 2
SHARE = 0.5


def footprint(prior: Prior, *, largest: int = 256) -> Footprint | None:
    """Return what the network of a slice prior needs, None where it cannot be measured.

    It is tried on the size the network wants where that fits into the free memory, else on a quarter of its pixels,
    and so on: attention grows faster than the pixels.

    Args:
        prior: on the CPU.
        largest: side of the square slices to try where the network takes any.
    """
    if not isinstance(prior.codec, Codec) or not _resettable():
        return None
    stride = max(16, prior.card.fit.stride)
    wanted = max(prior.card.fit.size or (min(largest, max(prior.card.shape)),))
    size = -(-min(64, wanted) // stride) * stride
    peaks = _peaks(prior, size)
    # The next size needs four times as much, and somewhat more with attention in its middle.
    while 2 * size <= wanted and 6 * max(map(max, peaks)) < SHARE * available_bytes():
        size *= 2
        peaks = _peaks(prior, size)
    (forward, forward_more), (vjp, vjp_more) = peaks
    # Small networks drown in the noise of pages: a further slice counts as at least half of the first.
    each = [
        max(1.0, 0.5 * one / size**2, (more - one) / (MORE - 1) / size**2)
        for one, more in ((forward, forward_more), (vjp, vjp_more))
    ]
    once = [max(0.0, one / size**2 - own) for one, own in zip((forward, vjp), each, strict=True)]
    rounded = [float(f"{value:.4g}") for value in (*each, *once)]
    return Footprint(
        forward=rounded[0], vjp=rounded[1], forward_once=rounded[2], vjp_once=rounded[3], size=size
    )


def _peaks(prior: Prior, size: int) -> list[tuple[float, float]]:
    """Return the peaks without and with a graph, of one slice and of several."""
    return [
        (
            _peak(partial(_call, prior, size, vjp=vjp)),
            _peak(partial(_call, prior, size, vjp=vjp, slices=MORE)),
        )
        for vjp in (False, True)
    ]


def _call(prior: Prior, size: int, *, vjp: bool, slices: int = 1) -> None:
    """Denoise slices, with a pull through the network or without."""
    denoiser = prior.denoiser
    if isinstance(denoiser, FittedDenoiser):
        free = denoiser.fit.model_copy(update={"size": None})
        denoiser = FittedDenoiser(denoiser.inner, free, air=denoiser.air)
    ends = denoiser.schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
    level = min(max(LEVEL, float(ends[0]) * 1.01), float(ends[1]) * 0.99)
    t = denoiser.schedule.inverse(torch.full((slices,), level, dtype=torch.float64))
    x = torch.zeros(slices, prior.card.fit.slices, size, size)
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
