"""What cannot be a reconstruction of a measured object: an error before the work, or after it, unless ``--force``.

Doubts (see ``doubts``) have honest exceptions and are warnings. What is refused here has none among scans that
were measured: voxels smaller than an atom, a grid that no ray meets, views of one pose that see different things, rays
that are all black or all brighter than the open beam, a result that leaves most of the measurement unexplained.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from priors.runtime.errors import InputError
from priors.runtime.files.permissions import allow_nonsense
from recon.data.scan import Scan
from recon.data.volume import Volume
from recon.geometry.grid import Grid
from recon.geometry.meeting import meeting_share, repeats
from recon.geometry.suggestion import axis_scale
from recon.run.problem.pose import Problem

SMALLEST_MM = 1e-7
"""The size of an atom."""
LARGEST_MM = 1e5
BLACK = 12.0
"""Least line integral of a scan in which no ray came through: 6 photons of a million."""
OPAQUE = 50.0
"""Line integral that nothing measures: one photon of 10^21."""
MU_WATER = 1e-4, 100.0
"""Attenuation of water in 1/mm for any beam: 0.002 at 10 GeV, 4 at 5 keV."""
PIXELS = 1e4
"""Pixels that a voxel may be wide, and voxels that a pixel may."""
MEETING = 0.5
"""Share of a scan's directions from which its grid must be seen."""
DISAGREEMENT = 9.0, 0.03
"""Mean squared difference of views that share a pose, in variances, and its root as a share of the line integrals: the
second lets a source drift under a high dose."""
REPEATED = 0.1
"""Share of the views that are repeats before they are compared: the closing view of a turn alone may drift."""
LARGEST_HU = 1e6
UNEXPLAINED = (100.0, 0.5), (1000.0, 0.1)
"""Chi2 per ray and relative residual that a fit must not exceed both: the first says that noise is no reason, the
second that it is no matter of a high dose. Limited arcs and few views of measured scans stay below 10 and 0.03."""
UNEXPLAINED_FBP = ((100.0, 0.9),)
"""The same for filtered backprojection, which fits no data: 60 degrees leave a residual of 0.8 and chi2 of 2e4."""


def check_problem(problem: Problem) -> None:
    """Refuse a scan and a grid that cannot be, unless ``--force`` was given.

    Raises:
        InputError: with what was found.
    """
    check_size(problem.grid, "grid")
    _check_detector(problem)
    _check_rays(problem.scan)
    if problem.scan.unit == "HU" and not MU_WATER[0] <= problem.scan.mu_water <= MU_WATER[1]:
        allow_nonsense(
            f"mu_water: found {problem.scan.mu_water:g} 1/mm, expected {MU_WATER[0]:g} to {MU_WATER[1]:g} for HU"
        )
    share = meeting_share(problem.scan.geometry, problem.grid)
    if share < MEETING:
        centre = " x ".join(f"{value:.4g}" for value in problem.grid.centre_mm)
        allow_nonsense(
            f"grid: rays meet it from {100 * share:.0f} % of the scan's directions; it lies around {centre} mm "
            "(z, y, x), the rotation axis at 0 0"
        )
    _check_repeats(problem.scan)


def check_size(grid: Grid, name: str) -> None:
    """Refuse voxels smaller than an atom or larger than a house, unless ``--force`` was given.

    Raises:
        InputError: with their size.
    """
    if min(grid.voxel_mm) < SMALLEST_MM or max(grid.voxel_mm) > LARGEST_MM:
        sizes = " x ".join(f"{value:.4g}" for value in grid.voxel_mm)
        allow_nonsense(
            f"{name}: found voxels of {sizes} mm (z, y, x), expected {SMALLEST_MM:g} to {LARGEST_MM:g}"
        )


def _check_detector(problem: Problem) -> None:
    """Refuse voxels that have nothing to do with the detector's pixels."""
    geometry = problem.scan.geometry
    pixel = float(np.linalg.norm(geometry.u_mm, axis=1).mean()) * axis_scale(geometry)
    voxel = problem.grid.voxel_mm[2]
    if not 1 / PIXELS <= voxel / pixel <= PIXELS:
        allow_nonsense(
            f"grid: found voxels of {voxel:.4g} mm for detector pixels of {pixel:.4g} mm at the rotation axis, "
            "expected about the same"
        )


