"""DICOM-CT-PD: projection data of clinical scanners, one DICOM file per view, axial or helical.

The format measures in a left-handed frame fixed to the patient: seen from the table x is to the right, y up, z into
the gantry; the angle p grows counter-clockwise from 12 o'clock, so that a point is (-rho sin p, rho cos p, z). With
h = -z in place of z the frame is right-handed and ours: p is the angle of our orbits, and as row 1 is farthest from
the table and column 1 leftmost when the detector is at 6 o'clock, columns step along u and rows along +h.

The detector's focal centre F is at (rho0, p0, z0). Element (column X, row Y), counted from 1, is
DetectorCentralElement where the line from F through the axis meets the detector at the distance d0. On a cylinder
about F column c is at the angle (c - X) column_mm / d0; on a flat detector at the distance (c - X) column_mm. The
focal spot itself is at (rho0 + drho, p0 + dp, z0 + dz): with a flying focal spot the cylinder is not centred on it.
Our curved detector is a cylinder about the focal spot, so each view then takes the angular step that fits the true
directions of its columns best; the largest error is told in ``provenance`` in columns, and a scan where it exceeds
a tenth is refused.

Values are line integrals (RescaleSlope, RescaleIntercept; LogFlag YES). Weights are N0 exp(-y) with the photons N0
per column of PhotonStatistics where given, else estimated from the noise. Sources: see
``recon.io.scans.ct_pd.header``.
"""

import warnings
import zipfile
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float32, Float64

from priors.runtime.errors import InputError
from recon.data.noise import estimate_i0, weights_without_counts
from recon.data.scan import Scan
from recon.data.units import MU_WATER
from recon.geometry.grid import Grid
from recon.geometry.scan import Beam, ScanGeometry
from recon.io.scans.ct_pd.centre import with_central_column
from recon.io.scans.ct_pd.header import TAGS, View, numbers, optional, read_view, text
from recon.io.scans.format import ScanFormat
from recon.io.volumes.dicom.files import in_threads, is_dicom, read_bounded, read_files
from recon.io.volumes.dicom.geometry import Slice
from recon.io.volumes.dicom.pixels import stored_pixels

PIXELS = 512
MISFIT = 0.1
"""Columns by which the direction of a ray may be off where a flying focal spot leaves the cylinder's centre."""

# Scanner (x right, y up, h towards the table) to patient RAS, by how the patient lies.
_FRAMES = {
    "HFS": (-1.0, 1.0, -1.0),
    "HFP": (1.0, -1.0, -1.0),
    "FFS": (1.0, 1.0, 1.0),
    "FFP": (-1.0, -1.0, 1.0),
}


@dataclass(frozen=True, eq=False)
class _Poses:
    """Vectors of all views and the largest error of a ray's direction in columns."""

    geometry: ScanGeometry
    misfit: float


def read_ct_pd(path: Path) -> Scan:
    """Return the scan in a folder or zip archive of DICOM-CT-PD files; reconstructions are in HU.

    Raises:
        InputError: a tag is missing, views of different detectors or spectra, data without logarithm, or a geometry
            that cannot be represented.
    """
    # pydicom's warnings quote the offending value, which may be a patient's name: they are not passed on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        projections = _ordered([Slice(*named) for named in read_files(path)])
        if not projections:
            raise InputError(f"{path}: found no DICOM files, expected DICOM-CT-PD projections")
        views = [read_view(projection) for projection in projections]
        _check(path, views)
        sinogram = np.empty((len(views), views[0].rows, views[0].columns), np.float32)
        in_threads(lambda pair: _fill(*pair), zip(views, sinogram, strict=True))
        views, central = with_central_column(views, sinogram)
        poses = _poses(path, views)
        weights, photons = _weights(projections, sinogram)
        position = str(projections[0].get("PatientPosition") or "")
        frame = np.diag([*_FRAMES.get(position, _FRAMES["HFS"]), 1.0])
        return Scan(
            sinogram,
            poses.geometry,
            _volume(views, poses.geometry),
            weights,
            frame=frame,
            mu_water=_mu_water(projections[0]),
            provenance={
                "kind": "measured",
                "format": "DICOM-CT-PD",
                "photons": photons,
                "flying_focal_spot": text(projections[0], "FlyingFocalSpotMode") or "not stated",
                "central_column": central.told,
                "ray_error_columns": round(poses.misfit, 4),
                "patient_position": position if position in _FRAMES else "not stated, taken as HFS",
            },
            warnings=central.warnings,
        )


def _ordered(projections: list[Slice]) -> list[Slice]:
    """Return the views in the order of their instance numbers, or of their names where those are not usable."""
    instances = [projection.number("InstanceNumber") for projection in projections]
    if None in instances or len(set(instances)) < len(instances):
        return projections
    return [
        projection
        for _, projection in sorted(
            zip(instances, projections, strict=True), key=lambda pair: float(pair[0] or 0)
        )
    ]


