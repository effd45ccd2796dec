"""What a scan sees, in numbers of its orbit; the warnings each mistake earns, and none for good scans."""

import dataclasses

import numpy as np
import pytest

from recon.data.scan import Scan
from recon.geometry.coverage import coverage, seen_height
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, DetectorOrbit, FanCurved, FanFlat, HelicalCone, Parallel
from recon.geometry.scan import ScanGeometry
from recon.inspect.scan import geometry_facts
from recon.inspect.warnings import warnings_of
from recon.report.scanner import scanner_png

VOLUME = Grid((8, 32, 32), (2.0, 2.0, 2.0))
FAN = {"sod_mm": 150.0, "sdd_mm": 250.0}
GOOD: dict[str, DetectorOrbit] = {
    "parallel": Parallel(views=60),
    "parallel, two turns": Parallel(angles_deg=tuple(np.arange(0, 720, 7.0))),
    "fan": FanFlat(views=60, **FAN),
    "short fan": FanCurved(views=60, arc_deg=225, **FAN),
    "half fan": FanFlat(views=60, offset_columns=0.5, **FAN),
    "cone": CircularCone(views=60, **FAN),
    "helix": HelicalCone(views_per_turn=40, pitch_mm=8.0, rows=12, row_mm=2.0, **FAN),
}


