"""What a scan sees, in the numbers people check a scanner by: distances, angles, pitch, field of view.

Everything follows from the vectors of the views. The angle of a view is that of its direction of travel through the
middle of the detector, seen along z. The field of view is the circle about the z axis that no ray beside the detector
crosses: on both sides of the axis (``radius_mm``), or on the wider side only (``wide_mm``), which suffices where every
line is seen from both ends.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from recon.geometry.scan import ScanGeometry

TURN = 360.0


@dataclass(frozen=True, eq=False)
class Coverage:
    """Numbers of a scan.

    Attributes:
        sod_mm: distance of the source from the z axis, least and most; None for parallel rays.
        sdd_mm: distance of the detector from the source, likewise.
        angles_deg: angle of every view, unwrapped: neighbours differ by less than half a turn.
        radius_mm: radius of the field of view on both sides of the axis.
        wide_mm: the same on the wider side.
        fan_deg: angle between the outermost rays; 0 for parallel rays.
        axis_column: column the z axis falls on, mean over the views; the middle is (columns - 1) / 2.
        climb_mm: travel of the source along z in a turn, 0 on a circle; its sign is that of z over angle.
        duplicates: views with exactly the pose of an earlier one.
    """

    sod_mm: tuple[float, float] | None
    sdd_mm: tuple[float, float] | None
    angles_deg: Float64[np.ndarray, " v"]
    radius_mm: float
    wide_mm: float
    fan_deg: float
    axis_column: float
    climb_mm: float
    duplicates: int

    @property
    def magnification(self) -> float | None:
        """Size on the detector of an object on the axis."""
        if self.sod_mm is None or self.sdd_mm is None:
            return None
        return sum(self.sdd_mm) / sum(self.sod_mm)

    @property
    def step_deg(self) -> float:
        """Median angle between neighbouring views, 0 for one view."""
        return float(np.median(abs(np.diff(self.angles_deg)))) if len(self.angles_deg) > 1 else 0.0

    @property
    def arc_deg(self) -> float:
        """Angle covered, each view standing for one step."""
        return float(np.ptp(self.angles_deg)) + self.step_deg

    def gaps(self) -> list[tuple[float, float]]:
        """Return (start, size) in degrees of holes inside the arc, over 2.5 steps wide.

        The opening between the ends of an arc is not a hole.
        """
        angle = np.sort(self.angles_deg % TURN)
        if len(angle) < 3:
            return []
        between = np.diff(angle, append=angle[0] + TURN)
        # Views of many turns fall between each other: what counts is the usual distance of neighbours.
        usual = float(np.median(between[between > 1e-9])) if (between > 1e-9).any() else TURN
        wide = [(float(a), float(b)) for a, b in zip(angle, between, strict=True) if b > 2.5 * usual]
        if self.arc_deg < TURN - self.step_deg and wide:
            wide.remove(max(wide, key=lambda gap: gap[1]))
        return wide


def coverage(geometry: ScanGeometry) -> Coverage:
    """Return the numbers of a scan."""
    parallel = geometry.parallel
    travel = geometry.source_mm if parallel else geometry.detector_mm - geometry.source_mm
    angles = np.rad2deg(np.unwrap(np.arctan2(travel[:, 1], travel[:, 0])))
    low, high = edge_distances(geometry)
    reach = None if parallel else _span(_depth(geometry))
    height = (geometry.detector_mm if parallel else geometry.source_mm)[:, 2]
    poses = np.concatenate([geometry.source_mm, geometry.detector_mm, geometry.u_mm, geometry.v_mm], axis=1)
    return Coverage(
        sod_mm=None if parallel else _span(np.linalg.norm(geometry.source_mm[:, :2], axis=1)),
        sdd_mm=reach,
        angles_deg=angles,
        radius_mm=float(np.maximum(np.minimum(-low, high), 0).min()),
        wide_mm=float(np.maximum(np.maximum(-low, high), 0).min()),
        fan_deg=0.0 if parallel else _fan(geometry),
        axis_column=_axis_column(geometry),
        climb_mm=_climb(angles, height) if geometry.beam == "cone" else 0.0,
        duplicates=geometry.views - len(np.unique(poses, axis=0)),
    )


def edge_rays(geometry: ScanGeometry) -> tuple[Float64[np.ndarray, "v 2 3"], Float64[np.ndarray, "v 2 3"]]:
    """Return a point and the direction, not of unit length, of the rays at both ends of the middle row."""
    half = np.array([-0.5, 0.5])[None, :, None] * geometry.shape[1]
    u, source, centre = geometry.u_mm[:, None], geometry.source_mm[:, None], geometry.detector_mm[:, None]
    if geometry.parallel:
        return centre + half * u, np.broadcast_to(source, (geometry.views, 2, 3))
    reach = centre - source
    if geometry.detector == "flat":
        return np.broadcast_to(source, (geometry.views, 2, 3)), reach + half * u
    radius, pitch = (np.linalg.norm(x, axis=2, keepdims=True) for x in (reach, u))
    angle = half * pitch / radius
    way = np.cos(angle) * reach + np.sin(angle) * radius / pitch * u
    return np.broadcast_to(source, (geometry.views, 2, 3)), way


def edge_distances(geometry: ScanGeometry) -> tuple[Float64[np.ndarray, " v"], Float64[np.ndarray, " v"]]:
    """Return the signed distances of the outermost rays from the z axis in mm, the lesser first."""
    point, way = edge_rays(geometry)
    cross = way[..., 0] * point[..., 1] - way[..., 1] * point[..., 0]
    distance = np.sort(cross / np.linalg.norm(way[..., :2], axis=2), axis=1)
    return distance[:, 0], distance[:, 1]


def seen_height(geometry: ScanGeometry, radius_mm: float) -> Float64[np.ndarray, "v 2"]:
    """Return the lowest and highest z that each view sees of the whole disc of a radius about the axis."""
    half = geometry.shape[0] / 2 * abs(geometry.v_mm[:, 2])
    if geometry.parallel:
        return np.stack([geometry.detector_mm[:, 2] - half, geometry.detector_mm[:, 2] + half], axis=1)
    offset = geometry.detector_mm[:, 2] - geometry.source_mm[:, 2]
    depth, sod = _depth(geometry), np.linalg.norm(geometry.source_mm[:, :2], axis=1)
    near, far = ((sod + side * radius_mm) / depth for side in (-1, 1))
    # The detector's upper edge rises from the source: the disc is seen where it rises least.
    top, bottom = offset + half, offset - half
    low = np.maximum(bottom * near, bottom * far)
    high = np.minimum(top * near, top * far)
    return np.asarray(geometry.source_mm[:, 2:] + np.stack([low, high], axis=1))


def _span(values: Float64[np.ndarray, " v"]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _depth(geometry: ScanGeometry) -> Float64[np.ndarray, " v"]:
    """Return the distance of the detector's plane from the source, of its middle if it is curved."""
    reach = geometry.detector_mm - geometry.source_mm
    if geometry.detector == "curved":
        return np.asarray(np.linalg.norm(reach, axis=1))
    normal = np.cross(geometry.u_mm, geometry.v_mm)
    return np.asarray(abs((reach * normal).sum(1)) / np.linalg.norm(normal, axis=1))


