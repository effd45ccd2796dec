"""A volume on the grid of another, by their affines.

With M = inverse(affine of the image) @ affine of the target, voxel i of the target sits at index M i of the
image. Where every voxel of the target is a block of whole voxels of the image (same axes up to order and
direction, integer ratios, aligned edges), the value is the mean of the block, exactly. Otherwise the image is
smoothed by a Gaussian of

    sigma = sqrt(f^2 - 1) / 2        f = target voxels in units of image voxels, per axis, where f > 1

and interpolated linearly. Voxels of the target whose centre (or block) leaves the image are NaN.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64
from scipy.ndimage import gaussian_filter, map_coordinates

from priors.runtime.errors import InputError
from recon.data.units import PADDING_HU
from recon.data.volume import Volume

ALIGNED = 1e-2
"""Largest misalignment of a block's edge, in voxels of the image: positions are stored with a few digits."""


def resample(image: Volume, target: Volume) -> Float32[np.ndarray, "z y x"]:
    """Return the values of ``image`` on the grid of ``target``; padding in HU counts as -1024.

    Raises:
        InputError: the two do not overlap.
    """
    values = image.values
    if image.unit == "HU":
        values = np.maximum(values, np.float32(PADDING_HU))
    z, y, x = target.values.shape
    transform = np.linalg.inv(image.affine) @ target.affine
    result = _block_mean(values, transform, (x, y, z))
    if result is None:
        result = _interpolated(values, transform, (x, y, z))
    if np.isnan(result).all():
        raise InputError(
            "the two volumes do not overlap in space; are they of the same patient and position?"
        )
    return result


def _block_mean(
    values: Float32[np.ndarray, "z y x"], transform: Float64[np.ndarray, "4 4"], shape: tuple[int, int, int]
) -> Float32[np.ndarray, "z2 y2 x2"] | None:
    """Return exact means of blocks, or None where voxels of the target are not blocks of the image."""
    source, linear, offset = values.transpose(2, 1, 0), transform[:3, :3], transform[:3, 3]
    order = np.argmax(abs(linear), axis=0)
    if sorted(order) != [0, 1, 2]:
        return None
    lengths = np.array(shape)
    ratios = np.rint(linear[order, range(3)]).astype(int)
    exact = np.zeros((3, 3))
    exact[order, range(3)] = ratios
    if not ratios.all() or (abs(linear - exact) @ lengths > ALIGNED).any():
        return None
    # First edge of the first block along every axis of the target, in voxels from the first edge of the
    # image.
    edges = offset[order] - ratios / 2 + 0.5
    starts = np.rint(edges).astype(int)
    if (abs(edges - starts) > ALIGNED).any():
        return None
    result = source.transpose(order)
    for axis in range(3):
        result = _means(result, axis, int(starts[axis]), int(ratios[axis]), int(lengths[axis]))
    return np.ascontiguousarray(result.transpose(2, 1, 0), dtype=np.float32)


def _means(array: np.ndarray, axis: int, start: int, ratio: int, length: int) -> np.ndarray:
    """Return means of ``length`` blocks of |ratio| voxels along an axis, backwards where ratio < 0; NaN
    outside."""
    size, width = array.shape[axis], abs(ratio)
    if ratio < 0:
        array, start = np.flip(array, axis), size - start
    blocks = start + width * np.arange(length)
    inside = (blocks >= 0) & (blocks + width <= size)
    moved = np.moveaxis(array, axis, 0)
    result = np.full((length, *moved.shape[1:]), np.nan, np.float64)
    if inside.any():
        first = int(blocks[inside][0])
        whole = moved[first : first + width * int(inside.sum())].astype(np.float64)
        result[inside] = whole.reshape(-1, width, *moved.shape[1:]).mean(axis=1)
    return np.moveaxis(result, 0, axis)


def _interpolated(
    values: Float32[np.ndarray, "z y x"], transform: Float64[np.ndarray, "4 4"], shape: tuple[int, int, int]
) -> Float32[np.ndarray, "z2 y2 x2"]:
    steps = np.maximum(abs(transform[:3, :3]).max(axis=1), 1)
    smooth = gaussian_filter(values, np.sqrt(steps[::-1] ** 2 - 1) / 2, mode="nearest")
    sizes = np.array(values.shape[::-1])
    x, y, z = shape
    i, j = np.meshgrid(np.arange(x), np.arange(y), indexing="xy")
    result = np.empty((z, y, x), np.float32)
    for k in range(z):
        index = np.stack([i.ravel(), j.ravel(), np.full(i.size, k), np.ones(i.size)])
        at = (transform @ index)[:3]
        outside = ((at < -0.5 - ALIGNED) | (at > sizes[:, None] - 0.5 + ALIGNED)).any(axis=0)
        interpolated = map_coordinates(smooth, at[::-1], order=1, mode="nearest")
        result[k] = np.where(outside, np.nan, interpolated).reshape(y, x)
    return result


def reduced(
    read: Callable[[int, int], Float32[np.ndarray, "_ y x"]],
    shape: tuple[int, int, int],
    affine: Float64[np.ndarray, "4 4"],
    *,
    most: int,
) -> tuple[Float32[np.ndarray, "_ _ _"], Float64[np.ndarray, "4 4"]]:
    """Return a volume of at most ``most`` voxels and its affine: means over cubes of neighbours.

    Voxels beyond the last whole cube of an axis are left out.

    Args:
        read: returns slices START to STOP, of which a few are asked for at a time.
        shape: of the volume (z, y, x).
        affine: index (x, y, z) to mm.
        most: voxels of the result.
    """
    factor = 1
    while np.prod([max(1, n // factor) for n in shape]) > most:
        factor += 1
    sizes = [min(factor, n) for n in shape]
    kept = [n // size for n, size in zip(shape, sizes, strict=True)]
    height, width = kept[1] * sizes[1], kept[2] * sizes[2]
    values = np.empty(kept, np.float32)
    for k in range(kept[0]):
        block = read(k * sizes[0], (k + 1) * sizes[0])[:, :height, :width]
        cubes = block.reshape(sizes[0], kept[1], sizes[1], kept[2], sizes[2])
        values[k] = cubes.mean(axis=(0, 2, 4), dtype=np.float64)
    coarse = affine.copy()
    coarse[:3, :3] *= sizes[::-1]
    coarse[:3, 3] += affine[:3, :3] @ ((np.array(sizes[::-1]) - 1) / 2)
    return values, coarse
