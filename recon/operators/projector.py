"""The projector A of a scan: attenuation (z, y, x) in 1/mm to line integrals (view, row, column), and its
adjoint.

Every backend reads the same ray table, so A and A.T are matched, and autograd closes on itself: the
derivative of one is the other, to any order, with nothing saved in between. In parallel and fan beams row r
sees slice r, and all slices share the table.

Memory: any strides are accepted. Results are slice-last, ``empty(y, x, z).permute(2, 0, 1)`` and
``empty(v, c, r).permute(0, 2, 1)``, and arrays that already are skip a copy. Results are always fresh memory.
Arrays on another device are brought to the CPU and the result is sent back.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from recon.geometry.scan import Index, Scan
from recon.geometry.volume import Volume
from recon.operators.backends.numba_cpu import NumbaBackend
from recon.operators.backends.reference import ReferenceBackend
from recon.operators.base import LinearOperator
from recon.operators.rays import RayTable, trace

Backend = Literal["auto", "numba", "reference"]


class Projector(LinearOperator):
    """Line integrals along the rays of a scan, by Joseph's method.

    Args:
        volume: the voxel grid.
        scan: a parallel or fan-beam scan with one detector row per slice.
        backend: ``numba`` (compiled, the choice of ``auto``) or ``reference`` (stored matrix, for checks).

    Raises:
        InputError: rows are not slices, the beam is a cone, a source is inside the volume, or an unknown
            backend.
    """

    def __init__(self, volume: Volume, scan: Scan, *, backend: Backend = "auto") -> None:
        if backend not in ("auto", "numba", "reference"):
            raise InputError(f"projector backend: found {backend!r}, expected auto, numba or reference")
        self._place(volume, scan, backend)
        self._attach(trace(volume, scan))

    def __repr__(self) -> str:
        return f"Projector({self.volume!r}, {self.scan!r}, backend={self.backend!r})"

    def __call__(self, x: Float[Tensor, "z y x"]) -> Float[Tensor, "v r c"]:
        """Return the line integrals of attenuation ``x``, dimensionless for x in 1/mm.

        Raises:
            InputError: ``x`` does not have the shape of the volume, or is not float32 or float64.
        """
        _check(x, self.domain, "volume (z, y, x)")
        result: Tensor = _Forward.apply(x, self)  # type: ignore[no-untyped-call]
        return result

    def adjoint(self, y: Float[Tensor, "v r c"]) -> Float[Tensor, "z y x"]:
        """Return the backprojection A.T y, which is not an inverse.

        Raises:
            InputError: ``y`` does not have the shape of the sinogram, or is not float32 or float64.
        """
        _check(y, self.range, "sinogram (view, row, column)")
        result: Tensor = _Adjoint.apply(y, self)  # type: ignore[no-untyped-call]
        return result

    def faded_adjoint(self, y: Float[Tensor, "v r c"]) -> Float[Tensor, "z y x"]:
        """Return A.T y with every weight divided by its distance in mm from the source of the fan.

        Filtered backprojection of fans needs it; parallel rays have no source and give A.T y.
        Not differentiable.

        Raises:
            InputError: as ``adjoint``.
        """
        _check(y, self.range, "sinogram (view, row, column)")
        return self._backproject(y, fading=True)

    def __getitem__(self, views: Index) -> "Projector":
        """Return the projector on some views: a slice, a list of indices or a boolean mask."""
        return self._with(self.volume, self.scan[views], self._table[views])

    def slices(self, start: int, stop: int) -> "Projector":
        """Return the projector on slices ``start`` to ``stop`` (excluded) and their detector rows."""
        part = self._with(self.volume.slices(start, stop), self.scan.rows(start, stop), self._table)
        part._engine = self._engine
        return part

    def _place(self, volume: Volume, scan: Scan, backend: Backend) -> None:
        if scan.beam != "cone" and scan.shape[0] != volume.shape[0]:
            found = f"{scan.shape[0]} detector rows for {volume.shape[0]} slices"
            raise InputError(f"projector: found {found}, expected one row per slice in a {scan.beam} beam")
        self.volume, self.scan, self.backend = volume, scan, backend
        self.domain, self.range = volume.shape, (scan.views, *scan.shape)

    def _attach(self, table: RayTable) -> None:
        self._table = table
        self._engine = ReferenceBackend(table) if self.backend == "reference" else NumbaBackend(table)

    def _with(self, volume: Volume, scan: Scan, table: RayTable) -> "Projector":
        part = object.__new__(Projector)
        part._place(volume, scan, self.backend)
        part._attach(table)
        return part

    def _project(self, x: Tensor) -> Tensor:
        line = x.detach().to("cpu").permute(1, 2, 0).contiguous()
        return self._engine.forward(line).permute(0, 2, 1).to(x.device)

    def _backproject(self, y: Tensor, *, fading: bool = False) -> Tensor:
        line = y.detach().to("cpu").permute(0, 2, 1).contiguous()
        return self._engine.adjoint(line, fading=fading).permute(2, 0, 1).to(y.device)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, projector: Projector) -> Tensor:
        ctx.projector = projector
        return projector._project(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Adjoint.apply(gradients[0], ctx.projector), None  # type: ignore[no-untyped-call]


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, projector: Projector) -> Tensor:
        ctx.projector = projector
        return projector._backproject(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Forward.apply(gradients[0], ctx.projector), None  # type: ignore[no-untyped-call]


def _check(array: Tensor, shape: tuple[int, ...], what: str) -> None:
    if tuple(array.shape) != shape:
        raise InputError(
            f"projector: found an array of shape {tuple(array.shape)}, expected {what} = {shape}"
        )
    if array.dtype not in (torch.float32, torch.float64):
        raise InputError(f"projector: found an array of {array.dtype}, expected float32 or float64")
