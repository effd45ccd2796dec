"""torch-radon as a backend, where a user already has it (conda-forge: ``carterbox-torch-radon``; CUDA only).

It knows a source that circles the z axis at a constant distance, a detector centred behind it, and angles:

    2-D   column step along (cos a, -sin a), source at s (sin a, cos a)                    ours at angle -a
    3-D   column step along (cos a, sin a),  source at s (sin a, -cos a), z0 + pitch a / 2 pi
                                                       ours at angle a - 180 degrees, columns reversed

(read off its source: src/forward.cu, src/python/torch_radon/radon.py). What this cannot represent is refused: detector
offsets, tilted detectors, curved detectors, irregular poses. Its backprojection is divided by the voxels' area or
volume; the factor is measured once, so that <A x, y> = <x, B y> for x = y = 1. The pair is not matched beyond that.

The conversion is tested against its formulas on the CPU. The library itself could not be run where this was written.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.backends.base import Backend, Engine, Traced, refuse_fading

# Poses may miss the circle by this fraction of their size.
CLOSE = 1e-5
PACKAGE = "torch_radon"


class TorchRadon(Backend):
    """torch-radon's ParallelBeam, FanBeam and ConeBeam."""

    name = "torch_radon"
    matched = False
    beams = ("parallel", "fan", "cone")
    devices = ("cuda",)
    dtypes = (torch.float32,)

    def availability(self) -> str | None:
        """Return why not: it is not installed, or there is no GPU."""
        if importlib.util.find_spec(PACKAGE) is None:
            return "torch-radon is not installed (conda install -c conda-forge carterbox-torch-radon)"
        return None if torch.cuda.is_available() else "torch finds no GPU"

    def version(self) -> str | None:
        """Return the version of torch-radon."""
        if importlib.util.find_spec(PACKAGE) is None:
            return None
        try:
            return importlib.metadata.version("torch-radon")
        except importlib.metadata.PackageNotFoundError:
            return "unknown"

    def refusal(self, traced: Traced) -> str | None:
        """Return what torch-radon cannot represent."""
        known = arguments(traced.grid, traced.geometry)
        return known if isinstance(known, str) else None

    def engine(self, traced: Traced, device: torch.device) -> Engine:
        """Return an engine on a GPU."""
        return RadonEngine(traced, device)


@dataclass(frozen=True)
class Arguments:
    """What torch-radon's constructors take: the class, its keywords, and those of its volume."""

    kind: str
    beam: dict[str, Any]
    volume: dict[str, tuple[float, ...]]

    @property
    def solid(self) -> bool:
        """Whether rays cross slices."""
        return self.kind == "ConeBeam"


