"""The voxel grid: where array indices sit in space.

An array (z, y, x) of attenuation lives on a grid of ``shape`` voxels of ``voxel_mm``, whose middle is at
``centre_mm``. The centre of voxel i on an axis with n voxels of size d around c is

    c + (i - (n - 1) / 2) * d

so index +1 moves +d along the axis of the same name. Scanners turn about the line x = y = 0.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError

AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Grid:
    """A grid of voxels, axis order (z, y, x) everywhere.

    Attributes:
        shape: number of voxels.
        voxel_mm: voxel size in mm.
        centre_mm: position of the middle of the grid in mm.

    Raises:
        InputError: a size is not positive, or a position is not finite.
    """

    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("shape", "voxel_mm", "centre_mm"):
            numbers = getattr(self, name)
            if len(numbers) != 3:
                raise InputError(
                    f"volume.{name}: found {len(numbers)} numbers, expected 3 in the order z, y, x"
                )
        if any(n < 1 for n in self.shape):
            raise InputError(f"volume.shape: found {self.shape}, expected at least one voxel on each axis")
        if not all(math.isfinite(d) and d > 0 for d in self.voxel_mm):
            raise InputError(f"volume.voxel_mm: found {self.voxel_mm}, expected positive sizes in mm")
        if not all(math.isfinite(c) for c in self.centre_mm):
            raise InputError(f"volume.centre_mm: found {self.centre_mm}, expected finite positions in mm")

    def coordinates(self, axis: int) -> Float64[np.ndarray, " n"]:
        """Return the voxel centres along ``axis`` (0 z, 1 y, 2 x) in mm."""
        n = self.shape[axis]
        return self.centre_mm[axis] + (np.arange(n, dtype=np.float64) - (n - 1) / 2) * self.voxel_mm[axis]

    def slices(self, start: int, stop: int) -> "Grid":
        """Return the grid of slices ``start`` to ``stop`` (excluded), at the same place in space.

        Raises:
            InputError: the range is empty or leaves the volume.
        """
        if not 0 <= start < stop <= self.shape[0]:
            raise InputError(f"slices {start}:{stop} were asked of a volume with {self.shape[0]} slices")
        shift = ((start + stop - 1) / 2 - (self.shape[0] - 1) / 2) * self.voxel_mm[0]
        centre = (self.centre_mm[0] + shift, *self.centre_mm[1:])
        return Grid((stop - start, *self.shape[1:]), self.voxel_mm, centre)

    def square(self, pixels: int) -> "Grid":
        """Return the grid of the same slices with ``pixels`` x ``pixels`` over the larger side of a slice.

        Raises:
            InputError: ``pixels`` is not positive.
        """
        if pixels < 1:
            raise InputError(f"grid: found {pixels}, expected a positive number of pixels")
        (z, y, x), (dz, dy, dx) = self.shape, self.voxel_mm
        pixel = max(y * dy, x * dx) / pixels
        return Grid((z, pixels, pixels), (dz, pixel, pixel), self.centre_mm)

    @property
    def radius_mm(self) -> float:
        """Radius in mm of the circle about the rotation axis that contains every slice."""
        half = [n * d / 2 for n, d in zip(self.shape, self.voxel_mm, strict=True)]
        return math.hypot(abs(self.centre_mm[1]) + half[1], abs(self.centre_mm[2]) + half[2])
