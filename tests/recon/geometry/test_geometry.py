"""Grids, scans and orbits: conventions, coverage and refusals."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import FanCurved, FanFlat, Orbit, Parallel
from recon.geometry.scan import ScanGeometry
from tests.support.recon.analytic import rays

VOLUME = Grid((3, 20, 30), (2.0, 1.5, 1.0), (5.0, -4.0, 3.0))
FAN = {"sod_mm": 100.0, "sdd_mm": 150.0}


def test_voxel_centres_and_slices() -> None:
    assert VOLUME.coordinates(0).tolist() == [3.0, 5.0, 7.0]
    assert VOLUME.coordinates(2)[[0, -1]].tolist() == [-11.5, 17.5]
    for start, stop in ((0, 1), (1, 3), (0, 3)):
        part = VOLUME.slices(start, stop)
        assert part.coordinates(0).tolist() == VOLUME.coordinates(0)[start:stop].tolist()
        assert part.coordinates(1).tolist() == VOLUME.coordinates(1).tolist()
    with pytest.raises(InputError, match="slices 2:2"):
        VOLUME.slices(2, 2)


@pytest.mark.parametrize(
    ("shape", "voxel", "centre", "message"),
    [
        ((0, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "shape"),
        ((1, 2, 2), (1.0, 0.0, 1.0), (0.0, 0.0, 0.0), "positive sizes"),
        ((1, 2, 2), (1.0, math.nan, 1.0), (0.0, 0.0, 0.0), "positive sizes"),
        ((1, 2, 2), (1.0, 1.0, 1.0), (0.0, math.inf, 0.0), "finite positions"),
    ],
)
def test_bad_volumes(
    shape: tuple[int, int, int],
    voxel: tuple[float, float, float],
    centre: tuple[float, float, float],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        Grid(shape, voxel, centre)


def test_parallel_vectors_at_zero_and_ninety_degrees() -> None:
    scan = Parallel(
        angles_deg=(0, 90), columns=5, column_mm=0.5, rows=3, row_mm=2.0, offset_columns=2
    ).geometry()
    assert scan.source_mm.tolist() == [[0, -1, 0], [1, 0, 0]]
    assert scan.u_mm.tolist() == [[0.5, 0, 0], [0, 0.5, 0]]
    assert scan.detector_mm.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert scan.v_mm.tolist() == [[0, 0, 2]] * 2


def test_fan_vectors_at_zero_and_ninety_degrees() -> None:
    scan = FanFlat(angles_deg=(0, 90), **FAN, columns=5, column_mm=0.5, rows=1, row_mm=1.0).geometry()
    assert scan.source_mm.tolist() == [[0, 100, 0], [-100, 0, 0]]
    assert scan.detector_mm.tolist() == [[0, -50, 0], [50, 0, 0]]
    assert scan.u_mm.tolist() == [[0.5, 0, 0], [0, 0.5, 0]]


def test_views_are_equispaced_without_the_end_point() -> None:
    assert np.degrees(Parallel(views=4).angles()) == pytest.approx([0, 45, 90, 135])
    assert np.degrees(FanFlat(views=3, start_deg=10, arc_deg=-360, **FAN).angles()) == pytest.approx(
        [10, -110, -230]
    )


def test_curved_columns_are_equal_angles_on_the_cylinder() -> None:
    orbit = FanCurved(views=5, **FAN, columns=7, column_mm=3.0, rows=1, row_mm=1.0, offset_columns=1.5)
    scan = orbit.geometry()
    _, way = rays(scan)
    angles = np.arctan2(way[..., 1], way[..., 0])
    # Column 1.5 looks at the axis: 3 - 1.5 from the first, (7 - 1) / 2 - offset.
    through_axis = np.arctan2(-scan.source_mm[:, 1], -scan.source_mm[:, 0])[:, None]
    expected = (np.arange(7) - 3 + 1.5) * 3.0 / 150
    assert (angles - through_axis + math.pi) % (2 * math.pi) - math.pi == pytest.approx(
        np.tile(expected, (5, 1))
    )
    assert np.linalg.norm(scan.detector_mm - scan.source_mm, axis=1) == pytest.approx(np.full(5, 150))


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    pixel=st.floats(0.3, 3),
    offset=st.floats(-4, 4),
    kind=st.sampled_from([Parallel, FanFlat, FanCurved]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_fitted_detector_covers_the_volume(
    height: int, width: int, pixel: float, offset: float, kind: type
) -> None:
    volume = Grid((2, height, width), (1.0, pixel, 1.0), (0.0, 1.0, -2.0))
    fan = {} if kind is Parallel else {"sod_mm": 1.5 * volume.radius_mm, "sdd_mm": 2 * volume.radius_mm}
    orbit = kind(views=5, offset_columns=offset, **fan).fit(volume)
    scan = orbit.geometry()
    assert scan.shape[0] == 2
    points, ways = rays(scan)
    # The outermost rays pass outside the bounding circle, up to half a column.
    reach = abs(points[..., 0] * ways[..., 1] - points[..., 1] * ways[..., 0])
    near = volume.radius_mm - orbit.column_mm
    assert (reach[:, 0] >= near).all()
    assert (reach[:, -1] >= near).all()
    assert orbit.fit(volume) == orbit


def test_repr_is_the_constructor_and_yaml_names_choose_the_class() -> None:
    orbit = FanFlat(views=7, **FAN)
    assert eval(repr(orbit)) == orbit
    adapter: TypeAdapter[Orbit] = TypeAdapter(Orbit)
    for name, kind in (("parallel", Parallel), ("fan-flat", FanFlat), ("fan-curved", FanCurved)):
        fields = {"name": name} | ({} if kind is Parallel else FAN)
        assert type(adapter.validate_python(fields)) is kind
    with pytest.raises(ValidationError, match="helix"):
        adapter.validate_python({"name": "helix"})
    with pytest.raises(ValidationError, match="veiws"):
        Parallel(veiws=3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Parallel(arc_deg=math.pi), "radians"),
        (lambda: FanFlat(arc_deg=2 * math.pi, **FAN), "radians"),
        (lambda: Parallel(arc_deg=0), "arc_deg"),
        (lambda: Parallel(arc_deg=400), "arc_deg"),
        (lambda: Parallel(angles_deg=tuple(np.linspace(0, math.pi, 90))), "radians"),
        (lambda: Parallel(angles_deg=()), "empty"),
        (lambda: Parallel(angles_deg=(0, 1e6)), "degrees"),
        (lambda: FanFlat(sod_mm=100, sdd_mm=50), "sdd_mm"),
        (lambda: FanFlat(sod_mm=10, sdd_mm=50).fit(VOLUME), "source outside"),
        (lambda: Parallel().geometry(), "fit"),
    ],
)
def test_orbits_that_look_wrong(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        build()


def vectors(**change: object) -> dict[str, object]:
    """Return the fields of a valid fan scan, some replaced."""
    up = np.array([[0.0, 0.0, 1.0]])
    good = {
        "beam": "fan",
        "source_mm": np.array([[0.0, 9.0, 0.0]]),
        "detector_mm": np.array([[0.0, -9.0, 0.0]]),
    }
    return good | {"u_mm": np.array([[1.0, 0.0, 0.0]]), "v_mm": up, "shape": (1, 4)} | change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u_mm": np.array([[np.nan, 0.0, 0.0]])}, "view 0 holds"),
        ({"u_mm": np.zeros((1, 3))}, "zero"),
        ({"u_mm": np.array([[0.0, 0.0, 2.0]])}, "same way"),
        ({"u_mm": np.array([[0.0, 1.0, 0.0]])}, "inside the plane of the detector"),
        ({"source_mm": np.array([[0.0, -9.0, 0.0]])}, "sits on"),
        ({"beam": "parallel"}, "unit directions"),
        ({"shape": (0, 4)}, "rows, columns"),
        ({"detector": "curved", "u_mm": np.array([[1.0, 0.5, 0.0]])}, "right angles"),
    ],
)
def test_degenerate_scans(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ScanGeometry(**vectors(**change))  # type: ignore[arg-type]


def test_views_and_rows_of_a_scan() -> None:
    scan = FanFlat(views=6, **FAN).fit(VOLUME).geometry()
    assert scan[2:5].source_mm.tolist() == scan.source_mm[2:5].tolist()
    assert scan[[5, 1]].views == 2
    middle = scan.rows(1, 2)
    assert middle.shape == (1, scan.shape[1])
    assert middle.detector_mm == pytest.approx(scan.detector_mm)
    assert scan.rows(2, 3).detector_mm[:, 2] == pytest.approx(scan.v_mm[:, 2])
    with pytest.raises(InputError, match="at least one view"):
        scan[6:]
    with pytest.raises(InputError, match="rows 2:5"):
        scan.rows(2, 5)


SHIPPED = sorted((Path(__file__).parents[3] / "configs" / "orbits").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_orbits_fit_a_chest(path: Path) -> None:
    adapter: TypeAdapter[Orbit] = TypeAdapter(Orbit)
    orbit = adapter.validate_python(yaml.safe_load(path.read_text()))
    orbit = orbit.fit(Grid((4, 256, 256), (2.0, 1.4, 1.4)))
    assert orbit.geometry().views == orbit.views
    assert path.stem.startswith(orbit.name)
