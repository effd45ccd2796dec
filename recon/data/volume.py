"""A volume: values, where its voxels are, and their unit.

``affine`` maps voxel indices (x, y, z, 1) to millimetres in the patient's right-anterior-superior frame, as
NIfTI does. DICOM and MetaImage use left-posterior-superior: their readers multiply by diag(-1, -1, 1).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Float64

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid

Unit = Literal["HU", "1/mm"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Volume:
    """Values (z, y, x) with their position and unit.

    Attributes:
        values: attenuation in ``unit``; float64 is stored as float32.
        affine: index (x, y, z) to RAS millimetres.
        unit: Hounsfield units, or attenuation in 1/mm.
        facts: what else the file says, label to value; never anything about a patient.
        warnings: what a reader had to assume or leave out, one sentence each.
        grid: of the voxels in the scanner's frame; by default about its own centre, the frame of a scanner whose
            axes are the volume's.
        metrics: figures of the reconstruction that made it, as in ``metrics.json``; empty for other volumes.

    Raises:
        InputError: the affine is not a finite invertible map with the bottom row 0 0 0 1, the values are not a
            volume, or not on the grid.
    """

    values: Float[np.ndarray, "_ _ _"]
    affine: Float64[np.ndarray, "4 4"]
    unit: Unit = "HU"
    facts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    # Filled by __post_init__ where it is None.
    grid: Grid = None  # type: ignore[assignment]
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", as_float32(self.values, "values"))
        object.__setattr__(self, "affine", np.asarray(self.affine, np.float64))
        if self.values.ndim != 3:
            raise InputError(f"values: found shape {self.values.shape}, expected (z, y, x)")
        if self.affine.shape != (4, 4):
            raise InputError(f"affine: found shape {self.affine.shape}, expected (4, 4)")
        check_affine(self.affine, "affine")
        z, y, x = self.values.shape
        if self.grid is None:
            object.__setattr__(self, "grid", Grid((z, y, x), self.voxel_mm))
        if self.grid.shape != (z, y, x):
            raise InputError(f"values: found shape {(z, y, x)}, expected that of the grid {self.grid.shape}")

    def __repr__(self) -> str:
        low, high = (float(f(self.values)) for f in (np.min, np.max))
        rows = "; ".join(" ".join(f"{number:.6g}" for number in row) for row in self.affine[:3])
        shape = " x ".join(map(str, self.values.shape))
        return (
            f"Volume(values: {shape} (z, y, x), {low:.5g} to {high:.5g} {self.unit}; {self.grid}; "
            f"affine to RAS mm: {rows})"
        )

    def save(self, path: str | Path) -> tuple[str, ...]:
        """Write the volume in the format that the ending of ``path`` says, and return remarks for a person.

        Raises:
            InputError: no format has that ending, or the file cannot be written.
        """
        if _writer is None:
            raise RuntimeError("no formats are known yet: import tomocast, or recon.io.volumes.registry")
        return _writer(Path(path), self)

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in mm."""
        x, y, z = (float(d) for d in np.linalg.norm(self.affine[:3, :3], axis=0))
        return z, y, x


Writer = Callable[[Path, Volume], tuple[str, ...]]
_writer: Writer | None = None


def save_with(writer: Writer) -> None:
    """Let `Volume.save` write with a function; `recon.io.volumes.registry` does so when it is imported."""
    global _writer
    _writer = writer


def as_float32(array: Any, name: str) -> Float32[np.ndarray, "..."]:
    """Return numbers of any precision as a float32 array: of NumPy, of torch on any device, or a list.

    Raises:
        InputError: they are no real numbers.
    """
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name}: found {array.dtype}, expected real numbers")
    converted: Float32[np.ndarray, ...] = array.astype(np.float32, copy=False)
    return converted


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
