"""Drawing on a voxel grid with anti-aliased edges.

A shape is a signed distance d(x, y, z) in mm, negative inside; a voxel of size h is covered by
clip(1/2 - d/h, 0, 1), the exact partial volume of a straight edge that crosses the voxel along an axis.
Paint mixes values by coverage.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

Array = NDArray[np.floating]
Number = float | int | np.floating


@dataclass(frozen=True, eq=False)
class Canvas:
    """Voxel centres in model millimetres, as broadcastable axes.

    Attributes:
        x: (1, 1, x) towards the patient's left.
        y: (1, y, 1) towards the back.
        z: (z, 1, 1) towards the head.
        pixel: in-plane voxel size.
        step: slice spacing.
    """

    x: Array
    y: Array
    z: Array
    pixel: float
    step: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels (z, y, x)."""
        return self.z.size, self.y.size, self.x.size

    def cover(self, distance: Array) -> Array:
        """Return the covered fraction of each voxel for a signed distance in mm."""
        covered: Array = np.clip(np.float32(0.5) - distance / np.float32(self.pixel), 0, 1)
        return covered

    def noise(self, rng: np.random.Generator, scale: float) -> Array:
        """Return smooth noise of about unit variance with a correlation length ``scale`` in mm."""
        sizes = []
        for count, spacing in zip(self.shape, (self.step, self.pixel, self.pixel), strict=True):
            sizes.append(int(np.ceil(count * spacing / max(scale, spacing))) + 2)
        coarse = rng.standard_normal(sizes).astype(np.float32)
        factors = [count / size for count, size in zip(self.shape, sizes, strict=True)]
        fine = zoom(coarse, factors, order=1, grid_mode=True, mode="nearest")
        return np.asarray(fine * np.float32(1.5), dtype=np.float32)


def paint(image: Array, cover: Array, value: Array | Number) -> None:
    """Mix ``value`` into ``image`` in place by ``cover``."""
    image += cover * (np.asarray(value, dtype=np.float32) - image)


def superellipse(x: Array, y: Array, *, half: tuple[Array | Number, Array | Number], power: Number) -> Array:
    """Return the radial distance to |x/a|^p + |y/b|^p = 1: exact along rays from the centre."""
    gauge = (np.abs(x / half[0]) ** power + np.abs(y / half[1]) ** power) ** np.float32(
        1 / power
    ) + np.float32(1e-3)
    return np.asarray(np.hypot(x, y) * (1 - 1 / gauge) - (gauge < 0.02) * 10, dtype=np.float32)


def ellipsoid(axes: tuple[Array, Array, Array], radii: tuple[Number, Number, Number]) -> Array:
    """Return an approximate distance to an ellipsoid about the origin of ``axes`` (x, y, z)."""
    gauge = np.sqrt(sum((axis / radius) ** 2 for axis, radius in zip(axes, radii, strict=True)))
    return np.asarray((gauge - 1) * min(radii), dtype=np.float32)


def smooth_max(first: Array, second: Array, width: Number) -> Array:
    """Return max(first, second) with its crease rounded over ``width`` mm (intersection of two shapes)."""
    blend = np.clip(np.float32(0.5) + (first - second) / np.float32(2 * width), 0, 1)
    return np.asarray(
        second + (first - second) * blend + np.float32(width) * blend * (1 - blend), dtype=np.float32
    )


def add_capsule(
    cover: Array, grid: Canvas, *, ends: tuple[Array, Array], radii: tuple[Number, Number]
) -> None:
    """Raise ``cover`` in place to the coverage of a tapered capsule, within its bounding box only.

    Args:
        cover: coverage (z, y, x).
        grid: voxel centres.
        ends: the two end points (x, y, z) in mm.
        radii: the radius at each end in mm.
    """
    first, second = ends
    reach = max(radii) + grid.pixel
    low, high = np.minimum(first, second) - reach, np.maximum(first, second) + reach
    box = []
    for axis, a, b in zip((grid.x, grid.y, grid.z), low, high, strict=True):
        flat = axis.ravel()
        spacing = flat[1] - flat[0] if flat.size > 1 else np.float32(1)
        start = max(int(np.ceil((a - flat[0]) / spacing)), 0)
        stop = min(int(np.floor((b - flat[0]) / spacing)) + 1, flat.size)
        if start >= stop:
            return
        box.append(slice(start, stop))
    x, y, z = grid.x[..., box[0]] - first[0], grid.y[:, box[1]] - first[1], grid.z[box[2]] - first[2]
    along = second - first
    length = float(along @ along) + 1e-9
    position = np.clip((x * along[0] + y * along[1] + z * along[2]) / np.float32(length), 0, 1)
    distance = np.sqrt(
        (x - position * along[0]) ** 2 + (y - position * along[1]) ** 2 + (z - position * along[2]) ** 2
    )
    radius = radii[0] + position * (radii[1] - radii[0])
    # A vessel thinner than a voxel never fills it.
    capsule = grid.cover(distance - radius) * np.minimum(1, 2 * radius / grid.pixel)
    target = cover[box[2], box[1], box[0]]
    np.maximum(target, capsule, out=target)
