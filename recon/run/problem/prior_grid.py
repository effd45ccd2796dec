r"""A grid of the pixel size that a prior was trained on, where the asked one has another.

A diffusion prior knows structures by their size in pixels. With ``prior_grid`` a reconstruction whose pixels p lie
outside the card's range [l, h] is done on pixels inside it and the finished volume is resampled to the asked grid:

    p > h     p / f, f the smallest whole number that brings it into range (else h): voxels are means of f x f, exactly
    p < l     p f in the same way (else l): interpolated linearly, with no detail finer than the solved pixels

Slices keep their distance. A noisy state is never resampled.
"""

import math

import numpy as np
from jaxtyping import Float32

from priors.card import card_of_prior
from recon.data.resample import resample
from recon.data.volume import Volume, grid_affine
from recon.geometry.grid import Grid
from recon.reconstructors.base import Reconstructor
from recon.reconstructors.diffusion.base import DiffusionReconstructor

# A stated range is rounded.
SLACK = 0.01


def prior_pixel(pixel: float, low: float, high: float) -> float:
    """Return the pixel size in mm to reconstruct on, ``pixel`` itself where the prior knows it."""
    least, most = (1 - SLACK) * low, (1 + SLACK) * high
    if least <= pixel <= most:
        return pixel
    if pixel > most:
        finer = pixel / math.ceil(pixel / most)
        return finer if finer >= least else high
    coarser = pixel * math.ceil(least / pixel)
    return coarser if coarser <= most else low


def grid_for(method: Reconstructor, grid: Grid) -> Grid:
    """Return the grid to reconstruct on, ``grid`` itself where the prior knows its pixels.

    It covers the field of ``grid`` and has square pixels.

    Raises:
        InputError: unknown prior.
    """
    if not isinstance(method, DiffusionReconstructor):
        return grid
    known = card_of_prior(method.prior).pixel_mm
    if known is None:
        return grid
    asked = grid.voxel_mm[1:]
    pixels = {prior_pixel(mm, *known) for mm in asked}
    if pixels == set(asked):
        return grid
    pixel = pixels.pop() if len(pixels) == 1 else prior_pixel(math.sqrt(asked[0] * asked[1]), *known)
    # Rounding of 3 x 0.7 mm is no reason for a further pixel.
    rows, columns = (math.ceil(round(n * mm / pixel, 6)) for n, mm in zip(grid.shape[1:], asked, strict=True))
    return Grid((grid.shape[0], rows, columns), (grid.voxel_mm[0], pixel, pixel), grid.centre_mm)


def resampled(volume: Volume, grid: Grid) -> Float32[np.ndarray, "z y x"]:
    """Return the values of a volume on another grid of the same scanner."""
    if volume.grid == grid:
        return volume.values
    moved = np.linalg.inv(grid_affine(volume.grid)) @ grid_affine(grid)
    target = Volume(np.empty(grid.shape, np.float32), volume.affine @ moved, volume.unit, grid=grid)
    return resample(volume, target)


def sentence(solved: Grid, asked: Grid) -> str:
    """Return what is done, for a person."""
    (_, y, x), (_, height, width) = solved.shape, asked.shape
    before, after = solved.voxel_mm[1], asked.voxel_mm[1]
    how = "averaged" if after > before else "interpolated, without detail finer than that,"
    return (
        f"reconstructed on {y} x {x} pixels of {before:.4g} mm, which the prior was trained on, and {how} to "
        f"{height} x {width} of {after:.4g} mm; chi2 is that of the volume as reconstructed"
    )