def _check(path: Path, views: list[View]) -> None:
    first = views[0]
    if min(first.rows, first.columns) < 1 or min(first.column_mm, first.row_mm) <= 0:
        raise InputError(f"{path}: found a detector of {first.rows} x {first.columns} elements")
    if first.shape not in ("CYLINDRICAL", "FLAT"):
        raise InputError(f"{path}: DetectorShape: found {first.shape!r}, expected CYLINDRICAL or FLAT")
    for view in views:
        if view.alike() != first.alike():
            raise InputError(f"{path}: {view.item.name} and {first.item.name} have different detectors")
        if not 0 < view.radius_mm < view.depth_mm:
            found = f"source to axis {view.radius_mm:.6g} mm, source to detector {view.depth_mm:.6g} mm"
            raise InputError(f"{path}: {view.item.name}: found {found}, expected the axis between them")
        if text(view.item, "LogFlag") == "NO":
            raise InputError(f"{path}: {view.item.name}: LogFlag: found NO, expected line integrals (YES)")
    if len({optional(view.item, "SpectrumIndex", 0.0) for view in views}) > 1:
        raise InputError(f"{path}: found projections of several spectra, expected those of one")
    if len({str(view.item.get("SeriesInstanceUID")) for view in views}) > 1:
        raise InputError(f"{path}: found projections of several series, expected one folder per series")


def _poses(path: Path, views: list[View]) -> _Poses:
    first = views[0]
    angle, height, radius, depth = (
        np.array([getattr(view, name) for view in views], np.float64)
        for name in ("angle", "height_mm", "radius_mm", "depth_mm")
    )
    turn, axial, radial = np.array([view.shift for view in views], np.float64).T
    travel, u, v = _directions(angle)
    centre = -radius[:, None] * travel - height[:, None] * v
    source = -(radius + radial)[:, None] * _directions(angle + turn)[0] - (height + axial)[:, None] * v
    # From the central element, counted from 1, to the middle of the array.
    x, y = np.array([view.central for view in views], np.float64).T
    across, along = ((first.columns + 1) / 2 - x) * first.column_mm, ((first.rows + 1) / 2 - y) * first.row_mm
    shape, rows = (first.rows, first.columns), first.row_mm * v
    if first.shape == "FLAT":
        middle = centre + depth[:, None] * travel + across[:, None] * u + along[:, None] * v
        return _Poses(ScanGeometry(_beam(views), source, middle, first.column_mm * u, rows, shape), 0.0)
    arcs = [
        _arc(source[k], centre[k], np.stack([travel[k], u[k]]) * depth[k], start=across[k], view=first)
        for k in range(len(views))
    ]
    misfit = max(arc.misfit for arc in arcs)
    if misfit > MISFIT:
        raise InputError(
            f"{path}: the focal spot is so far from the centre of the curved detector that rays would be off by "
            f"{misfit:.2g} columns, expected at most {MISFIT}"
        )
    middle = np.stack([arc.middle for arc in arcs]) + along[:, None] * v
    steps = np.stack([arc.step for arc in arcs])
    return _Poses(ScanGeometry(_beam(views), source, middle, steps, rows, shape, "curved"), misfit)


@dataclass(frozen=True, eq=False)
class _Arc:
    """The curved detector of one view: its middle, the step of a column there, the error in columns."""

    middle: Float64[np.ndarray, " 3"]
    step: Float64[np.ndarray, " 3"]
    misfit: float


def _arc(
    source: Float64[np.ndarray, " 3"],
    centre: Float64[np.ndarray, " 3"],
    axes: Float64[np.ndarray, "2 3"],
    *,
    start: float,
    view: View,
) -> _Arc:
    """Return the cylinder about ``source`` that fits the one about ``centre``.

    Args:
        source: focal spot. centre: focal centre of the detector.
        axes: directions towards the detector and of its columns, as long as its radius.
        start: arc in mm from the central element to the middle of the array.
        view: for the number and size of columns.
    """
    depth = float(np.linalg.norm(axes[0]))
    column = np.arange(view.columns) - (view.columns - 1) / 2

    def point(arc_mm: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n 3"]:
        angle = arc_mm[:, None] / depth
        return np.asarray(centre + np.cos(angle) * axes[0] + np.sin(angle) * axes[1])

    middle = point(np.array([start]))[0]
    seen, side = _seen_angles(source, middle, point(start + column * view.column_mm))
    reach = float(np.linalg.norm((middle - source)[:2]))
    step = float(seen @ column / (column @ column)) if view.columns > 1 else view.column_mm / depth
    misfit = float(abs(seen - column * step).max()) / abs(step)
    return _Arc(middle, step * reach * side, misfit)


def _seen_angles(
    source: Float64[np.ndarray, " 3"], middle: Float64[np.ndarray, " 3"], ends: Float64[np.ndarray, "c 3"]
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " 3"]]:
    """Return the in-plane angles of points as the source sees them, from ``middle`` on, and the direction in which
    they grow."""
    forward = (middle - source)[:2]
    forward = forward / np.linalg.norm(forward)
    left = np.array([-forward[1], forward[0]])
    rays = ends[:, :2] - source[:2]
    return np.arctan2(rays @ left, rays @ forward), np.array([*left, 0.0])


