"""What looks wrong with a scan, one sentence each: angles, gaps, centring, truncation, rows, pitch.

A warning is not an error: every rule below has honest exceptions, so the sentence says what was found and what it may
mean. Nothing here changes a reconstruction.
"""

import math

import numpy as np

from recon.data.scan import Scan
from recon.geometry.coverage import Coverage, coverage, seen_height
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry

# Share of the largest line integral that the outermost columns may hold before the object counts as cut off.
EDGE_SHARE = 0.1
# Share of rays without counts that is worth a word.
STARVED_SHARE = 1e-3


def warnings_of(data: Scan) -> tuple[str, ...]:
    """Return the warnings of a scan."""
    seen = coverage(data.geometry)
    sentences = [
        *data.warnings,
        *_angles(seen, data.geometry),
        *_field(seen, data),
        *_starved(data),
        *_centre(seen, data.geometry),
    ]
    if data.geometry.beam == "cone":
        helix = abs(seen.climb_mm) > 1e-3
        sentences += _helix(seen, data) if helix else _rows(seen, data)
    return tuple(sentences)


def _angles(seen: Coverage, geometry: ScanGeometry) -> list[str]:
    """Return what is odd about the angles of the views."""
    sentences, views, arc, step = [], geometry.views, seen.arc_deg, seen.step_deg
    if seen.duplicates:
        sentences.append(f"{seen.duplicates} of {views} views have the pose of another view")
    if views >= 8 and min(abs(arc - math.pi), abs(arc - 2 * math.pi)) < 0.1 + step:
        sentences.append(f"the views span {arc:.3g} degrees, as if radians had been taken for degrees")
        return sentences
    if views >= 16 and step > 20:
        sentences.append(
            f"neighbouring views are {step:.4g} degrees ({math.radians(step):.4g} rad) apart, as if degrees had been "
            "taken for radians, unless the order is interleaved on purpose"
        )
        return sentences
    for start, size in seen.gaps()[:3]:
        sentences.append(
            f"no view over {size:.3g} degrees after the angle {start:.4g}, the others are {step:.3g} apart"
        )
    needed = 180 + seen.fan_deg
    if arc < needed - 1.5 * step - 0.5:
        sentences.append(
            f"the views cover {arc:.4g} degrees, a complete scan needs {needed:.4g}: edges will be missing"
        )
    return sentences


def _starved(data: Scan) -> list[str]:
    """Return how many rays counted next to nothing: the logarithm cuts their line integrals off."""
    # A weight is the number of photons that a ray is worth; one without a count is worth half of one or less.
    starved = (data.weights > 0) & (data.weights < 0.75)
    share = float(starved.mean())
    if share <= STARVED_SHARE:
        return []
    most = float(data.sinogram[starved].max())
    return [
        f"{100 * share:.2g} % of the rays counted less than a photon: their line integrals end at {most:.3g}, and the "
        "attenuation behind them comes out too low"
    ]


def _field(seen: Coverage, data: Scan) -> list[str]:
    """Return whether the volume, or the object, leaves the field of view."""
    sentences = []
    volume, full = data.grid, seen.arc_deg >= 359
    radius = seen.wide_mm if full else seen.radius_mm
    inscribed = inscribed_mm(volume)
    if inscribed > 1.01 * radius:
        sentences.append(
            f"the volume leaves the field of view: its slices reach {inscribed:.4g} mm from the axis, the "
            f"detector sees {radius:.4g} mm from every side"
        )
    counted = np.where(data.weights > 0, data.sinogram, 0)
    edge = max(float(np.quantile(counted[..., side], 0.95)) for side in (0, -1))
    largest = float(np.quantile(counted, 0.999))
    if data.geometry.shape[1] >= 8 and edge > EDGE_SHARE * largest and seen.radius_mm >= 0.8 * seen.wide_mm:
        sentences.append(
            f"the outermost columns see line integrals of {edge:.2g} ({100 * edge / largest:.0f} % of the largest): "
            "the object is wider than the detector, or the flat field is wrong"
        )
    return sentences


def _centre(seen: Coverage, geometry: ScanGeometry) -> list[str]:
    """Return whether the rotation axis is far from the middle of the detector."""
    columns, middle = geometry.shape[1], (geometry.shape[1] - 1) / 2
    aside = seen.axis_column - middle
    if abs(aside) <= max(1.0, 0.02 * columns):
        return []
    position = f"the rotation axis falls on column {seen.axis_column:.1f}, {abs(aside):.1f} beside the middle"
    if abs(aside) > columns / 2:
        return [f"{position}, outside the detector"]
    if seen.arc_deg < 359:
        return [f"{position}: on a part of a turn the far side of the object is missing"]
    return [f"{position}: fine for an offset detector, a mistake otherwise"]


def _rows(seen: Coverage, data: Scan) -> list[str]:
    """Return which slices of a circular cone some view does not see whole."""
    volume = data.grid
    radius = min(inscribed_mm(volume), seen.wide_mm)
    height = seen_height(data.geometry, radius)
    low, high = height[:, 0].max(), height[:, 1].min()
    inside = (volume.coordinates(0) >= low) & (volume.coordinates(0) <= high)
    if inside.all():
        return []
    if not inside.any():
        return [
            f"no slice is seen whole by every view: the detector's {data.geometry.shape[0]} rows are too few"
        ]
    first, last = np.flatnonzero(inside)[[0, -1]]
    return [
        f"slices {first} to {last} of {volume.shape[0]} are seen whole by every view, the others lack rows "
        f"(z from {low:.4g} to {high:.4g} mm out to a radius of {radius:.4g} mm)"
    ]


def _helix(seen: Coverage, data: Scan) -> list[str]:
    """Return whether the pitch outruns the detector, and whether the helix covers the volume."""
    sentences = []
    scan, volume, climb = data.geometry, data.grid, abs(seen.climb_mm)
    sod = sum(seen.sod_mm or (0, 0)) / 2
    at_axis = scan.shape[0] * float(abs(scan.v_mm[:, 2]).mean()) / (seen.magnification or 1)
    half_fan = math.radians(seen.fan_deg / 2)
    most = at_axis * math.pi * math.cos(half_fan) / (math.pi / 2 + half_fan)
    whole = sod * (1 - climb / at_axis)
    if climb > most:
        sentences.append(
            f"the pitch of {climb:.4g} mm is more than the {most:.4g} mm that {at_axis:.4g} mm of detector at the axis "
            "allow: some lines through the object are measured from no side"
        )
    elif whole < min(inscribed_mm(volume), seen.wide_mm):
        sentences.append(
            f"with a pitch of {climb:.4g} mm a turn sees voxels within {max(whole, 0):.4g} mm of the axis from every "
            "side; farther out fbp stretches the outermost rows, iterative methods need not"
        )
    z, edge = volume.coordinates(0), volume.voxel_mm[0] / 2
    low, high = scan.source_mm[:, 2].min(), scan.source_mm[:, 2].max()
    if z[0] - edge < low - at_axis / 2 or z[-1] + edge > high + at_axis / 2:
        sentences.append(
            f"the volume spans z from {z[0] - edge:.4g} to {z[-1] + edge:.4g} mm, the helix only {low:.4g} to "
            f"{high:.4g} mm: its ends are not seen from every side"
        )
    return sentences


def inscribed_mm(grid: Grid) -> float:
    """Return the largest distance from the axis of the ellipse inside the slices, where a body may be."""
    half = [grid.shape[k] * grid.voxel_mm[k] / 2 + abs(grid.centre_mm[k]) for k in (1, 2)]
    return max(half)
