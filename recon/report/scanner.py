"""A drawing of the scanner: where source and detector go, the volume, and what every view sees of it.

Top view: along z, as x to the right and y up. Side view: the plane through the axis and the first view, z up. Lengths
are to scale and in mm. Parallel rays have no source; their direction is an arrow.
"""

import io
from typing import Any

import numpy as np
from jaxtyping import Float64

from recon.geometry.coverage import Coverage, coverage, edge_rays
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry

FIRST, LAST, PATH, BODY, FIELD = "#1661b8", "#b5460f", "#5a6575", "#d8dde5", "#1d7a4c"
PARALLEL_REACH = 1.6


def scanner_png(geometry: ScanGeometry, grid: Grid) -> bytes:
    """Return the drawing as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seen = coverage(geometry)
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    top, side = figure.subplots(1, 2)
    _top(top, geometry, grid, seen)
    _side(side, geometry, grid, seen)
    figure.suptitle(_title(geometry, seen), fontsize=11)
    figure.legend(
        *top.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9, frameon=False
    )
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _title(geometry: ScanGeometry, seen: Coverage) -> str:
    rows, columns = geometry.shape
    facts = [
        f"{geometry.views} views, {geometry.beam} beam, {geometry.detector} detector of {rows} x {columns}"
    ]
    facts.append(f"{seen.arc_deg:.4g} degrees")
    if seen.magnification is not None:
        facts.append(f"magnification {seen.magnification:.3g}")
    if abs(seen.climb_mm) > 1e-3:
        facts.append(f"pitch {seen.climb_mm:.4g} mm")
    return ", ".join([*facts, f"field of view {seen.radius_mm:.4g} mm in radius"])


def _reach(geometry: ScanGeometry, grid: Grid, seen: Coverage) -> float:
    """Return how far from the axis parallel rays are drawn, mm."""
    return PARALLEL_REACH * max(grid.radius_mm, min(seen.wide_mm, 3 * grid.radius_mm))


def _places(geometry: ScanGeometry, grid: Grid, seen: Coverage) -> tuple[np.ndarray, np.ndarray]:
    """Return where to draw source and detector centre of every view (v, 3)."""
    if not geometry.parallel:
        return geometry.source_mm, geometry.detector_mm
    away = _reach(geometry, grid, seen) * geometry.source_mm
    beside = (
        geometry.detector_mm
        - (geometry.detector_mm * geometry.source_mm).sum(1, keepdims=True) * geometry.source_mm
    )
    return beside - away, beside + away


def detector_curve(
    geometry: ScanGeometry, view: int, centre: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "n 3"]:
    """Return points along the middle row of a view's detector, whose centre is drawn at ``centre``."""
    along = np.linspace(-0.5, 0.5, 33)[:, None] * geometry.shape[1]
    if geometry.detector == "flat":
        return np.asarray(centre + along * geometry.u_mm[view])
    reach, u = centre - geometry.source_mm[view], geometry.u_mm[view]
    radius, pitch = np.linalg.norm(reach), np.linalg.norm(u)
    angle = along * pitch / radius
    return np.asarray(geometry.source_mm[view] + np.cos(angle) * reach + np.sin(angle) * radius / pitch * u)


def _top(axis: Any, geometry: ScanGeometry, grid: Grid, seen: Coverage) -> None:
    """Draw the view along z."""
    from matplotlib.patches import Circle, Rectangle

    sources, centres = _places(geometry, grid, seen)
    _, height, width = grid.voxel_mm[0], *(grid.shape[k] * grid.voxel_mm[k] for k in (1, 2))
    corner = (grid.centre_mm[2] - width / 2, grid.centre_mm[1] - height / 2)
    axis.add_patch(Rectangle(corner, width, height, color=BODY, label="volume"))
    axis.add_patch(Circle((0, 0), seen.radius_mm, fill=False, color=FIELD, label="field of view"))
    if seen.wide_mm > 1.02 * seen.radius_mm:
        wide = Circle((0, 0), seen.wide_mm, fill=False, color=FIELD, ls=":", label="seen from one side")
        axis.add_patch(wide)
    axis.plot(0, 0, "+", color="black", label="rotation axis")
    axis.plot(
        sources[:, 0],
        sources[:, 1],
        ".",
        ms=2,
        color=PATH,
        label="direction" if geometry.parallel else "source path",
    )
    _, ways = edge_rays(geometry)
    for view, colour, label in ((0, FIRST, "first view"), (geometry.views - 1, LAST, "last view")):
        curve = detector_curve(geometry, view, centres[view])
        axis.plot(curve[:, 0], curve[:, 1], color=colour, lw=3, label=label)
        for end in (curve[0], curve[-1]):
            begin = (
                end - 2 * _reach(geometry, grid, seen) * ways[view, 0] if geometry.parallel else sources[view]
            )
            axis.plot([begin[0], end[0]], [begin[1], end[1]], color=colour, lw=0.8)
        axis.plot(*sources[view, :2], "o", ms=6, color=colour)
    axis.set(aspect="equal", xlabel="x (mm)", ylabel="y (mm)", title="from above (along z)")


def _side(axis: Any, geometry: ScanGeometry, grid: Grid, seen: Coverage) -> None:
    """Draw the plane of the axis and the first view."""
    from matplotlib.patches import Rectangle

    sources, centres = _places(geometry, grid, seen)
    inward = (centres - sources)[0, :2]
    inward = inward / max(float(np.linalg.norm(inward)), 1e-9)
    z, deep = grid.shape[0] * grid.voxel_mm[0], max(grid.shape[k] * grid.voxel_mm[k] for k in (1, 2))
    low = grid.centre_mm[0] - z / 2
    axis.add_patch(Rectangle((-deep / 2, low), deep, z, color=BODY))
    axis.axvline(0, color="black", lw=0.8, ls="-.")
    for radius in (-seen.radius_mm, seen.radius_mm):
        axis.plot([radius, radius], [low, low + z], color=FIELD, lw=1)
    axis.plot(sources[:, :2] @ inward, sources[:, 2], ".", ms=2, color=PATH)
    half = geometry.shape[0] / 2
    for view, colour in ((0, FIRST), (geometry.views - 1, LAST)):
        ends = centres[view] + np.array([-half, half])[:, None] * geometry.v_mm[view]
        across = ends[:, :2] @ inward
        axis.plot(across, ends[:, 2], color=colour, lw=3)
        start = sources[view, :2] @ inward
        for distance, height in zip(across, ends[:, 2], strict=True):
            begin = sources[view, 2] if geometry.beam == "cone" else height
            axis.plot([start, distance], [begin, height], color=colour, lw=0.8)
        axis.plot(start, sources[view, 2], "o", ms=6, color=colour)
    axis.set(xlabel="along the first view (mm)", ylabel="z (mm)", title="from the side", aspect="equal")
    bottom, top = axis.get_ylim()
    if top - bottom < 0.1 * (axis.get_xlim()[1] - axis.get_xlim()[0]):
        axis.set_aspect("auto")
        axis.set_title("from the side (z stretched)")
