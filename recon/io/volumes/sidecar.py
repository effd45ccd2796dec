"""What an array file does not say about itself, said beside it: ``NAME.yaml`` next to ``NAME.npy``.

unit: HU                    # or 1/mm
voxel_mm: [2.0, 0.7, 0.7]   # z, y, x
value_range: [-1, 1]        # optional: these two stored values ...
unit_range: [-1000, 1000]   # ... are these two values in the unit; the map between them is linear
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped
from pydantic import BaseModel, ConfigDict, FiniteFloat, PositiveFloat, ValidationError, model_validator

from priors.runtime.errors import InputError
from priors.runtime.files.reads import note_read
from priors.runtime.yaml_text import safe_yaml
from recon.data.volume import Unit

ENDINGS = (
    ".nii.gz",
    ".nii",
    ".mha",
    ".mhd",
    ".nrrd",
    ".nhdr",
    ".npy.xz",
    ".npy",
    ".npz",
    ".tiff",
    ".tif",
    ".zarr",
)


class Sidecar(BaseModel):
    """Unit, voxel size and scale of an array; see the module."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Unit
    voxel_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    value_range: tuple[FiniteFloat, FiniteFloat] | None = None
    unit_range: tuple[FiniteFloat, FiniteFloat] | None = None

    @model_validator(mode="after")
    def _ranges_come_in_pairs(self) -> "Sidecar":
        if (self.value_range is None) != (self.unit_range is None):
            raise ValueError("value_range and unit_range must be given together")
        if self.value_range is not None and self.value_range[0] == self.value_range[1]:
            raise ValueError("value_range must hold two different values")
        return self

    def scaled(self, values: Shaped[np.ndarray, "z y x"]) -> Float32[np.ndarray, "z y x"]:
        """Return ``values`` in the unit."""
        if self.value_range is None or self.unit_range is None:
            return values.astype(np.float32)
        (low, high), (start, stop) = self.value_range, self.unit_range
        return ((values.astype(np.float64) - low) * ((stop - start) / (high - low)) + start).astype(
            np.float32
        )


def sidecar_path(path: Path) -> Path:
    """Return where the description of ``path`` is expected."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.with_name(path.name[: -len(ending)] + ".yaml")
    return path.with_suffix(".yaml")


def read_sidecar(path: Path) -> Sidecar | None:
    """Return the description beside ``path``, or None when there is none.

    Raises:
        InputError: the description is not valid.
    """
    beside = sidecar_path(path)
    if not beside.is_file():
        return None
    note_read(beside)
    try:
        content = safe_yaml(beside)
        return Sidecar.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise InputError(f"{beside}: {key}: {first['msg']}, found {str(first['input'])[:80]!r}") from error
