"""Cones, helices, parallel beams in space and plain vectors: conventions, coverage and refusals."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, FanFlat, HelicalCone, Orbit, Parallel3D, Vectors
from recon.geometry.scan import ScanGeometry

CONE = {"sod_mm": 100.0, "sdd_mm": 150.0}
SIZE = {"columns": 5, "column_mm": 0.5, "rows": 3, "row_mm": 2.0}
VOLUME = Grid((8, 20, 30), (2.0, 1.5, 1.0), (5.0, -4.0, 3.0))


def seen_at(geometry: ScanGeometry, view: int, points: np.ndarray) -> np.ndarray:
    """Return the column and row, from the detector's middle, on which points (n, 3) fall."""
    source, detector, u, v = (
        x[view] for x in (geometry.source_mm, geometry.detector_mm, geometry.u_mm, geometry.v_mm)
    )
    way = np.broadcast_to(source, points.shape) if geometry.parallel else points - source
    start = points if geometry.parallel else np.broadcast_to(source, points.shape)
    if geometry.detector == "curved":
        spoke = detector - source
        radius, pitch = np.linalg.norm(spoke[:2]), np.linalg.norm(u)
        angle = np.arctan2(way @ u / pitch, way[:, :2] @ spoke[:2] / radius)
        rise = way[:, 2] * radius / np.linalg.norm(way[:, :2], axis=1) - spoke[2]
        return np.stack([angle * radius / pitch, rise / v[2]], axis=1)
    found = [
        np.linalg.solve(np.stack([u, v, -w], 1), s - detector)[:2] for s, w in zip(start, way, strict=True)
    ]
    return np.array(found)


