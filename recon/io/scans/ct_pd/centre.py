"""Which detector column DetectorCentralElement means: makers count from different ends.

By the table of DICOM-CT-PD the tag X counts columns from 1, from the left. Public work on scans of the TCIA LDCT
collection (PyTomography's notes on GE scans C145 and C001) found that GE counts from the other end and from 0, so
that the column is columns - X. Both readings are tried on the data: with fan angle g a ray (b, g) is measured
again, from the other side, as (b + 180 - 2 g, -g) or, for a source that turns the other way, (b + 180 + 2 g, -g);
the right column is the one for which the two agree. Where the data do not decide, the maker does, and the scan says
which reading was taken.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy.ndimage import map_coordinates

from recon.io.scans.ct_pd.header import View

DECIDED = 0.7
"""The data decide where one reading leaves this share of the other's disagreement, or less."""


@dataclass(frozen=True)
class Central:
    """The reading that was taken: a sentence for the provenance, and a warning where it is not the maker's."""

    told: str
    warnings: tuple[str, ...] = ()


def with_central_column(
    views: list[View], sinogram: Float32[np.ndarray, "v r c"]
) -> tuple[list[View], Central]:
    """Return the views with the central column that maker and data agree on best."""
    stated, columns = views[0].central[0], views[0].columns
    maker = str(views[0].item.get("Manufacturer") or "").upper()
    backwards = maker.startswith("GE")
    readings = {"as the table says": stated, "as GE counts": columns - stated}
    usual, other = reversed(readings) if backwards else tuple(readings)
    if not backwards or abs(readings[usual] - readings[other]) < 0.05:
        # Other makers follow the table as far as anybody knows.
        return views, Central(f"{stated:g}, {usual}")
    apart = {name: disagreement(views, sinogram, column) for name, column in readings.items()}
    best = min(apart, key=lambda name: apart[name])
    decided = apart[best] <= DECIDED * max(apart.values())
    taken = best if decided else usual
    column = readings[taken]
    how = "the opposite rays say so" if decided else "by the maker, the data do not decide"
    changed = [replace(view, central=(_read(view, taken), view.central[1])) for view in views]
    said = f"DetectorCentralElement {stated:g} of {maker or 'this maker'} is read {taken}: {how}"
    central = Central(
        f"{column:g} from DetectorCentralElement {stated:g}, {taken}: {how}",
        () if taken == usual else (said,),
    )
    return changed, central


def disagreement(views: list[View], sinogram: Float32[np.ndarray, "v r c"], column: float) -> float:
    """Return the mean square difference of opposite rays of the middle row, as a share of their variance."""
    lines = sinogram[:, sinogram.shape[1] // 2].astype(np.float64)
    angle = np.unwrap(np.array([view.angle for view in views], np.float64))
    if len(views) < 8 or abs(angle[-1] - angle[0]) < np.pi * 1.2 or (np.diff(angle) == 0).any():
        return float("inf")
    if angle[-1] < angle[0]:
        lines, angle = lines[::-1], angle[::-1]
    first = views[0]
    gamma = (np.arange(1, first.columns + 1) - column) * first.column_mm / first.depth_mm
    if first.shape == "FLAT":
        gamma = np.arctan(gamma)
    return min(opposite_rays(lines, angle, gamma, column, sign) for sign in (-1.0, 1.0))


def opposite_rays(
    lines: Float[np.ndarray, "v c"],
    angle: Float64[np.ndarray, " v"],
    gamma: Float64[np.ndarray, " c"],
    column: float,
    sign: float,
) -> float:
    """Return the mean square difference of opposite rays about ``column`` (from 1), as a share of their variance.

    Args:
        lines: of a fan beam. angle: of the views, rising, in radians. gamma: of the rays in a fan.
        column: about which rays are mirrored.
        sign: of gamma in the angle of the opposite view; it depends on which way the source turns.
    """
    # Index of column -gamma, from 0.
    mirrored = 2 * (column - 1) - np.arange(len(gamma))
    inside = np.flatnonzero((mirrored >= 0) & (mirrored <= len(gamma) - 1))
    turn = angle[:, None] + np.pi + 2 * sign * gamma[None, inside]
    whole = angle[-1] - angle[0] > 2 * np.pi * (1 - 1.5 / len(angle))
    if whole and angle[-1] - angle[0] < 2.1 * np.pi:
        turn = angle[0] + (turn - angle[0]) % (2 * np.pi)
    at = np.interp(turn, angle, np.arange(len(angle)), left=np.nan, right=np.nan)
    good = np.isfinite(at)
    if good.sum() < 100:
        return float("inf")
    across = np.broadcast_to(mirrored[inside], turn.shape)
    other = map_coordinates(lines, [at[good], across[good]], order=1, mode="nearest")
    one = lines[:, inside][good]
    return float(((one - other) ** 2).mean() / max(float(one.var()), 1e-30))


def _read(view: View, taken: str) -> float:
    return view.columns - view.central[0] if taken == "as GE counts" else view.central[0]
