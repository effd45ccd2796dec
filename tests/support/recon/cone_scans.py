"""Scans whose rays cross slices, one of every kind, and volumes they see."""

import numpy as np

from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, DetectorOrbit, HelicalCone, Parallel3D
from recon.geometry.scan import ScanGeometry

VOLUMES = {
    "odd": Grid((9, 33, 21), (2.0, 1.3, 1.7), (1.0, 3.0, -2.0)),
    # Slices so thin that many rays climb more than one slice per pixel.
    "thin": Grid((31, 16, 18), (0.5, 1.3, 1.7), (-2.0, 0.0, 1.0)),
}
CONE = {"sod_mm": 60.0, "sdd_mm": 100.0}
ORBITS: dict[str, DetectorOrbit] = {
    "flat": CircularCone(views=5, start_deg=3, offset_columns=0.25, **CONE),
    "curved": CircularCone(views=4, detector="curved", offset_rows=1.3, offset_columns=-2, **CONE),
    "exact": CircularCone(angles_deg=(0, 90, 180, 270), axis_offset_mm=1.5, **CONE),
    "coarse rows": CircularCone(views=4, row_mm=11.0, column_mm=4.0, start_deg=20, **CONE),
    "helical": HelicalCone(views_per_turn=5, pitch_mm=9.0, **CONE),
    "helical curved": HelicalCone(
        views_per_turn=5, pitch_mm=-7.0, detector="curved", clockwise=True, offset_columns=0.25, **CONE
    ),
    "in-plane": CircularCone(views=4, in_plane_deg=3, start_deg=8, **CONE),
    "tilted": CircularCone(views=4, tilt_deg=7, start_deg=8, **CONE),
    "slanted": CircularCone(views=4, slant_deg=5, start_deg=8, **CONE),
    "parallel-3d": Parallel3D(views=5, arc_deg=360, elevation_deg=25, start_deg=4, offset_rows=0.5),
    "laminography": Parallel3D(views=4, arc_deg=360, elevation_deg=65, start_deg=4, in_plane_deg=10),
    "vertical": Parallel3D(views=2, arc_deg=360, elevation_deg=90),
}
# The corner of the volumes is 32 mm from the axis: this source grazes it.
ORBITS["near"] = CircularCone(
    views=5, sod_mm=33, sdd_mm=70, columns=33, column_mm=4.0, rows=9, row_mm=6.0, start_deg=7, height_mm=1.0
)
KINDS = (*ORBITS, "upside down", "vectors")


def scan_of(kind: str, grid: Grid) -> ScanGeometry:
    """Return the scan of a kind, fitted to a volume."""
    if kind == "upside down":
        scan = ORBITS["flat"].fit(grid).geometry()
        return ScanGeometry("cone", scan.source_mm, scan.detector_mm, scan.u_mm, -scan.v_mm, scan.shape)
    return arbitrary_vectors() if kind == "vectors" else ORBITS[kind].fit(grid).geometry()


def arbitrary_vectors() -> ScanGeometry:
    """Return irregular poses: no two views have anything in common."""
    draw = np.random.default_rng(5)
    views = 5
    out = draw.normal(size=(views, 3)) * [1, 1, 0.3]
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    u = np.cross(out, draw.normal(size=(views, 3)))
    v = np.cross(out, u) + 0.2 * u
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
    source = out * draw.uniform(60, 90, (views, 1))
    detector = -out * draw.uniform(20, 50, (views, 1)) + draw.uniform(-3, 3, (views, 1)) * u
    return ScanGeometry("cone", source, detector, 2.5 * u, draw.uniform(1, 3, (views, 1)) * v, (23, 27))
