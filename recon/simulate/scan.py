"""A scan of a known image, without the inverse crime.

The image is projected on a finer grid than the one it will be reconstructed on, and every detector cell is
the mean transmission of ``RAYS_PER_CELL`` rays across it, or that many squared where rays cross slices:

    N ~ Poisson(I0 mean_k exp(-p_k) + r) + Normal(0, s^2)

as a cell of finite width counts photons, not line integrals. The fine grid is the image's own when its pixels
are at least 1.5 times smaller than those of the reconstruction; otherwise it is the image interpolated to
half its pixels. Where rays cross slices, its slices are halved too. The scanner's axes are the image's axes and
its isocentre is the middle of the image, so the frame of the scan is affine(image) @ inverse(affine of the
image's grid about its middle), exact even for an oblique or sheared image. HU below -1000 (air, padding) are
clipped to air.
"""

import math

import numpy as np
import torch
from jaxtyping import Float32
from scipy.ndimage import zoom

from priors.blocks import block_means
from priors.runtime.errors import InputError
from recon.data.noise import Exposure, draw_counts
from recon.data.scan import Scan
from recon.data.units import AIR_HU, MU_WATER, hu_to_attenuation
from recon.data.volume import Volume, grid_affine
from recon.geometry.grid import Grid
from recon.geometry.orbits import Orbit
from recon.geometry.scan import ScanGeometry
from recon.operators.projector import Projector

RAYS_PER_CELL = 2
COLUMN_MULTIPLE = 32
FINER = 1.5
SLICES_AT_A_TIME = 64
VIEWS_AT_A_TIME = 32


def simulate(image: Volume, orbit: Orbit, *, i0: float | Exposure, grid: int | None, seed: int) -> Scan:
    """Return the noisy scan of ``image`` along ``orbit``.

    Args:
        image: what is scanned, in HU (water is ``MU_WATER``) or 1/mm.
        orbit: open fields are filled to cover the reconstruction grid at its resolution; a column count that
            was
            left open is rounded up to a multiple of 32.
        i0: photons per ray, or an exposure with background and electronic noise.
        grid: pixels of the square reconstruction grid over the image's larger side; None keeps the image's
            own grid.
        seed: of the noise.

    Raises:
        InputError: the image is not finite, ``grid`` is not positive, or the orbit cannot see the image.
    """
    if not np.isfinite(image.values).all():
        raise InputError("image: holds NaN or infinite values, expected finite HU")
    exposure = i0 if isinstance(i0, Exposure) else Exposure(i0)
    target = image.grid if grid is None else image.grid.square(grid)
    filled = orbit.fit(target)
    if orbit.columns is None and filled.columns is not None:
        rounded = math.ceil(filled.columns / COLUMN_MULTIPLE) * COLUMN_MULTIPLE
        filled = filled.model_copy(update={"columns": rounded})
    scan = filled.geometry()
    transmission = _transmission(image, target, scan)
    counts = draw_counts(transmission, exposure, np.random.default_rng(seed))
    data = Scan.from_counts(scan, target, counts=counts, exposure=exposure)
    frame = image.affine @ np.linalg.inv(grid_affine(image.grid))
    provenance = {
        "kind": "simulated",
        "orbit": filled.model_dump(mode="json"),
        "i0": exposure.i0,
        "seed": seed,
        "grid": list(target.shape),
        "image_grid": list(image.values.shape),
        "rays_per_cell": RAYS_PER_CELL,
    }
    rest = (
        data.weights,
        counts,
        exposure,
        np.asarray(frame),
        MU_WATER,
        image.unit,
        provenance,
    )
    return Scan(data.sinogram, scan, target, *rest)


def _transmission(image: Volume, target: Grid, geometry: ScanGeometry) -> Float32[np.ndarray, "v r c"]:
    fine = image.grid
    upsample = min(target.voxel_mm[1:]) < FINER * max(fine.voxel_mm[1:])
    if geometry.sliced:
        return _by_slices(image, geometry, (1, 2, 2) if upsample else (1, 1, 1))
    # The reconstruction keeps the image's slices, so the grid of the scan needs thinner ones.
    return _by_views(image, geometry, (2, 2, 2) if upsample else (2, 1, 1))


def _by_slices(
    image: Volume, geometry: ScanGeometry, factors: tuple[int, int, int]
) -> Float32[np.ndarray, "v r c"]:
    """Return the transmission of a scan whose rows are the slices, some slices at a time."""
    fine = _finer(image.grid, factors)
    projector = Projector(_split_cells(geometry, 1), fine)
    result = np.empty((geometry.views, *geometry.shape), np.float32)
    for start in range(0, fine.shape[0], SLICES_AT_A_TIME):
        stop = min(start + SLICES_AT_A_TIME, fine.shape[0])
        attenuation = _attenuation(image, slice(start, stop), factors)
        lines = projector.slices(start, stop)(torch.from_numpy(attenuation))
        result[:, start:stop] = _mean_over_cells(lines.numpy(), 1)
    return result


def _by_views(
    image: Volume, geometry: ScanGeometry, factors: tuple[int, int, int]
) -> Float32[np.ndarray, "v r c"]:
    """Return the transmission of a scan whose rays cross slices, some views at a time."""
    fine = _finer(image.grid, factors)
    attenuation = torch.from_numpy(_attenuation(image, slice(None), factors))
    slice_last = attenuation.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    result = np.empty((geometry.views, *geometry.shape), np.float32)
    for start in range(0, geometry.views, VIEWS_AT_A_TIME):
        views = slice(start, start + VIEWS_AT_A_TIME)
        lines = Projector(_split_cells(geometry[views], RAYS_PER_CELL), fine)(slice_last)
        result[views] = _mean_over_cells(lines.numpy(), RAYS_PER_CELL)
    return result


def _finer(grid: Grid, factors: tuple[int, int, int]) -> Grid:
    z, y, x = (n * k for n, k in zip(grid.shape, factors, strict=True))
    dz, dy, dx = (d / k for d, k in zip(grid.voxel_mm, factors, strict=True))
    return Grid((z, y, x), (dz, dy, dx), grid.centre_mm)


def _attenuation(image: Volume, slab: slice, factors: tuple[int, int, int]) -> Float32[np.ndarray, "z y x"]:
    values = image.values[slab]
    if image.unit == "HU":
        values = hu_to_attenuation(np.maximum(values, np.float32(AIR_HU)), MU_WATER)
    values = np.maximum(values, np.float32(0))
    if factors != (1, 1, 1):
        values = zoom(values, factors, order=1, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(values, dtype=np.float32)


def _split_cells(geometry: ScanGeometry, down: int) -> ScanGeometry:
    """Return the scan whose detector cells are ``RAYS_PER_CELL`` times narrower and ``down`` times lower, and cover
    the same area."""
    rows, columns = geometry.shape
    poses = (geometry.source_mm, geometry.detector_mm, geometry.u_mm / RAYS_PER_CELL, geometry.v_mm / down)
    return ScanGeometry(geometry.beam, *poses, (rows * down, columns * RAYS_PER_CELL), geometry.detector)


def _mean_over_cells(lines: Float32[np.ndarray, "v fr fc"], down: int) -> Float32[np.ndarray, "v r c"]:
    """Return the mean transmission of the rays of every cell."""
    transmission = np.exp(-lines.astype(np.float64))
    return block_means(transmission, (down, RAYS_PER_CELL))[0].astype(np.float32)