class RadonEngine(Engine):
    """One of torch-radon's operators."""

    def __init__(self, traced: Traced, device: torch.device) -> None:
        import torch_radon

        known = arguments(traced.grid, traced.geometry)
        if isinstance(known, str):
            raise ValueError(known)
        self._solid = known.solid
        kind = torch_radon.Volume3D if known.solid else torch_radon.Volume2D
        grid = kind(**known.volume)
        grid.set_size(*(traced.grid.shape if known.solid else traced.grid.shape[1:]))
        self._radon = getattr(torch_radon, known.kind)(**known.beam, volume=grid)
        ones = torch.ones((*traced.grid.shape[1:], traced.grid.shape[0]), device=device)
        projected = self.forward(ones)
        self._scale = 1.0
        self._scale = float(projected.sum() / self.adjoint(torch.ones_like(projected)).sum())

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return torch-radon's line integrals of a contiguous image."""
        result: Tensor = self._radon.forward(image.permute(2, 0, 1).contiguous())
        if self._solid:
            return result.flip(-1).permute(0, 2, 1).contiguous()
        return result.permute(1, 2, 0).contiguous()

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return torch-radon's backprojection of a contiguous sinogram.

        Raises:
            InputError: with ``fading``.
        """
        refuse_fading(fading)
        rows = sinogram.permute(0, 2, 1).flip(-1) if self._solid else sinogram.permute(2, 0, 1)
        result: Tensor = self._radon.backward(rows.contiguous())
        return (self._scale * result.permute(1, 2, 0)).contiguous()


def arguments(grid: Grid, scan: ScanGeometry) -> Arguments | str:
    """Return torch-radon's arguments for a geometry, or why it cannot represent it."""
    if scan.detector == "curved" or scan.beam == "parallel-3d":
        return f"it has no {scan.detector} detectors in a {scan.beam} beam"
    angle = np.unwrap(np.arctan2(scan.u_mm[:, 1], scan.u_mm[:, 0]))
    u, v = np.linalg.norm(scan.u_mm, axis=1), np.linalg.norm(scan.v_mm, axis=1)
    along, across = _frame(angle)
    if _differs(scan.u_mm, u.mean() * across, u.mean()):
        return "it needs columns of one width, in the plane of the slices"
    if scan.parallel:
        centred = _differs(scan.detector_mm * [1, 1, 0], 0 * along, u.mean())
        if centred or _differs(scan.source_mm, along, 1.0):
            return "it needs a centred detector at right angles to the rays"
        beam = {"det_count": scan.shape[1], "angles": torch.tensor(-angle), "det_spacing": float(u.mean())}
        return Arguments("ParallelBeam", beam, _grid(grid, 2))
    source, detector = (
        np.einsum("vi,vi->v", vector, along) for vector in (-scan.source_mm, scan.detector_mm)
    )
    height = scan.source_mm[:, 2]
    lifted = height[:, None] * [0.0, 0.0, 1.0]
    if _differs(scan.source_mm - lifted, -source.mean() * along, source.mean()):
        return "it needs a source on a circle around the z axis"
    if _differs(scan.detector_mm - lifted, detector.mean() * along, u.mean()):
        return "it needs a detector centred behind the axis, without offsets"
    distances = {"src_dist": float(source.mean()), "det_dist": float(detector.mean())}
    if scan.sliced:
        beam = {"det_count": scan.shape[1], "angles": torch.tensor(-angle), "det_spacing": float(u.mean())}
        return Arguments("FanBeam", beam | distances, _grid(grid, 2))
    return _cone(grid, scan, angle, (distances, float(u.mean()), float(v.mean())))


def _cone(
    grid: Grid,
    geometry: ScanGeometry,
    angle: Float64[np.ndarray, " v"],
    sizes: tuple[dict[str, float], float, float],
) -> Arguments | str:
    distances, width, row = sizes
    if _differs(geometry.v_mm, np.tile([0.0, 0.0, row], (geometry.views, 1)), row):
        return "it needs detector rows stacked along z"
    turned, height = angle + np.pi, geometry.source_mm[:, 2]
    rise, start = np.polyfit(turned, height, 1) if geometry.views > 1 else (0.0, float(height[0]))
    if abs(start + rise * turned - height).max() > CLOSE * row:
        return "it needs a source that rises evenly with its angle"
    beam = {
        "det_count_u": geometry.shape[1],
        "det_count_v": geometry.shape[0],
        "angles": torch.tensor(turned),
    }
    beam |= {
        "det_spacing_u": width,
        "det_spacing_v": row,
        "pitch": float(2 * np.pi * rise),
        "base_z": float(start),
    }
    return Arguments("ConeBeam", beam | distances, _grid(grid, 3))


def _frame(angle: Float64[np.ndarray, " v"]) -> tuple[Float64[np.ndarray, "v 3"], Float64[np.ndarray, "v 3"]]:
    """Return the direction of travel and that of the columns."""
    sine, cosine, zero = np.sin(angle), np.cos(angle), np.zeros_like(angle)
    return np.stack([sine, -cosine, zero], axis=1), np.stack([cosine, sine, zero], axis=1)


def _differs(value: np.ndarray, expected: np.ndarray, size: float) -> bool:
    return bool(abs(value - expected).max() > CLOSE * abs(size))


def _grid(grid: Grid, axes: int) -> dict[str, tuple[float, ...]]:
    """Return centre and voxel size in the order x, y (, z)."""
    return {"center": grid.centre_mm[::-1][:axes], "voxel_size": grid.voxel_mm[::-1][:axes]}
