"""ASTRA as a backend, for comparison: its own kernels behind our projector.

ASTRA takes poses as vectors. Its two-dimensional images start at the largest y, so stacks are handed over mirrored
at y = 0, poses and window alike, and no array is flipped. On the CPU it works slice by slice with its projectors
``linear`` (parallel beams, the same interpolation as ours) and ``line_fanflat`` (fans, lengths in pixels); its
three-dimensional code needs a GPU and ends the process without one, so it is never called there. On a GPU, tensors
are handed over without a copy (DLPack) once they are in ASTRA's order, and its backprojection is not the transpose
of its projection: methods that rely on the adjoint converge to something else, or not at all.
"""

import importlib.metadata
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.backends.base import Backend, Engine, Traced, refuse_fading

FLAT = np.array([1.0, -1.0])


class Astra(Backend):
    """ASTRA's projectors; stacks on the CPU, everything with flat detectors on CUDA."""

    name = "astra"
    matched = False
    beams = ("parallel", "fan", "cone", "parallel-3d")
    devices = ("cpu", "cuda")
    dtypes = (torch.float32,)

    def availability(self) -> str | None:
        """Return why not: it is not installed."""
        return None if self.version() else "astra-toolbox is not installed (pip install astra-toolbox)"

    def version(self) -> str | None:
        """Return the version of astra-toolbox."""
        installed = importlib.util.find_spec("astra") is not None
        return importlib.metadata.version("astra-toolbox") if installed else None

    def refusal(self, traced: Traced) -> str | None:
        """Return what ASTRA cannot represent, or cannot do here."""
        scan, pixel = traced.geometry, traced.grid.voxel_mm[1:]
        if scan.detector == "curved":
            return "it has no curved detectors here"
        if scan.sliced and abs(pixel[0] - pixel[1]) > 1e-6 * pixel[0]:
            return f"its two-dimensional projectors need square pixels, found {pixel[0]:g} x {pixel[1]:g} mm"
        if not scan.sliced and not _toolbox().use_cuda():
            return "its three-dimensional projectors need CUDA, which it does not find here"
        return None

    def engine(self, traced: Traced, device: torch.device) -> Engine:
        """Return an engine on the CPU or a GPU."""
        if traced.geometry.sliced:
            return StackEngine(traced, device)
        return VolumeEngine(traced, device)

    def home(self, device: torch.device) -> torch.device:
        """Return the tensor's own device where ASTRA can work there, else the CPU."""
        return device if device.type == "cuda" and _toolbox().use_cuda() else torch.device("cpu")


class StackEngine(Engine):
    """Parallel and fan beams, one slice after the other."""

    def __init__(self, traced: Traced, device: torch.device) -> None:
        astra, scan = _toolbox(), traced.geometry
        kind = "linear" if scan.parallel else "line_fanflat"
        grid, poses = stack_geometry(traced.grid, scan)
        self._shape, self._grid, self._parallel = traced.table.shape, traced.table.grid, scan.parallel
        self._projector = astra.create_projector("cuda" if device.type == "cuda" else kind, poses, grid)

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return ASTRA's line integrals of a contiguous image."""
        slices = image.permute(2, 0, 1).contiguous()
        result = slices.new_zeros((len(slices), *self._shape))
        for one, target in zip(slices, result, strict=True):
            _direct().direct_FP2D(self._projector, _shared(one), _shared(target))
        return result.permute(1, 2, 0).contiguous()

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return ASTRA's backprojection of a contiguous sinogram.

        Raises:
            InputError: with ``fading`` for a fan.
        """
        if fading and not self._parallel:
            raise InputError(
                "projector backend astra: it cannot fade weights, as the fbp of fans needs: use numba"
            )
        rows = sinogram.permute(2, 0, 1).contiguous()
        result = rows.new_zeros((len(rows), *self._grid))
        for one, target in zip(rows, result, strict=True):
            _direct().direct_BP2D(self._projector, _shared(target), _shared(one))
        return result.permute(1, 2, 0).contiguous()


class VolumeEngine(Engine):
    """Cone beams and parallel beams in three dimensions, on CUDA."""

    def __init__(self, traced: Traced, device: torch.device) -> None:
        grid, poses = volume_geometry(traced.grid, traced.geometry)
        self._volume, self._scan = traced.grid, traced.geometry
        self._projector = _toolbox().create_projector("cuda3d", poses, grid)

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return ASTRA's line integrals of a contiguous image."""
        volume = image.permute(2, 0, 1).contiguous()
        rows, columns = self._scan.shape
        result = volume.new_zeros((rows, self._scan.views, columns))
        _direct().direct_FP3D(self._projector, _shared(volume), _shared(result))
        return result.permute(1, 2, 0).contiguous()

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return ASTRA's backprojection of a contiguous sinogram.

        Raises:
            InputError: with ``fading``.
        """
        refuse_fading(fading)
        rows = sinogram.permute(2, 0, 1).contiguous()
        result = rows.new_zeros(self._volume.shape)
        _direct().direct_BP3D(self._projector, _shared(result), _shared(rows))
        return result.permute(1, 2, 0).contiguous()


def stack_geometry(grid: Grid, scan: ScanGeometry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ASTRA's two-dimensional volume and projection geometry of a slice, mirrored at y = 0."""
    (_, ny, nx), (x0, x1, y0, y1, _, _) = grid.shape, _edges(grid)
    vectors = np.hstack([vector[:, :2] * FLAT for vector in (scan.source_mm, scan.detector_mm, scan.u_mm)])
    kind = "parallel_vec" if scan.parallel else "fanflat_vec"
    astra = _toolbox()
    return (
        astra.create_vol_geom(ny, nx, x0, x1, -y1, -y0),
        astra.create_proj_geom(kind, scan.shape[1], vectors),
    )


def volume_geometry(grid: Grid, scan: ScanGeometry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ASTRA's three-dimensional volume and projection geometry."""
    nz, ny, nx = grid.shape
    kind = "parallel3d_vec" if scan.parallel else "cone_vec"
    astra = _toolbox()
    return (
        astra.create_vol_geom(ny, nx, nz, *_edges(grid)),
        astra.create_proj_geom(kind, *scan.shape, volume_vectors(scan)),
    )


def volume_vectors(geometry: ScanGeometry) -> Float64[np.ndarray, "v 12"]:
    """Return source (or direction), detector centre, column step and row step of every view."""
    return np.hstack([geometry.source_mm, geometry.detector_mm, geometry.u_mm, geometry.v_mm])


def _edges(volume: Grid) -> tuple[float, ...]:
    """Return the ends of the grid in mm along x, y and z."""
    ends = []
    for axis in (2, 1, 0):
        half = volume.shape[axis] * volume.voxel_mm[axis] / 2
        ends += [volume.centre_mm[axis] - half, volume.centre_mm[axis] + half]
    return tuple(ends)


def _shared(tensor: Tensor) -> Any:
    """Return what ASTRA links without a copy: an array on the CPU, the tensor itself on a GPU."""
    return tensor if tensor.is_cuda else tensor.numpy()


def _toolbox() -> ModuleType:
    import astra

    return astra  # type: ignore[no-any-return]


def _direct() -> ModuleType:
    import astra.experimental

    return astra.experimental  # type: ignore[no-any-return]