def _fan(geometry: ScanGeometry) -> float:
    _, way = edge_rays(geometry)
    one, other = (way[:, k, :2] / np.linalg.norm(way[:, k, :2], axis=1, keepdims=True) for k in (0, 1))
    return float(np.rad2deg(np.arccos(np.clip((one * other).sum(1), -1, 1))).max())


def _axis_column(geometry: ScanGeometry) -> float:
    """Return where the axis falls, by following each view's ray through it."""
    u, centre = geometry.u_mm[:, :2], geometry.detector_mm[:, :2]
    pitch = np.linalg.norm(u, axis=1)
    if geometry.parallel:
        column = -(centre * u).sum(1) / pitch**2
    else:
        reach, back = centre - geometry.source_mm[:, :2], -geometry.source_mm[:, :2]
        if geometry.detector == "curved":
            across = (back * u).sum(1) / pitch
            along = (back * reach).sum(1) / np.linalg.norm(reach, axis=1)
            column = np.arctan2(across, along) * np.linalg.norm(reach, axis=1) / pitch
        else:
            # source + t back = centre + c u, solved for c by the cross product with back.
            column = (back[:, 0] * reach[:, 1] - back[:, 1] * reach[:, 0]) / (
                u[:, 0] * back[:, 1] - u[:, 1] * back[:, 0]
            )
    return float(column.mean()) + (geometry.shape[1] - 1) / 2


def _climb(angles: Float64[np.ndarray, " v"], height: Float64[np.ndarray, " v"]) -> float:
    """Return the rise along z per turn of the straight line through the source heights."""
    if len(angles) < 2 or np.ptp(height) < 1e-6 or np.ptp(angles) < 1e-6:
        return 0.0
    slope = float(np.polyfit(angles, height, 1)[0]) * TURN
    return slope if math.isfinite(slope) else 0.0
