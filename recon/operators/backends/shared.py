"""An engine whose work is shared by the processes of ``priors.runtime.system.processes``.

    forward   stacks: every process projects its slices;  other beams: its views
    adjoint   stacks: every process backprojects its slices;  other beams: its views, and the volumes are summed in
              the order of the ranks

All processes hold the whole image and sinogram and get the same bits back. A process computes a slice or a view as
it would alone, so forward projections of views are those of one process to the last bit; slices are, where the
engine works on bundles of equal width (shares of whole multiples of 64 slices); sums over views are to rounding.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.system import processes
from recon.operators.backends.base import Engine, Traced


class SlabEngine(Engine):
    """A stack of slices, shared by slices."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return the line integrals of a contiguous image, the same on every process."""
        return self._shared(self.engine.forward, image)

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return the backprojection of a contiguous sinogram, the same on every process."""
        return self._shared(lambda slab: self.engine.adjoint(slab, fading=fading), sinogram)

    @staticmethod
    def _shared(work: Callable[[Tensor], Tensor], array: Tensor) -> Tensor:
        slices, own = array.shape[2], processes.share(array.shape[2])
        if slices < processes.count():
            return work(array)
        done = work(array[:, :, own.start : own.stop].contiguous())
        return processes.all_gather(done, 2, slices).contiguous()


class ViewEngine(Engine):
    """Rays that cross slices, shared by views."""

    def __init__(self, traced: Traced, build: Callable[[Traced], Engine]) -> None:
        self.views = traced.geometry.views
        self.own = processes.share(self.views)
        views = slice(self.own.start, self.own.stop)
        self.engine = build(Traced(traced.grid, traced.geometry[views], traced.table[views]))

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return the line integrals of a contiguous image, the same on every process."""
        return processes.all_gather(self.engine.forward(image), 0, self.views).contiguous()

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return the backprojection of a contiguous sinogram, the same on every process."""
        own = sinogram[self.own.start : self.own.stop].contiguous()
        return processes.all_reduce(self.engine.adjoint(own, fading=fading))


def shared(traced: Traced, device: torch.device, build: Callable[[Traced, torch.device], Engine]) -> Engine:
    """Return an engine whose work the processes share; the plain one where there is one process or little work."""
    if processes.count() == 1 or (not traced.geometry.sliced and traced.geometry.views < processes.count()):
        return build(traced, device)
    if traced.geometry.sliced:
        return SlabEngine(build(traced, device))
    return ViewEngine(traced, lambda block: build(block, device))
