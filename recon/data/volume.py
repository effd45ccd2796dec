"""A volume read from a file: values, where its voxels are, and their unit.

``affine`` maps voxel indices (x, y, z, 1) to millimetres in the patient's right-anterior-superior frame, as
NIfTI does. DICOM and MetaImage use left-posterior-superior: their readers multiply by diag(-1, -1, 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid

Unit = Literal["HU", "1/mm"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Volume:
    """Values (z, y, x) with their position and unit.

    Attributes:
        values: attenuation in ``unit``.
        affine: index (x, y, z) to RAS millimetres.
        unit: Hounsfield units, or attenuation in 1/mm.
        facts: what else the file says, label to value; never anything about a patient.
        warnings: what a reader had to assume or leave out, one sentence each.

    Raises:
        InputError: the affine is not a finite invertible map with the bottom row 0 0 0 1.
    """

    values: Float32[np.ndarray, "z y x"]
    affine: Float64[np.ndarray, "4 4"]
    unit: Unit
    facts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_affine(self.affine, "affine")

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in mm."""
        x, y, z = (float(d) for d in np.linalg.norm(self.affine[:3, :3], axis=0))
        return z, y, x

    def grid(self) -> Grid:
        """Return the grid of the voxels about its own centre: the frame of a scanner whose axes are the
        image's."""
        z, y, x = self.values.shape
        return Grid((z, y, x), self.voxel_mm)


def check_affine(affine: Float64[np.ndarray, "4 4"], name: str) -> None:
    """Refuse a map of space that is not finite, not invertible or not affine.

    Raises:
        InputError: naming ``name``.
    """
    if not np.isfinite(affine).all() or not np.allclose(affine[3], [0, 0, 0, 1]):
        raise InputError(
            f"{name}: found {affine.tolist()}, expected finite numbers and the bottom row 0 0 0 1"
        )
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if (sizes <= 0).any() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-3:
        raise InputError(
            f"{name}: voxel axes of length {np.round(sizes, 6).tolist()} mm do not span the space"
        )


def grid_affine(grid: Grid) -> Float64[np.ndarray, "4 4"]:
    """Return the map from indices (x, y, z) of ``grid`` to its own millimetres (x, y, z)."""
    affine = np.eye(4)
    for axis in range(3):
        array_axis = 2 - axis
        affine[axis, axis] = grid.voxel_mm[array_axis]
        affine[axis, 3] = grid.coordinates(array_axis)[0]
    return affine