def _directions(angle: Float64[np.ndarray, " v"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the directions from source to detector, of columns, and of rows."""
    sine, cosine, zero = np.sin(angle), np.cos(angle), np.zeros_like(angle)
    travel, u = np.stack([sine, -cosine, zero], axis=1), np.stack([cosine, sine, zero], axis=1)
    return travel, u, np.tile([0.0, 0.0, 1.0], (len(angle), 1))


def _beam(views: list[View]) -> Beam:
    """Return fan for one row on a circle, whose rays stay in a slice, else cone."""
    heights = np.array([view.height_mm for view in views])
    flat = np.ptp(heights) < 1e-3 and all(abs(view.shift[1]) < 1e-3 for view in views)
    return "fan" if views[0].rows == 1 and flat else "cone"


def _volume(views: list[View], geometry: ScanGeometry) -> Grid:
    """Return 512 x 512 pixels over the field of view, slices as far as the source travels, as thick as a row at
    the axis."""
    first = views[0]
    scale = first.radius_mm / first.depth_mm
    half = max(abs(first.columns + 0.5 - first.central[0]), abs(first.central[0] - 0.5)) * first.column_mm
    widest = half / first.depth_mm if first.shape == "CYLINDRICAL" else np.arctan2(half, first.depth_mm)
    stated = first.item.number("DataCollectionDiameter")
    pixel = (stated or 2 * first.radius_mm * float(np.sin(min(widest, np.pi / 2)))) / PIXELS
    thick = first.row_mm * scale
    heights = -np.array([view.height_mm for view in views])
    low, high = float(heights.min()), float(heights.max())
    slices = max(int((high - low) / thick), first.rows if high - low < thick else 1, 1)
    return Grid((slices, PIXELS, PIXELS), (thick, pixel, pixel), ((low + high) / 2, 0.0, 0.0))


def _fill(view: View, out: Float32[np.ndarray, "r c"]) -> None:
    projection = view.item
    stored = stored_pixels(projection)
    # The image of a projection is stored row by row or column by column; its shape says which.
    if stored.shape == out.shape[::-1] and stored.shape != out.shape:
        stored = stored.T
    if stored.shape != out.shape:
        raise InputError(f"{projection.name}: found pixels of shape {stored.shape}, expected {out.shape}")
    slope, intercept = projection.number("RescaleSlope"), projection.number("RescaleIntercept")
    if not slope or intercept is None:
        raise InputError(
            f"{projection.name}: RescaleSlope and RescaleIntercept are missing, expected line integrals"
        )
    out[:] = stored * slope + intercept


def _weights(projections: list[Slice], sinogram: Float32[np.ndarray, "v r c"]) -> tuple[np.ndarray, str]:
    """Return inverse variances, and where the number of photons comes from."""
    if all(TAGS["PhotonStatistics"][0] in projection.dataset for projection in projections):
        photons = np.stack(
            [numbers(projection, "PhotonStatistics", sinogram.shape[2]) for projection in projections]
        )
        if (photons <= 0).any():
            raise InputError("PhotonStatistics: found photons of 0 or less, expected positive numbers")
        weights = photons[:, None, :] * np.exp(-np.clip(sinogram, -1, 20))
        return weights.astype(np.float32), "PhotonStatistics"
    i0 = estimate_i0(sinogram)
    return weights_without_counts(sinogram, i0), f"{i0:.0f}, estimated from the noise"


def _mu_water(projection: Slice) -> float:
    attenuation = optional(projection, "WaterAttenuationCoefficient", MU_WATER)
    if not 0.01 <= attenuation <= 0.05:
        raise InputError(
            f"{projection.name}: WaterAttenuationCoefficient: found {attenuation:.4g}, expected about 0.02 per mm"
        )
    return attenuation


def _claims(path: Path, head: bytes) -> bool:
    """Look at the first DICOM file only."""
    try:
        if path.is_dir():
            files = (p for p in sorted(path.rglob("*")) if p.is_file())
            first = next((file for file in islice(files, 50) if _is_dicom(file)), None)
            return first is not None and _is_projection(first)
        if zipfile.is_zipfile(path):
            return False if path.suffix == ".npz" else _archive_holds_projections(path)
        return is_dicom(head) and _is_projection(path)
    except Exception:
        # Whatever is wrong with it, the reader that claims it in the end tells.
        return False


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as stream:
        return is_dicom(stream.read(132))


def _is_projection(file: Path) -> bool:
    with file.open("rb") as stream:
        return TAGS["NumberofDetectorRows"][0] in read_bounded(file.name, stream, header=True)


def _archive_holds_projections(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist()[:50]:
            with archive.open(member) as stream:
                if is_dicom(stream.read(132)):
                    stream.seek(0)
                    found = read_bounded(member.filename, cast(BufferedIOBase, stream), header=True)
                    return TAGS["NumberofDetectorRows"][0] in found
    return False


FORMAT = ScanFormat("DICOM-CT-PD projections (folder or .zip)", _claims, read_ct_pd)