def rim(grid: Grid) -> np.ndarray:
    """Return points on the two rims of the cylinder around a volume."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    half = grid.shape[0] * grid.voxel_mm[0] / 2
    circle = grid.radius_mm * np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    heights = [np.array([0, 0, grid.centre_mm[0] + side * half]) for side in (-1, 1)]
    return np.concatenate([circle + height for height in heights])


def test_cone_vectors_at_zero_and_ninety_degrees() -> None:
    scan = CircularCone(
        angles_deg=(0, 90), height_mm=7.0, offset_columns=2, offset_rows=-1, **CONE, **SIZE
    ).geometry()
    assert scan.beam == "cone"
    assert scan.source_mm.tolist() == [[0, 100, 7], [-100, 0, 7]]
    assert scan.detector_mm.tolist() == [[1, -50, 5], [50, 1, 5]]
    assert scan.u_mm.tolist() == [[0.5, 0, 0], [0, 0.5, 0]]
    assert scan.v_mm.tolist() == [[0, 0, 2]] * 2


def test_turned_detectors() -> None:
    turned = {
        name: CircularCone(angles_deg=(0.0,), **{name: 30.0}, **CONE, **SIZE).geometry()
        for name in ("in_plane_deg", "tilt_deg", "slant_deg")
    }
    half, root = 0.5, 3**0.5 / 2
    # At angle 0 the beam travels along -y: u towards v, the upper edge away, the far end of u towards the source.
    assert turned["in_plane_deg"].u_mm[0] == pytest.approx([0.5 * root, 0, 0.5 * half])
    assert turned["in_plane_deg"].v_mm[0] == pytest.approx([-2 * half, 0, 2 * root])
    assert turned["tilt_deg"].v_mm[0] == pytest.approx([0, -2 * half, 2 * root])
    assert turned["slant_deg"].u_mm[0] == pytest.approx([0.5 * root, 0.5 * half, 0])
    for scan in turned.values():
        assert scan.detector_mm[0] == pytest.approx([0, -50, 0])


def test_the_rotation_axis_falls_where_the_offsets_say() -> None:
    scan = CircularCone(views=5, axis_offset_mm=3.0, **CONE, **SIZE).geometry()
    for view in range(5):
        column, _ = seen_at(scan, view, np.zeros((1, 3)))[0]
        assert column * 0.5 == pytest.approx(3.0 * 150 / 100)
    scan = CircularCone(views=5, offset_columns=0.25, **CONE, **SIZE).geometry()
    assert seen_at(scan, 2, np.zeros((1, 3)))[0] == pytest.approx([-0.25, 0])


def test_a_helix_climbs_its_pitch_and_is_centred() -> None:
    orbit = HelicalCone(pitch_mm=12.0, views_per_turn=8, **CONE).fit(VOLUME)
    scan = orbit.geometry()
    height = scan.source_mm[:, 2]
    assert height[8] - height[0] == pytest.approx(12.0)
    assert (height[0] + height[-1]) / 2 == pytest.approx(VOLUME.centre_mm[0])
    assert orbit.views == scan.views == len(orbit.angles())
    assert orbit.fit(VOLUME) == orbit
    mirrored = HelicalCone(pitch_mm=-12.0, views_per_turn=8, clockwise=True, **CONE).fit(VOLUME).geometry()
    assert mirrored.source_mm[3, 0] == pytest.approx(-scan.source_mm[3, 0])
    assert mirrored.source_mm[8, 2] - mirrored.source_mm[0, 2] == pytest.approx(-12.0)


@given(
    distance=st.floats(1.2, 4),
    magnification=st.floats(1.0, 2.5),
    kind=st.sampled_from(["flat", "curved"]),
    offsets=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    turn=st.floats(0, 360),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_fitted_circular_cone_sees_the_whole_cylinder(
    distance: float, magnification: float, kind: str, offsets: tuple[float, float], turn: float
) -> None:
    sod = distance * VOLUME.radius_mm
    orbit = CircularCone(
        views=3,
        start_deg=turn,
        sod_mm=sod,
        sdd_mm=magnification * sod,
        detector=kind,
        offset_columns=offsets[0],
        offset_rows=offsets[1],
    ).fit(VOLUME)
    scan = orbit.geometry()
    for view in range(3):
        place = abs(seen_at(scan, view, rim(VOLUME)))
        assert (place <= np.array([scan.shape[1], scan.shape[0]]) / 2 + 1e-6).all()


@given(
    elevation=st.floats(-90, 90), in_plane=st.floats(-45, 45), offset=st.floats(-2, 2), turn=st.floats(0, 360)
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_fitted_parallel_detector_sees_the_whole_cylinder(
    elevation: float, in_plane: float, offset: float, turn: float
) -> None:
    orbit = Parallel3D(
        views=2, start_deg=turn, elevation_deg=elevation, in_plane_deg=in_plane, offset_rows=offset
    ).fit(VOLUME)
    scan = orbit.geometry()
    place = abs(seen_at(scan, 1, rim(VOLUME)))
    assert (place <= np.array([scan.shape[1], scan.shape[0]]) / 2 + 1e-6).all()


@pytest.mark.parametrize("kind", ["flat", "curved"])
@pytest.mark.parametrize("pitch", [9.0, -25.0])
def test_every_voxel_of_a_helix_is_seen_over_half_a_turn(kind: str, pitch: float) -> None:
    orbit = HelicalCone(pitch_mm=pitch, views_per_turn=90, detector=kind, **CONE).fit(VOLUME)
    scan = orbit.geometry()
    for point in (*rim(VOLUME)[::7], np.array([0, 0, VOLUME.centre_mm[0]])):
        seen = [
            bool(
                (
                    abs(seen_at(scan, view, point[None])[0]) <= np.array([scan.shape[1], scan.shape[0]]) / 2
                ).all()
            )
            for view in range(scan.views)
        ]
        longest = max(len(run) for run in "".join("x" if s else " " for s in seen).split() or [""])
        source = scan.source_mm[[k for k, s in enumerate(seen) if s]]
        # Half a turn of rays through the point: the source's angle about it, not about the axis.
        angle = np.unwrap(np.arctan2(source[:, 1] - point[1], source[:, 0] - point[0]))
        assert abs(angle[-1] - angle[0]) >= np.pi * (1 - 2 / 90)
        assert longest > 30


def test_vectors_are_taken_as_they_are(tmp_path: Path) -> None:
    scan = CircularCone(views=4, tilt_deg=3, **CONE, **SIZE).geometry()
    table = np.concatenate([scan.source_mm, scan.detector_mm, scan.u_mm, scan.v_mm], axis=1)
    np.savetxt(tmp_path / "poses.txt", table)
    np.savetxt(tmp_path / "poses.csv", table, delimiter=",")
    given_rows = Vectors(poses=tuple(map(tuple, table.tolist())), rows=3, columns=5)
    for orbit in (
        given_rows,
        Vectors(file=tmp_path / "poses.txt", rows=3, columns=5),
        Vectors(file=tmp_path / "poses.csv", rows=3, columns=5),
    ):
        fitted = orbit.fit(VOLUME)
        assert fitted.file is None
        assert fitted.views == orbit.views == 4
        for name in ("source_mm", "detector_mm", "u_mm", "v_mm"):
            assert getattr(fitted.geometry(), name) == pytest.approx(getattr(scan, name), abs=1e-12)
    assert given_rows.grid().voxel_mm == pytest.approx(CircularCone(**CONE, **SIZE).grid().voxel_mm, rel=1e-3)


def test_suggested_grids_are_as_fine_as_the_detector_at_the_axis() -> None:
    assert CircularCone(height_mm=2, **CONE, **SIZE).grid() == Grid(
        (3, 5, 5), (4 / 3, 1 / 3, 1 / 3), (2.0, 0.0, 0.0)
    )
    assert FanFlat(**CONE, **SIZE).grid() == Grid((3, 5, 5), (2.0, 1 / 3, 1 / 3))
    helix = HelicalCone(pitch_mm=8.0, turns=2, start_mm=-1.0, **CONE, **SIZE).grid()
    assert helix.shape == (12, 5, 5)
    assert helix.centre_mm == (7.0, 0.0, 0.0)
    assert Parallel3D(**SIZE).grid().voxel_mm == (2.0, 0.5, 0.5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CircularCone(sod_mm=100, sdd_mm=50), "sdd_mm"),
        (lambda: CircularCone(sod_mm=10, sdd_mm=50).fit(VOLUME), "source outside"),
        (lambda: CircularCone(detector="curved", tilt_deg=2, **CONE), "curved detector cannot be turned"),
        (lambda: CircularCone(slant_deg=85, **CONE), "less than 80"),
        (lambda: CircularCone(**CONE).geometry(), "fit"),
        (lambda: HelicalCone(pitch_mm=3, **CONE, **SIZE).geometry(), "turns and start_mm"),
        (lambda: Vectors(rows=1, columns=2), "either poses or the file"),
        (lambda: Vectors(poses=((1.0,) * 11,), rows=1, columns=2), "12 per view"),
        (lambda: Vectors(poses=((1.0,) * 12,)), "rows and columns"),
        (lambda: Vectors(poses=((1.0,) * 12,), column_mm=2.0, rows=1, columns=2), "leave column_mm"),
        (lambda: Vectors(file=Path("absent.txt"), rows=1, columns=2).geometry(), "absent.txt"),
    ],
)
def test_orbits_that_look_wrong(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        build()


def test_names_choose_the_class() -> None:
    adapter: TypeAdapter[Orbit] = TypeAdapter(Orbit)
    assert type(adapter.validate_python({"name": "cone", **CONE})) is CircularCone
    assert type(adapter.validate_python({"name": "parallel-3d"})) is Parallel3D
    with pytest.raises(ValidationError, match="climb per turn"):
        adapter.validate_python({"name": "helical", "pitch_mm": 0, **CONE})
