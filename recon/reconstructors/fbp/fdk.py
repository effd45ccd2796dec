r"""Filtered backprojection where rays cross slices: cone beams on a circle or a helix, and parallel beams in space.

    x(p) = sum_v  cell_v k_v(p) F_v(c(p), r(p)),       F = h * (q w y) along every detector row

c, r is where the ray through the voxel p meets the detector, h the ramp filter (see ``ramp``), w the redundancy weight
of a column as in fans (Parker's on a short scan, offset detectors; see ``recon.geometry.redundancy``), cell_v the arc
of a view, R the distance of the source from the axis, D that of the detector from the source, and

    flat      q = 1 / sqrt(1 + tan^2 g + (v/D)^2)     k = R D / (pitch U^2)       U: depth of p along the normal
    curved    q = cos g / sqrt(1 + (v/D)^2)           k = R D / (pitch L^2)       L: distance of p in the (x, y) plane
    parallel  q = 1                                   k = 1 / pitch

with g the angle of a column from the ray through the axis and v the height of a pixel above the source. On a circle
this is the method of Feldkamp, Davis and Kress (Journal of the Optical Society of America A 1 (1984) 612): exact in
the plane of the source and for objects that do not change along z, darker with the cone angle elsewhere. On a helix
the turns that see a voxel at one angle share its weight (see ``recon.operators.voxel_backprojection``), which is exact
for objects that do not change along z as long as every voxel is seen in every direction of a turn, that is for

    pitch <= (rows * row / magnification) * (1 - r / R)          at the radius r;

beyond that the nearest detector row stands in for the missing ones. It is meant as a first guess, not as a helical
inversion formula.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.system.memory import MemoryPlan
from recon.geometry.grid import Grid
from recon.geometry.redundancy import Fan, fan_coordinates, full_turn_weights, redundancy
from recon.geometry.scan import ScanGeometry
from recon.operators.voxel_backprojection import CURVED, FLAT, PARALLEL, Views, backproject
from recon.reconstructors.base import Measurement, StepRecord
from recon.reconstructors.fbp.ramp import Window, centring_margin, convolve_columns, fill_bad, ramp_taps

BLOCK_BYTES = 1 << 26
LARGEST_TILT = 1e-2
TURN = 2 * math.pi


def filtered_backprojection(
    measurement: Measurement,
    volume: Grid,
    geometry: ScanGeometry,
    *,
    ramp: tuple[Window, float],
    on_step: Callable[[StepRecord], None],
) -> Float[Tensor, "z y x"]:
    """Return the attenuation in 1/mm.

    Args:
        measurement: of ``geometry``.
        volume: grid of the result.
        geometry: cone or parallel-3d.
        ramp: window on the ramp filter, and the cutoff as a fraction of the detector's Nyquist frequency.
        on_step: called after every block of views.

    Raises:
        InputError: the orbit is neither a circle nor a helix around the z axis, or the detector is tilted.
    """
    _check_upright(geometry)
    fan = fan_coordinates(geometry)
    climb = _climb(fan, geometry)
    cells, weight = redundancy(fan) if climb == 0 else (_steps(fan), full_turn_weights(fan))
    margin = centring_margin(fan, geometry)
    taps = ramp_taps(fan, geometry, window=ramp[0], cutoff=ramp[1], margin=sum(margin))
    views = _views(
        geometry, cells * fan.radius_mm, climb=climb, first=1 + margin[0], turns=_turns(fan, climb)
    )
    z, y, x = volume.shape
    image = torch.zeros((y, x, z), dtype=measurement.sinogram.dtype)
    each = max(1, BLOCK_BYTES // (4 * math.prod(geometry.shape)))
    starts = range(0, geometry.views, each)
    with torch.no_grad():
        for count, start in enumerate(starts):
            block = slice(start, start + each)
            bad_filled = fill_bad(measurement.sinogram[block].cpu(), measurement.weights[block].cpu())
            scale = weight[block, :, None] * _obliquity(fan.ray[block], geometry[block])
            line = bad_filled.permute(0, 2, 1) * torch.from_numpy(scale).to(bad_filled.dtype)
            backproject(convolve_columns(line, taps, margin), views[block], volume, image=image)
            on_step(StepRecord(count + 1, len(starts), {}))
    return image.permute(2, 0, 1).to(measurement.sinogram.device)


def filtered_backprojection_plan(grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
    """Return the memory needed beyond the measurement, in bytes."""
    rows, columns = geometry.shape
    block = max(BLOCK_BYTES, 4 * rows * columns)
    return MemoryPlan(
        {
            "volume": 4 * math.prod(grid.shape),
            "sinogram blocks": 7 * min(block, 4 * geometry.views * rows * columns),
            "filter": 12 * columns**2,
        }
    )


def _check_upright(geometry: ScanGeometry) -> None:
    """Refuse detectors whose rows are not level or whose columns are not upright."""
    travel = geometry.source_mm if geometry.parallel else geometry.detector_mm[:, :2]
    leaning = [
        np.linalg.norm(geometry.v_mm[:, :2], axis=1) / np.linalg.norm(geometry.v_mm, axis=1),
        abs(geometry.u_mm[:, 2]) / np.linalg.norm(geometry.u_mm, axis=1),
        abs(travel[:, 2]) if travel.shape[1] == 3 else np.zeros(geometry.views),
    ]
    worst = float(np.max(leaning))
    if worst > LARGEST_TILT:
        raise InputError(
            f"fbp: rays or detector lean out of the plane of rotation by {math.degrees(math.asin(min(1, worst))):.2g} "
            "degrees, expected level rows and upright columns; use --method cgls, sirt or tv"
        )


def _climb(fan: Fan, geometry: ScanGeometry) -> float:
    """Return how far the source climbs along z in a turn, 0 on a circle; negative downwards as the angle grows."""
    height = geometry.detector_mm[:, 2] if fan.parallel else geometry.source_mm[:, 2]
    # Travel below half a detector row is a wobbling circle: a helix fitted to it would have a pitch of noise.
    if np.ptp(height) <= 0.5 * float(abs(geometry.v_mm[:, 2]).min()):
        return 0.0
    angle = np.unwrap(fan.view)
    slope, start = np.polyfit(angle, height, 1)
    worst = float(abs(height - start - slope * angle).max())
    if fan.parallel or worst > 0.02 * abs(slope) * TURN:
        raise InputError(
            f"fbp: the source leaves a helix around the z axis by {worst:.3g} mm, expected a circle or a helix; "
            "use --method cgls, sirt or tv"
        )
    return float(slope * TURN)


def _steps(fan: Fan) -> Float64[np.ndarray, " v"]:
    """Return the arc in radians that each view of a helix stands for."""
    return np.asarray(np.abs(np.gradient(np.unwrap(fan.view))))


def _turns(fan: Fan, climb: float) -> Float64[np.ndarray, "v 2"]:
    """Return how many turns pass the angle of each view below and above it."""
    if climb == 0:
        return np.zeros((len(fan.view), 2))
    angle, half = np.unwrap(fan.view), _steps(fan).mean() / 2
    before = np.floor((angle - angle.min() + half) / TURN)
    after = np.floor((angle.max() + half - angle) / TURN)
    return np.stack([before, after] if climb > 0 else [after, before], axis=1)


def _obliquity(angle: Float64[np.ndarray, "v c"], geometry: ScanGeometry) -> Float64[np.ndarray, "..."]:
    """Return q (view, column, row), the cosine between a ray and the ray through the axis."""
    if geometry.parallel:
        return np.ones((1, 1, 1))
    row = np.arange(geometry.shape[0]) - (geometry.shape[0] - 1) / 2
    height = (geometry.detector_mm - geometry.source_mm)[:, 2:] + row * geometry.v_mm[:, 2:]
    reach = (geometry.detector_mm - geometry.source_mm)[:, :2]
    if geometry.detector == "curved":
        rise = (height / np.linalg.norm(reach, axis=1)[:, None])[:, None, :]
        return np.asarray(np.cos(angle)[:, :, None] / np.sqrt(1 + rise**2))
    rise = (height / _depth(geometry)[:, None])[:, None, :]
    return np.asarray(1 / np.sqrt(1 + np.tan(angle)[:, :, None] ** 2 + rise**2))


def _depth(geometry: ScanGeometry) -> Float64[np.ndarray, " v"]:
    """Return the distance of a flat detector from the source, along its normal."""
    reach, u = (geometry.detector_mm - geometry.source_mm)[:, :2], geometry.u_mm[:, :2]
    cross = reach[:, 0] * u[:, 1] - reach[:, 1] * u[:, 0]
    return np.asarray(abs(cross) / np.linalg.norm(u, axis=1))


def _views(
    geometry: ScanGeometry,
    arc: Float64[np.ndarray, " v"],
    *,
    climb: float,
    first: int,
    turns: Float64[np.ndarray, "v 2"],
) -> Views:
    """Return where voxels fall; ``first`` columns were added in front, ``arc`` is cell times radius."""
    rows, columns = geometry.shape
    pitch, middle = np.linalg.norm(geometry.u_mm[:, :2], axis=1), (columns - 1) / 2 + first
    across, rise = geometry.u_mm[:, :2] / pitch[:, None], geometry.v_mm[:, 2]
    parallel = geometry.parallel
    source = geometry.detector_mm if parallel else geometry.source_mm
    reach = geometry.source_mm if parallel else geometry.detector_mm - geometry.source_mm
    offset = np.zeros_like(pitch) if parallel else (reach[:, :2] * across).sum(1)
    normal = reach[:, :2] - (reach[:, :2] * across).sum(1)[:, None] * across
    distance = np.linalg.norm(normal, axis=1)
    per_mm = np.stack([middle - offset / pitch, 1 / pitch], axis=1)
    kind, factor = FLAT, arc * distance / pitch
    if parallel:
        kind, factor = PARALLEL, arc / pitch
    elif geometry.detector == "curved":
        kind, per_mm = CURVED, np.stack([np.full_like(pitch, middle), distance / pitch], axis=1)
    height = np.zeros_like(pitch) if parallel else reach[:, 2]
    return Views(
        kind=kind,
        rows=rows,
        source=source,
        across=across,
        along=normal / distance[:, None],
        column=per_mm,
        row=np.stack([(rows - 1) / 2 - height / rise, 1 / rise], axis=1),
        distance=distance,
        factor=factor,
        turns=turns,
        step=abs(climb),
    )
