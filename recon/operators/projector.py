"""The projector A of a scan: attenuation (z, y, x) in 1/mm to line integrals (view, row, column), and its
adjoint.

Every backend reads the same ray table, so A and A.T are matched, and autograd closes on itself: the
derivative of one is the other, to any order, with nothing saved in between. In parallel and fan beams row r
sees slice r, and all slices share the table (``rays``); in cone and parallel-3d beams rays cross slices
(``cone_rays``).

Memory: any strides are accepted. Results are slice-last, ``empty(y, x, z).permute(2, 0, 1)`` and
``empty(v, c, r).permute(0, 2, 1)``, and arrays that already are skip a copy. Results are always fresh memory,
on the device of the argument; a backend that cannot work there has the argument brought to it and sends the
result back.
"""

from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.scan import Index, ScanGeometry
from recon.operators.backends import BackendName
from recon.operators.backends.base import Backend, Engine, Table, Traced
from recon.operators.backends.choice import check_name, choose
from recon.operators.backends.shared import shared
from recon.operators.base import Array, LinearOperator, as_tensor
from recon.operators.cone_rays import trace_cone
from recon.operators.rays import trace


class Projector(LinearOperator):
    """Line integrals along the rays of a scan, by Joseph's method.

    Args:
        geometry: of any beam; parallel and fan beams have one detector row per slice.
        grid: the voxels.
        backend: who computes, see ``recon.operators.backends``; ``auto`` follows the device of the argument.

    Raises:
        InputError: the rows of a parallel or fan beam are not the slices, a source is inside the volume, or the
            backend is unknown, not available or refuses the geometry.
    """

    grid: Grid

    def __init__(self, geometry: ScanGeometry, grid: Grid, *, backend: BackendName = "auto") -> None:
        check_name(backend)
        self._place(grid, geometry, backend)
        self._attach(trace(grid, geometry) if geometry.sliced else trace_cone(grid, geometry))

    def __repr__(self) -> str:
        return f"Projector({self.geometry!r}, {self.grid!r}, backend={self.backend!r})"

    @overload
    def __call__(self, x: Float[Tensor, "z y x"]) -> Float[Tensor, "v r c"]: ...
    @overload
    def __call__(self, x: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "v r c"]: ...

    def __call__(self, x: Array) -> Array:
        """Return the line integrals of attenuation ``x``, dimensionless for x in 1/mm.

        An array of NumPy gives one; a tensor gives a tensor on its device, with gradients.

        Raises:
            InputError: ``x`` does not have the shape of the volume, or is not float32 or float64.
        """
        self._check(x, self.domain, "volume (z, y, x)")
        if isinstance(x, np.ndarray):
            return self._project(as_tensor(x)).contiguous().numpy()
        result: Tensor = _Forward.apply(x, self)  # type: ignore[no-untyped-call]
        return result

    @overload
    def adjoint(self, y: Float[Tensor, "v r c"]) -> Float[Tensor, "z y x"]: ...
    @overload
    def adjoint(self, y: Float[np.ndarray, "v r c"]) -> Float[np.ndarray, "z y x"]: ...

    def adjoint(self, y: Array) -> Array:
        """Return the backprojection A.T y, which is not an inverse; NumPy and torch as in ``A(x)``.

        Raises:
            InputError: ``y`` does not have the shape of the sinogram, or is not float32 or float64.
        """
        self._check(y, self.range, "sinogram (view, row, column)")
        if isinstance(y, np.ndarray):
            return self._backproject(as_tensor(y)).contiguous().numpy()
        result: Tensor = _Adjoint.apply(y, self)  # type: ignore[no-untyped-call]
        return result

    def distance_weighted_adjoint(self, y: Float[Tensor, "v r c"]) -> Float[Tensor, "z y x"]:
        """Return A.T y with every weight divided by its distance in mm from the source of the fan.

        Filtered backprojection of fans needs it; parallel rays have no source and give A.T y. A cone has no use for
        it: its rows spread like its columns, and the weights of A.T fall with the square of the distance already.
        Not differentiable.

        Raises:
            InputError: as ``adjoint``, or rays cross slices.
        """
        self._check(y, self.range, "sinogram (view, row, column)")
        return self._backproject(y, fading=True)

    @property
    def matched(self) -> bool:
        """Whether the adjoint is the exact transpose of the forward projection."""
        return self._backend(torch.device("cpu")).matched

    def __getitem__(self, views: Index) -> "Projector":
        """Return the projector on some views: a slice, a list of indices or a boolean mask."""
        return self._with(self.grid, self.geometry[views], self._traced.table[views])

    def slices(self, start: int, stop: int) -> "Projector":
        """Return the projector on slices ``start`` to ``stop`` (excluded) and their detector rows.

        Raises:
            InputError: the range is empty, or rays cross slices.
        """
        if not self.geometry.sliced:
            raise InputError(
                f"projector: the rays of a {self.geometry.beam} beam cross slices, which cannot be parted"
            )
        slab = self._with(self.grid.slices(start, stop), self.geometry.rows(start, stop), self._traced.table)
        slab._engines = self._engines
        return slab

    def _place(self, grid: Grid, geometry: ScanGeometry, backend: BackendName) -> None:
        if geometry.sliced and geometry.shape[0] != grid.shape[0]:
            found = f"{geometry.shape[0]} detector rows for {grid.shape[0]} slices"
            raise InputError(
                f"projector: found {found}, expected one row per slice in a {geometry.beam} beam"
            )
        self.grid, self.geometry, self.backend = grid, geometry, backend
        self.domain, self.range = grid.shape, (geometry.views, *geometry.shape)

    def _attach(self, table: Table) -> None:
        self._traced = Traced(self.grid, self.geometry, table)
        self._engines: dict[torch.device, Engine] = {}
        self._chosen: dict[torch.device, Backend] = {}
        self._backend(torch.device("cpu"))

    def _with(self, grid: Grid, geometry: ScanGeometry, table: Table) -> "Projector":
        projector = object.__new__(Projector)
        projector._place(grid, geometry, self.backend)
        projector._attach(table)
        return projector

    def _backend(self, device: torch.device) -> Backend:
        if device not in self._chosen:
            self._chosen[device] = choose(self.backend, self._traced, device)
        return self._chosen[device]

    def _engine(self, device: torch.device) -> tuple[Engine, torch.device]:
        """Return the engine for tensors of a device, and the device where it works."""
        backend = self._backend(device)
        home = backend.home(device)
        if home not in self._engines:
            self._engines[home] = shared(self._traced, home, backend.engine)
        return self._engines[home], home

    def _project(self, x: Tensor) -> Tensor:
        engine, home = self._engine(x.device)
        line = x.detach().to(home, self._dtype(x)).permute(1, 2, 0).contiguous()
        return self._as_given(engine.forward(line).permute(0, 2, 1), x)

    def _backproject(self, y: Tensor, *, fading: bool = False) -> Tensor:
        engine, home = self._engine(y.device)
        line = y.detach().to(home, self._dtype(y)).permute(0, 2, 1).contiguous()
        return self._as_given(engine.adjoint(line, fading=fading).permute(2, 0, 1), y)

    def _dtype(self, array: Tensor) -> torch.dtype:
        """Return the precision to work in: a backend without float64 computes those arrays in its own."""
        dtypes = self._backend(array.device).dtypes
        return array.dtype if array.dtype in dtypes else dtypes[0]

    def _as_given(self, result: Tensor, argument: Tensor) -> Tensor:
        """Return a result on the device of its argument, in float64 where the argument was."""
        return result.to(argument.device, torch.float64 if argument.dtype == torch.float64 else result.dtype)

    def _check(self, array: Array, shape: tuple[int, ...], what: str) -> None:
        if tuple(array.shape) != shape:
            raise InputError(
                f"projector: found an array of shape {tuple(array.shape)}, expected {what} = {shape}"
            )
        taken: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
        if isinstance(array, Tensor):
            taken = *taken, *(set(self._backend(array.device).dtypes) - set(taken))
        names = [str(dtype).removeprefix("torch.") for dtype in taken]
        if str(array.dtype).removeprefix("torch.") not in names:
            raise InputError(f"projector: found an array of {array.dtype}, expected {' or '.join(names)}")


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
