"""Plain arrays as a scan: a YAML file that names them and says how they were measured.

    data: sinogram.npy           # or a TIFF file, or a pattern such as raw_*.tif, one file per view
    raw: {dtype: uint16, shape: [720, 1, 512]}   # only for files without a header, see recon.io.scans.arrays.frames
    kind: line-integrals         # or counts (needs flat and dark, or i0)
    orbit: {name: parallel, arc_deg: 180, views: 181, column_mm: 0.5, row_mm: 0.5}
    unit: 1/mm                   # of the reconstruction, or HU
    flat: flat_*.tif             # optional, with dark
    dark: dark_*.tif
    i0: 1.0e+5                   # photons per ray without an object; estimated from the noise where absent
    find_centre: true            # optional, parallel beams only: replaces orbit.offset_columns

Arrays are (view, row, column) or (view, column). Names are relative to the YAML file. Of a stack only the rows that are
asked for are read; what all rows share (the noise of the detector, the rotation axis) is taken from a few of them.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError, model_validator

from priors.runtime.errors import InputError
from priors.runtime.yaml_text import safe_yaml
from recon.data.units import MU_WATER
from recon.data.volume import Unit
from recon.geometry.orbits import Orbit, Parallel, Vectors
from recon.io.scans.arrays.frames import RawLayout


class ArrayScan(BaseModel):
    """The content of the YAML file; see the module."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    kind: Literal["line-integrals", "counts"]
    orbit: Orbit
    unit: Unit
    flat: str | None = None
    dark: str | None = None
    i0: PositiveFloat | None = None
    find_centre: bool = False
    raw: RawLayout | None = None
    mu_water: PositiveFloat = MU_WATER

    @model_validator(mode="after")
    def _counts_need_a_reference(self) -> "ArrayScan":
        if (self.flat is None) != (self.dark is None):
            raise ValueError("flat and dark must be given together")
        if self.kind == "line-integrals" and self.flat is not None:
            raise ValueError("line integrals are already corrected; flat and dark belong to kind: counts")
        if self.kind == "counts" and self.flat is None and self.i0 is None:
            raise ValueError("counts need flat and dark, or i0")
        if self.find_centre and not isinstance(self.orbit, Parallel):
            raise ValueError("find_centre works for a parallel orbit only")
        if self.orbit.column_mm is None and not isinstance(self.orbit, Vectors):
            raise ValueError("orbit.column_mm must be given")
        return self


def read_description(path: Path) -> ArrayScan:
    """Return the description in a YAML file.

    Raises:
        InputError: it cannot be read, or a key is wrong or missing.
    """
    content = safe_yaml(path)
    try:
        return ArrayScan.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise InputError(f"{path}: {key}: {first['msg']}, found {str(first['input'])[:80]!r}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
