"""Plain arrays as a scan: a YAML file that names them and says how they were measured.

    data: sinogram.npy           # or a TIFF file, or a pattern such as raw_*.tif, one file per view
    raw: {dtype: uint16, shape: [720, 1, 512]}   # only for files without a header, see recon.io.scans.frames
    kind: line-integrals         # or counts (needs flat and dark, or i0)
    orbit: {name: parallel, arc_deg: 180, views: 181, column_mm: 0.5, row_mm: 0.5}
    unit: 1/mm                   # of the reconstruction, or HU
    flat: flat_*.tif             # optional, with dark
    dark: dark_*.tif
    i0: 1.0e+5                   # photons per ray without an object; estimated from the noise where absent
    find_centre: true            # optional, parallel beams only: replaces orbit.offset_columns

Arrays are (view, row, column) or (view, column). Names are relative to the YAML file.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Real
from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError, model_validator

from priors.runtime.errors import InputError
from priors.runtime.yaml_text import safe_yaml
from recon.data.noise import Exposure, estimate_i0, line_integrals, weights_without_counts
from recon.data.scan import Scan, check_line_integrals, check_sinogram_shape
from recon.data.units import MU_WATER
from recon.data.volume import Unit
from recon.geometry.orbits import Orbit, Parallel, Vectors
from recon.io.scans.format import ScanFormat
from recon.io.scans.frames import RawLayout, load_frames
from recon.preprocess.centre_search import find_centre
from recon.preprocess.radiographs import LineIntegrals, flat_correct


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


def read_array_scan(path: Path) -> Scan:
    """Return the scan described by the YAML file ``path``.

    Raises:
        InputError: a key is wrong or missing, a file does not exist, or arrays and orbit do not fit.
    """
    description = _description(path)
    try:
        return _scan_data(description, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _description(path: Path) -> ArrayScan:
    content = safe_yaml(path)
    try:
        return ArrayScan.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise InputError(f"{path}: {key}: {first['msg']}, found {str(first['input'])[:80]!r}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _scan_data(description: ArrayScan, folder: Path) -> Scan:
    data = load_frames(folder, description.data, raw=description.raw)
    rows, columns = data.shape[1:]
    orbit = _completed(description.orbit, rows, columns)
    check_sinogram_shape(data, orbit.geometry(), description.data)
    lines, i0 = _lines(description, folder, data)
    check_line_integrals(lines.sinogram, lines.weights)
    if description.find_centre and isinstance(orbit, Parallel):
        busiest = int(np.argmax(lines.sinogram.std(axis=(0, 2))))
        centre = find_centre(lines.sinogram[:, busiest], np.rad2deg(orbit.angles()))
        orbit = orbit.model_copy(update={"offset_columns": (columns - 1) / 2 - centre})
    return Scan(
        lines.sinogram,
        orbit.geometry(),
        orbit.grid(),
        lines.weights,
        mu_water=description.mu_water,
        unit=description.unit,
        provenance={"kind": "measured", "format": "arrays", "i0": i0, "orbit": orbit.model_dump(mode="json")},
    )


def _completed(orbit: Orbit, rows: int, columns: int) -> Orbit:
    """Return the orbit with the shape of the data's detector, and square pixels, where it leaves them open."""
    if isinstance(orbit, Vectors):
        return orbit
    size = {"rows": orbit.rows or rows, "columns": orbit.columns or columns}
    return orbit.model_copy(update={**size, "row_mm": orbit.row_mm or orbit.column_mm})


def _lines(
    description: ArrayScan, folder: Path, data: Real[np.ndarray, "v r c"]
) -> tuple[LineIntegrals, float | None]:
    if description.flat is not None and description.dark is not None:
        dark, flat = (
            load_frames(folder, pattern, views=False, raw=_frame_layout(description.raw, data))
            for pattern in (description.dark, description.flat)
        )
        return flat_correct(data, dark, flat), None
    if description.kind == "counts" and description.i0 is not None:
        return LineIntegrals(
            *line_integrals(data.astype(np.float64), Exposure(description.i0))
        ), description.i0
    sinogram = data.astype(np.float32)
    check_line_integrals(sinogram, np.ones_like(sinogram))
    i0 = description.i0 or estimate_i0(sinogram)
    return LineIntegrals(sinogram, weights_without_counts(sinogram, i0)), i0


def _frame_layout(raw: RawLayout | None, data: Real[np.ndarray, "v r c"]) -> RawLayout | None:
    """Return the layout of a field in raw numbers: one frame of the data's detector, without a header."""
    return None if raw is None else raw.model_copy(update={"shape": data.shape[1:], "offset": 0})


def _claims(path: Path, head: bytes) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


FORMAT = ScanFormat("a scan.yaml beside a .npy, TIFF or raw file", _claims, read_array_scan)