def data_of(geometry: ScanGeometry, grid: Grid = VOLUME, edge: float = 0.0) -> Scan:
    """Return line integrals of one in the middle of the detector and ``edge`` at its ends."""
    lines = np.zeros((geometry.views, *geometry.shape), np.float32)
    lines[..., geometry.shape[1] // 3 : -(geometry.shape[1] // 3)] = 1
    lines[..., [0, -1]] = edge
    return Scan(lines, geometry, grid, np.ones_like(lines))


@pytest.mark.parametrize("orbit", GOOD.values(), ids=GOOD)
def test_a_good_scan_earns_no_warning(orbit: DetectorOrbit) -> None:
    assert warnings_of(data_of(orbit.fit(VOLUME).geometry())) == ()


@pytest.mark.parametrize("curved", [False, True])
def test_numbers_of_a_helix(curved: bool) -> None:
    kind = "curved" if curved else "flat"
    orbit = HelicalCone(views_per_turn=50, pitch_mm=-7.5, detector=kind, offset_columns=2.25, **FAN).fit(
        VOLUME
    )
    seen = coverage(orbit.geometry())
    assert seen.climb_mm == pytest.approx(-7.5)
    assert seen.magnification == pytest.approx(250 / 150)
    assert seen.sod_mm == pytest.approx((150, 150))
    assert seen.sdd_mm == pytest.approx((250, 250))
    assert seen.step_deg == pytest.approx(7.2)
    assert seen.arc_deg == pytest.approx(360 * (orbit.turns or 0))
    assert seen.axis_column == pytest.approx(((orbit.columns or 0) - 1) / 2 - 2.25)
    assert seen.gaps() == []


def test_the_field_of_view_touches_the_outermost_rays() -> None:
    scan = Parallel(views=10, columns=40, column_mm=1.5, offset_columns=4).fit(VOLUME).geometry()
    seen = coverage(scan)
    assert (seen.radius_mm, seen.wide_mm) == pytest.approx((24, 36))
    flat = coverage(FanFlat(views=10, columns=40, column_mm=3.0, **FAN).fit(VOLUME).geometry())
    angle = np.arctan(60 / 250)
    assert flat.radius_mm == pytest.approx(150 * np.sin(angle))
    assert flat.fan_deg == pytest.approx(np.rad2deg(2 * angle))


def test_a_disc_is_seen_where_the_beam_is_narrowest() -> None:
    scan = CircularCone(views=4, rows=10, row_mm=5.0, columns=40, column_mm=3.0, **FAN).fit(VOLUME).geometry()
    # 25 mm above the middle at 250 mm; a disc of 30 mm comes as near as 120 mm.
    assert seen_height(scan, 30.0) == pytest.approx(np.tile([-12.0, 12.0], (4, 1)))


def turned(angles: np.ndarray) -> ScanGeometry:
    """Return a parallel scan at these angles in radians, as a file of vectors may hold them."""
    zero = np.zeros_like(angles)
    u = np.stack([np.cos(angles), np.sin(angles), zero], axis=1)
    way = np.stack([np.sin(angles), -np.cos(angles), zero], axis=1)
    return ScanGeometry(
        "parallel", way, zero[:, None] * u, 1.5 * u, np.tile([0, 0, 2.0], (len(angles), 1)), (8, 64)
    )


def bad_scans() -> dict[str, tuple[str, Scan]]:
    """Return scans with one mistake each, and what must be said about it."""
    degrees = np.arange(0.0, 180.0, 3.0)
    hole = np.deg2rad(degrees[(degrees < 60) | (degrees > 80)])
    cone = {"columns": 64, "column_mm": 2.5, **FAN}
    good = Parallel(views=60).fit(VOLUME).geometry()
    return {
        "degrees": ("degrees had been taken for radians", data_of(turned(degrees))),
        "radians": ("radians had been taken for degrees", data_of(turned(np.deg2rad(np.deg2rad(degrees))))),
        "hole": ("no view over 24 degrees after the angle", data_of(turned(hole))),
        "arc": (
            "the views cover 120 degrees",
            data_of(Parallel(views=40, arc_deg=120).fit(VOLUME).geometry()),
        ),
        "twice": ("1 of 61 views have the pose", data_of(good[[*range(60), 7]])),
        "narrow": (
            "leaves the field of view: its slices reach 32 mm from the axis, the detector sees 20 mm",
            data_of(Parallel(views=60, columns=20, column_mm=2.0).fit(VOLUME).geometry()),
        ),
        "cut off": ("outermost columns see line integrals of 0.4", data_of(good, edge=0.4)),
        "aside": (
            "rotation axis falls on column 25.5, 6.0 beside the middle: on a part of a turn",
            data_of(Parallel(views=60, columns=64, column_mm=2.0, offset_columns=6).fit(VOLUME).geometry()),
        ),
        "few rows": (
            "slices 2 to 5 of 8 are seen whole",
            data_of(CircularCone(views=60, rows=5, row_mm=4.0, **cone).fit(VOLUME).geometry()),
        ),
        "pitch": (
            "allow: some lines through the object are measured from no side",
            data_of(
                HelicalCone(views_per_turn=40, pitch_mm=40.0, rows=8, row_mm=4.0, **cone)
                .fit(VOLUME)
                .geometry()
            ),
        ),
        "fast": (
            "a turn sees voxels within 25 mm",
            data_of(
                HelicalCone(views_per_turn=40, pitch_mm=16.0, rows=8, row_mm=4.0, **cone)
                .fit(VOLUME)
                .geometry()
            ),
        ),
        "short helix": (
            "its ends are not seen from every side",
            data_of(
                HelicalCone(views_per_turn=40, pitch_mm=3.0, turns=1, rows=5, row_mm=2, **cone)
                .fit(VOLUME)
                .geometry()
            ),
        ),
    }


BAD = bad_scans()


@pytest.mark.parametrize("kind", BAD)
def test_a_mistake_is_named(kind: str) -> None:
    told, data = BAD[kind]
    assert any(told in sentence for sentence in warnings_of(data)), warnings_of(data)


@pytest.mark.parametrize("orbit", GOOD.values(), ids=GOOD)
def test_every_scanner_is_described_and_drawn(orbit: DetectorOrbit) -> None:
    scan = orbit.fit(VOLUME).geometry()
    facts = geometry_facts(scan)
    assert facts["views"] == str(scan.views)
    assert ("magnification" in facts) != scan.parallel
    assert ("pitch" in facts) == isinstance(orbit, HelicalCone)
    assert scanner_png(scan, VOLUME).startswith(b"\x89PNG")


def test_poses_without_any_order_are_described_too() -> None:
    draw = np.random.default_rng(1)
    scan = CircularCone(views=6, **FAN).fit(VOLUME).geometry()
    moved = dataclasses.replace(scan, source_mm=scan.source_mm + draw.normal(size=(6, 3)) * 20)
    assert " to " in geometry_facts(moved)["source to axis"]
    assert scanner_png(moved, VOLUME)
    assert isinstance(warnings_of(data_of(moved)), tuple)
