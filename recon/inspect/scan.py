"""What a scan is: beam, views, distances, angles, field of view, range of the line integrals; what looks wrong."""

from pathlib import Path

import numpy as np

from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic
from priors.runtime.inspection import Inspection
from recon.data.scan import Scan
from recon.geometry.coverage import coverage
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.inspect.warnings import warnings_of
from recon.io.scans.registry import ScanOptions, format_of, read_scan, stored_bytes
from recon.report.scanner import scanner_png

LARGE = 2**28
"""Bytes of a file above which values are those of ``SAMPLE`` rows."""
SAMPLE = 16


def claims(path: Path) -> bool:
    """Tell whether a path looks like a scan: see the formats of ``recon.io.scans.registry``."""
    try:
        return format_of(path) is not None
    except InputError:
        return False


def inspect_file(path: Path) -> Inspection:
    """Describe a scan.

    Raises:
        InputError: it is damaged, of an unknown kind, or holds what no scanner measures.
    """
    data = read_scan(path, ScanOptions(sample=_rows(path), doubtful_centre=True))
    kind = format_of(path)
    geometry, grid = data.whole or (data.geometry, data.grid)
    facts = {
        "format": "" if kind is None else kind.title,
        **geometry_facts(geometry),
        **_looked_at(data),
        **_values(data),
        "unit of a reconstruction": data.unit,
        "suggested grid": _grid(grid),
        **_provenance(data),
    }
    return Inspection("CT scan", facts, warnings_of(data))


def geometry_facts(geometry: ScanGeometry) -> dict[str, str]:
    """Return what the vectors of a scan say, label to text."""
    seen, (rows, columns) = coverage(geometry), geometry.shape
    u, v = (float(np.linalg.norm(step, axis=1).mean()) for step in (geometry.u_mm, geometry.v_mm))
    facts = {
        "beam": f"{geometry.beam}, {geometry.detector} detector",
        "views": str(geometry.views),
        "detector": f"{rows} rows x {columns} columns of {v:.4g} x {u:.4g} mm",
    }
    if seen.sod_mm is not None and seen.sdd_mm is not None:
        facts["source to axis"] = _range(seen.sod_mm)
        facts["source to detector"] = _range(seen.sdd_mm)
        facts["magnification"] = f"{seen.magnification:.4g}"
        facts["fan angle"] = f"{seen.fan_deg:.4g} degrees"
    facts["angles"] = (
        f"{seen.angles_deg[0]:.4g} to {seen.angles_deg[-1]:.4g} degrees, {seen.arc_deg:.4g} in all, "
        f"steps of {seen.step_deg:.4g}"
    )
    if abs(seen.climb_mm) > 1e-3:
        facts["pitch"] = f"{seen.climb_mm:.4g} mm per turn, {seen.arc_deg / 360:.3g} turns"
    facts["rotation axis"] = f"on column {seen.axis_column:.2f}, the middle is {(columns - 1) / 2:.1f}"
    field = f"radius {seen.radius_mm:.4g} mm"
    if seen.wide_mm > 1.02 * seen.radius_mm:
        field += f", {seen.wide_mm:.4g} mm from one side"
    facts["field of view"] = field
    return facts


def _rows(path: Path) -> int | None:
    """Return how many rows of a large file are looked at, None for all of a file that is read whole."""
    return None if path.is_dir() or stored_bytes(path) < LARGE else SAMPLE


def _looked_at(data: Scan) -> dict[str, str]:
    """Say that the values below are those of a few rows."""
    if data.whole is None:
        return {}
    return {"looked at": f"{data.geometry.shape[0]} rows in the middle of {data.whole[0].shape[0]}"}


def draw(path: Path, png: Path) -> None:
    """Draw the scanner of a scan file to a PNG.

    Raises:
        InputError: the scan cannot be read.
    """
    data = read_scan(path, ScanOptions(sample=1, doubtful_centre=True))
    picture = scanner_png(*(data.whole or (data.geometry, data.grid)))
    with atomic(png) as temporary:
        temporary.write_bytes(picture)


def _values(data: Scan) -> dict[str, str]:
    """Return the range of what was measured."""
    low, high = (float(value) for value in (data.sinogram.min(), data.sinogram.max()))
    good = data.weights[data.weights > 0]
    bad = 100 * float((data.weights <= 0).mean())
    facts = {"line integrals": f"{low:.4g} .. {high:.4g}"}
    if data.exposure is not None:
        facts["photons without an object"] = f"{data.exposure.i0:.4g}"
    facts["weights"] = f"{good.min():.4g} .. {good.max():.4g}"
    facts["rays of weight 0"] = f"{bad:.3g} %"
    return facts


def _provenance(data: Scan) -> dict[str, str]:
    """Return how the data came about; ``kind`` is what an inspection calls the thing itself."""
    steps = {"origin" if key == "kind" else key: value for key, value in data.provenance.items()}
    return {key.replace("_", " "): str(value)[:100] for key, value in steps.items()}


def _grid(grid: Grid) -> str:
    shape, voxel = (" x ".join(f"{n:.4g}" for n in three) for three in (grid.shape, grid.voxel_mm))
    return f"{shape} voxels of {voxel} mm (z, y, x)"


def _range(ends: tuple[float, float]) -> str:
    """Return one length, or two where they differ."""
    low, high = (f"{end:.5g}" for end in ends)
    return f"{low} mm" if low == high else f"{low} to {high} mm"