def check_result(volume: Volume, metrics: Mapping[str, Any]) -> None:
    """Refuse a result that holds no object, overflows its unit or explains nothing, unless ``--force`` was given.

    Raises:
        InputError: with what was found; values that are not finite are refused with ``--force`` too.
    """
    check_values(volume)
    chi2, residual = metrics["chi2_per_ray"], metrics["relative_residual"]
    limits = UNEXPLAINED_FBP if metrics["method"] == "fbp" else UNEXPLAINED
    if any(not chi2 <= most and not residual <= share for most, share in limits):
        allow_nonsense(
            f"result: leaves {100 * residual:.3g} % of the line integrals unexplained (chi2 per ray {chi2:.4g}, noise "
            "alone leaves 1): geometry, flat field or i0 cannot be those of this scan"
        )


def check_values(volume: Volume) -> None:
    """Refuse a volume that holds no object or overflows its unit, unless ``--force`` was given.

    Raises:
        InputError: with what was found; values that are not finite are refused with ``--force`` too.
    """
    low, high = float(volume.values.min()), float(volume.values.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError(
            f"result: values in {volume.unit} overflow ({low:.4g} to {high:.4g}); check mu_water"
        )
    if low == high:
        allow_nonsense(f"result: every voxel is {low:.6g} {volume.unit}, expected an object")
    elif volume.unit == "HU" and max(-low, high) > LARGEST_HU:
        allow_nonsense(
            f"result: found {low:.4g} to {high:.4g} HU, expected less than {LARGEST_HU:g}; check mu_water"
        )


def _check_rays(scan: Scan) -> None:
    """Refuse line integrals of which no ray can have been measured."""
    counted = scan.sinogram[scan.weights > 0]
    least, middle, most = (float(np.quantile(counted, q)) for q in (0.001, 0.5, 0.999))
    if least > BLACK:
        allow_nonsense(
            f"scan: the smallest line integrals are {least:.4g}, as if no ray had come past or through the object, "
            "expected some below 1; check i0 or the flat field"
        )
    elif abs(middle) > OPAQUE or abs(most) > 1e6:
        allow_nonsense(
            f"scan: line integrals of {middle:.4g} (median) up to {most:.4g}, expected less than {OPAQUE:g}"
        )
    elif most <= 0:
        allow_nonsense(
            "scan: no ray was attenuated (no line integral is positive); are flat and dark swapped?"
        )


def _check_repeats(scan: Scan) -> None:
    """Refuse views of one pose that see different things: their angles cannot be right."""
    groups = repeats(scan.geometry)
    views = scan.geometry.views
    extra = sum(len(group) - 1 for group in groups)
    if views > 1 and extra == views - 1:
        allow_nonsense(f"angles: all {views} views have the same pose, expected different directions")
        return
    if extra < max(2.0, REPEATED * views):
        return
    variances, squares, rays = 0.0, 0.0, 0
    for group in groups:
        first, others = group[0], group[1:]
        for other in others:
            both = (scan.weights[first] > 0) & (scan.weights[other] > 0)
            one, two = scan.sinogram[first][both].astype(np.float64), scan.sinogram[other][both]
            variance = 1 / scan.weights[first][both].astype(np.float64) + 1 / scan.weights[other][both]
            variances += float(((one - two) ** 2 / variance).sum())
            squares += float(((one - two) ** 2).sum())
            rays += int(both.sum())
    size = np.sqrt(float((scan.sinogram[scan.weights > 0].astype(np.float64) ** 2).mean()))
    most, share = DISAGREEMENT
    if rays and variances / rays > most and np.sqrt(squares / rays) > share * size:
        allow_nonsense(
            f"angles: {extra} of {views} views have the pose of another view but differ from it by "
            f"{np.sqrt(variances / rays):.3g} standard deviations of the noise, expected the same picture"
        )
