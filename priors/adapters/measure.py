r"""What a network costs: bytes per pixel of an estimate and of a vector-Jacobian product.

The peak of the resident memory during one call is read from Linux (``VmHWM`` after its counter was set back), so that
what the convolution library keeps beside torch's own allocations counts too. One slice and two give what each needs
and what they share.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from priors.card import Prior
from priors.card.origin import Footprint
from priors.codec import Codec
from priors.diffusion.fitted import FittedDenoiser
from priors.runtime.system.memory import available_bytes, give_back

STATUS = Path("/proc/self/status")
LEVEL = 0.3
MORE = 2
TRIES = 2
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
    wanted = max(prior.card.fit.size or (min(largest, max(prior.card.shape)),))
    # Without a graph first: in a heap that graphs have cut up the same estimate takes half as much again, which a run
    # without gradients does not see.
    parts = {vjp: _measured(prior, wanted, vjp=vjp) for vjp in (False, True)}
    (forward, forward_once, tried), (vjp, vjp_once, tried_vjp) = parts[False], parts[True]
    rounded = [float(f"{value:.4g}") for value in (forward, vjp, forward_once, vjp_once)]
    return Footprint(
        forward=rounded[0],
        vjp=rounded[1],
        forward_once=rounded[2],
        vjp_once=rounded[3],
        size=min(tried, tried_vjp),
    )


def _measured(prior: Prior, wanted: int, *, vjp: bool) -> tuple[float, float, int]:
    """Return bytes per pixel of every slice, those that slices share, and the side they were measured on."""
    stride = max(16, prior.card.fit.stride)
    size = -(-min(64, wanted) // stride) * stride
    first = _peak(partial(_call, prior, size, vjp=vjp), tries=1)
    # Several slices of the next size need eight times as much, and somewhat more with attention in its middle.
    while 2 * size <= wanted and 12 * first < SHARE * available_bytes():
        size *= 2
        first = _peak(partial(_call, prior, size, vjp=vjp), tries=1)
    one, more = (_peak(partial(_call, prior, size, vjp=vjp, slices=n), tries=TRIES) for n in (1, MORE))
    # Small networks drown in the noise of pages: a further slice counts as at least half of the first.
    each = max(1.0, 0.5 * one / size**2, (more - one) / (MORE - 1) / size**2)
    return each, max(0.0, one / size**2 - each), size


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


def _peak(call: Callable[[], None], *, tries: int) -> float:
    """Return by how many bytes the resident memory rose at most during a call, the least of several."""
    call()
    rises = []
    for _ in range(tries):
        give_back()
        before = _status("VmRSS:")
        _reset()
        call()
        rises.append(max(0.0, float(_status("VmHWM:") - before)))
    # What the heap holds in vain between two calls varies by a fifth; what the network needs does not.
    return min(rises)


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
