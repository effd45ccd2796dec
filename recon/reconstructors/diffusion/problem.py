r"""What every diffusion method works on: the data term, the denoiser slice by slice, the coupling, a memory bound.

The network sees slices in chunks; the projector, the differences and the duals see the whole volume and run without
autograd. Peak memory therefore grows with the chunk, and beyond that only by volume buffers. A chunk that does not fit
is halved, once and for all. A prior that takes several slices at once sees windows of the volume in chunks, and what
they answer is added up (`priors.diffusion.slabs`).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from priors.diffusion.denoiser import Denoiser
from priors.diffusion.samplers.sampler import clean_estimate
from priors.diffusion.slabs import Slabs
from priors.linalg import cg
from priors.runtime.errors import InputError
from priors.runtime.system import processes
from priors.runtime.system.memory import lack_of_memory
from recon.operators.differences import Differences
from recon.reconstructors.diffusion.coupling import Coupling, Duals
from recon.reconstructors.diffusion.data_term import DataTerm
from recon.reconstructors.diffusion.noise import generator_at

Volumes = Float[Tensor, "z y x"]
ChunkFunction = Callable[[Tensor, Tensor], Tensor]
SlabFunction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def slice_last(x: Volumes) -> Volumes:
    """Return ``x`` in slice-last memory, the layout of the projector."""
    return x.permute(1, 2, 0).contiguous().permute(2, 0, 1)


@dataclass
class NerdProblem:
    """Data, prior and coupling of one reconstruction.

    Attributes:
        data: the data term in network units.
        denoiser: the prior, on its device.
        coupling: agreement of neighbouring slices.
        differences: D.
        threshold: tau / rho in network units.
        chunk: slices per network call; halved when memory runs out.
        hu: Hounsfield units per network unit.
        mirrorable: training saw slices and their mirror images equally often.
        mirrored: the network is shown the mirror image of every slice.
        first_slice: see `recon.reconstructors.base.RunContext`.
        calls: how often all slices went through the network, ``looks`` forward and ``gradients`` back as well.
    """

    data: DataTerm
    denoiser: Denoiser
    coupling: Coupling
    differences: Differences
    threshold: float
    chunk: int
    hu: float = 1000.0
    mirrorable: bool = True
    mirrored: bool = False
    first_slice: int | None = None
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def coupled(self) -> bool:
        """Whether there is a coupling at all."""
        return self.coupling.rho > 0 and self.data.projector.domain[0] > 1

    def generator(self, state: Tensor) -> torch.Generator:
        """Return the generator of the run's noise in some state."""
        return generator_at(state, self.first_slice)

    def denoise(self, u: Volumes, level: float) -> Volumes:
        """Return E[x | u] slice by slice, without gradients, slice-last."""
        self.calls["looks"] += 1
        slabs = self.denoiser.slabs(len(u))

        def answer(windows: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            return slabs.weight[rows, :, None, None] * self._estimate(windows, level), slabs.answered[rows]

        with torch.no_grad():
            if slabs.single:
                return slice_last(self._by_chunk(lambda slices, _: self._estimate(slices, level), u, u))
            return slice_last(self._by_slabs(answer, u, slabs))

    def vjp(self, u: Volumes, cotangent: Volumes, level: float) -> Volumes:
        """Return J(u).T cotangent, J the Jacobian of `denoise`, slice by slice."""
        slabs = self.denoiser.slabs(len(u))

        def pullback(slices: Tensor, weight: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = slices.detach().requires_grad_(True)
                return torch.autograd.grad(self._estimate(leaf, level), leaf, weight)[0]

        def pulled(windows: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            weight = slabs.weight[rows, :, None, None] * cotangent[slabs.answered[rows]]
            return pullback(windows, weight), slabs.held[rows]

        self.calls["gradients"] += 1
        if slabs.single:
            return slice_last(self._by_chunk(pullback, u, cotangent))
        return slice_last(self._by_slabs(pulled, u, slabs))

    def _estimate(self, slices: Tensor, level: float) -> Tensor:
        """Return E[x | u] of some slices, seen in the mirror or not."""
        if not self.mirrored:
            return clean_estimate(self.denoiser, slices, level)
        return clean_estimate(self.denoiser, slices.flip(-1), level).flip(-1)

    def data_solve(
        self,
        estimate: Volumes,
        duals: Mapping[str, Tensor],
        *,
        start: Volumes,
        weight: float,
        iterations: int,
    ) -> Volumes:
        """Return the volume that agrees with data, neighbours and ``estimate``, by CG on the correction to ``start``.

        Minimises 1/2 ||W^(1/2) (A X - y)||^2 + weight/2 ||X - estimate||^2 and, with a coupling, its quadratic part.
        """
        linear = self.coupling.linear_part() if self.coupled else 0.0

        def matvec(v: Volumes) -> Volumes:
            product = self.data.normal(v) + weight * v
            if linear:
                product = product + linear * self.differences.normal(v)
            return product

        # Solving for the correction lets a good start stay, and lets the explicit part of the coupling (PDHG) enter by
        # its gradient alone.
        gradient = self.data.gradient(self.data.residual(start)) + self.pull(duals, start)
        gradient = gradient + weight * (start - estimate)
        return start - cg(matvec, gradient, iterations=iterations)

    def pull(self, duals: Mapping[str, Tensor], x: Volumes) -> Volumes | float:
        """Return D.T q, zero without a coupling."""
        return self.coupling.pull(duals, x, self.differences) if self.coupled else 0.0

    def start_duals(self, x: Volumes) -> Duals:
        """Return the first dual arrays."""
        return self.coupling.start(x, self.differences) if self.coupled else {}

    def update_duals(self, duals: Duals, x: Volumes, *, convexity: float) -> Duals:
        """Return the duals after seeing ``x``, a minimiser of something at least ``convexity`` strongly convex."""
        if not self.coupled:
            return duals
        return self.coupling.update(duals, x, self.differences, threshold=self.threshold, convexity=convexity)

    def dual_residual(self, duals: Mapping[str, Tensor], x: Volumes) -> float:
        """Return the relative residual of the coupling, zero without one."""
        return self.coupling.dual_residual(duals, x, self.differences) if self.coupled else 0.0

    def _by_chunk(self, function: ChunkFunction, u: Volumes, other: Volumes) -> Volumes:
        """Apply ``function`` to (b, 1, y, x) chunks of two volumes and stack the results; processes share slices."""
        if processes.count() > 1 and len(u) >= processes.count():
            own = processes.share(len(u))
            share = slice(own.start, own.stop)
            return processes.all_gather(self._own_chunks(function, u[share], other[share]), 0, len(u))
        return self._own_chunks(function, u, other)

    def _own_chunks(self, function: ChunkFunction, u: Volumes, other: Volumes) -> Volumes:
        def all_chunks() -> Volumes:
            results = [
                function(a[:, None].contiguous(), b[:, None].contiguous())[:, 0]
                for a, b in zip(u.split(self.chunk), other.split(self.chunk), strict=True)
            ]
            return torch.cat(results)

        return self._halving(all_chunks)

    def _by_slabs(self, function: SlabFunction, u: Volumes, slabs: Slabs) -> Volumes:
        """Add up what ``function`` makes of windows of slices, in chunks; processes share windows."""
        own = processes.share(len(slabs))

        def all_chunks() -> Volumes:
            # Added in the order of the windows: the sum does not depend on the chunk.
            total = torch.zeros(u.shape, dtype=u.dtype)
            # With fewer windows than processes some have none.
            for rows in torch.arange(own.start, own.stop).split(self.chunk) if len(own) else ():
                values, slices = function(u[slabs.held[rows]].contiguous(), rows)
                total.index_add_(0, slices.flatten(), values.flatten(0, 1))
            return total

        return processes.all_reduce(self._halving(all_chunks))

    def _halving(self, all_chunks: Callable[[], Volumes]) -> Volumes:
        """Return what ``all_chunks`` does, with half the chunk as often as memory runs out.

        Raises:
            InputError: one slice, or one window of slices, does not fit.
        """
        while True:
            try:
                return all_chunks()
            except (RuntimeError, MemoryError) as error:
                if lack_of_memory(error) is None:
                    raise
                if self.chunk == 1:
                    raise InputError(
                        "one slice does not fit in memory; free some or use --method fbp"
                    ) from error
                self.chunk = max(1, self.chunk // 2)
