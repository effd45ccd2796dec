"""Plain arrays as a scan: the reader of what a scan.yaml describes, and of some rows of it."""

from pathlib import Path

import numpy as np

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_array
from recon.data.scan import Scan, check_shape, check_slices
from recon.geometry.orbits import Orbit, Parallel, Vectors
from recon.io.scans.arrays.description import ArrayScan, read_description
from recon.io.scans.arrays.frames import matching, open_frames
from recon.io.scans.arrays.lines import Measured
from recon.io.scans.format import ScanFormat, ScanOptions
from recon.io.scans.rows.axis import Rows, axis_of
from recon.io.scans.rows.parts import part_of


def read_array_scan(path: Path, options: ScanOptions = ScanOptions()) -> Scan:  # noqa: B008 (frozen)
    """Return the scan described by the YAML file ``path``, or the detector rows of it that the options pick.

    Raises:
        InputError: a key is wrong or missing, a file does not exist, or arrays and orbit do not fit.
    """
    description = read_description(path)
    try:
        return _scan(description, path.parent, options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def stored_bytes(path: Path) -> int:
    """Return the size of the files that the YAML file ``path`` names as its data.

    Raises:
        InputError: it is no such description, or they do not exist.
    """
    description = read_description(path)
    try:
        return sum(file.stat().st_size for file in matching(path.parent, description.data))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _scan(description: ArrayScan, folder: Path, options: ScanOptions) -> Scan:
    data = open_frames(folder, description.data, raw=description.raw)
    views, rows, columns = data.shape
    orbit = _completed(description.orbit, rows, columns)
    geometry = orbit.geometry()
    warnings: list[str] = []
    check_shape(data.shape, geometry, description.data)
    part = part_of(options, (views, rows, columns), crossed=None if geometry.sliced else geometry.beam)
    # Line integrals and their weights.
    check_array("scan", (2, views, part.high - part.low, columns), np.float32)
    measured = Measured.of(description, folder, data)
    axis = {}
    if description.find_centre and isinstance(orbit, Parallel):
        seen = Rows(measured.lines, (views, rows, columns), np.rad2deg(orbit.angles()), (), warnings)
        found = axis_of(seen, options)
        orbit = orbit.model_copy(update={"offset_columns": (columns - 1) / 2 - found.column})
        geometry = orbit.geometry()
        axis = {"centre_estimates": f"{found.told()} (confidence {found.confidence})"}
    grid = orbit.grid()
    check_slices(geometry, grid)
    lines = measured.lines(part.read)
    return Scan(
        lines.sinogram,
        geometry.rows(part.low, part.high) if part.partial else geometry,
        grid.slices(part.low, part.high) if part.partial else grid,
        lines.weights,
        mu_water=description.mu_water,
        unit=description.unit,
        provenance={
            "kind": "measured",
            "format": "arrays",
            "i0": measured.i0,
            "orbit": orbit.model_dump(mode="json"),
            **axis,
        },
        warnings=tuple(warnings),
        whole=part.whole(geometry, grid),
        partial=part.partial,
    )


def _completed(orbit: Orbit, rows: int, columns: int) -> Orbit:
    """Return the orbit with the shape of the data's detector, and square pixels, where it leaves them open."""
    if isinstance(orbit, Vectors):
        return orbit
    size = {"rows": orbit.rows or rows, "columns": orbit.columns or columns}
    return orbit.model_copy(update={**size, "row_mm": orbit.row_mm or orbit.column_mm})


def _claims(path: Path, head: bytes) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


FORMAT = ScanFormat(
    "a scan.yaml beside a .npy, TIFF or raw file", _claims, read_array_scan, read_array_scan, stored_bytes
)
