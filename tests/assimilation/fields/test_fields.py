"""Grids and fields: indices, areas, and datasets as other people write them."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from assimilation.fields.fields import Fields, Grid, Variable
from priors.runtime.errors import InputError

UK = Grid(49 + 0.25 * np.arange(9), -8 + 0.25 * np.arange(13), "sphere", "degree")
GLOBE = Grid(np.linspace(-90, 90, 7), -180 + 30.0 * np.arange(12), "sphere", "degree", (False, True))
BOX = Grid(np.arange(8) * 0.5, np.arange(6) * 0.5, "plane", "1", (True, True))


def interpolate(field: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Bilinear interpolation that wraps, written out."""
    (a, b), (u, v) = (np.floor(i).astype(int), np.floor(j).astype(int)), (i % 1, j % 1)
    rows, columns = field.shape
    corners = [field[(a + p) % rows, (b + q) % columns] for p in (0, 1) for q in (0, 1)]
    weights = [(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v]
    return sum(w * c for w, c in zip(weights, corners, strict=True))


@given(st.floats(49, 51), st.floats(-8, -5), st.integers(-2, 2))
def test_the_index_interpolates_a_linear_field_exactly(y, x, turns):
    i, j = UK.fractional_index(np.array([y]), np.array([x + 360.0 * turns]))
    field = 3 * UK.y[:, None] - 2 * UK.x[None]
    assert interpolate(field, i, j)[0] == pytest.approx(3 * y - 2 * x, abs=1e-6)


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_a_periodic_box_has_no_outside(y, x):
    i, j = BOX.fractional_index(np.array([y]), np.array([x]))
    assert 0 <= i[0] < 8
    assert 0 <= j[0] < 6
    # The field repeats; across the seam it is linear between the last and the first point.
    one = interpolate(np.cos(np.pi * BOX.y[:, None] / 2) + 0 * BOX.x[None], i, j)[0]
    again = BOX.fractional_index(np.array([y + 4.0]), np.array([x - 3.0]))
    assert interpolate(np.cos(np.pi * BOX.y[:, None] / 2) + 0 * BOX.x[None], *again)[0] == pytest.approx(
        one, abs=1e-9
    )


def test_longitude_closes_on_a_globe():
    _, j = GLOBE.fractional_index(np.array([0.0, 0.0, 0.0]), np.array([165.0, 195.0, -180.0]))
    assert j == pytest.approx([11.5, 0.5, 0.0])


@pytest.mark.parametrize("place", [(48.9, -6.0), (50.0, -4.9), (50.0, -8.1), (np.nan, -6.0)])
def test_places_outside_are_refused(place):
    with pytest.raises(InputError, match=r"expected .* the extent of the grid"):
        UK.fractional_index(np.array([50.0, place[0]]), np.array([-7.0, place[1]]))


def test_areas_follow_the_cosine_of_latitude():
    weights = GLOBE.area_weights()
    assert weights.mean() == pytest.approx(1)
    assert weights[3, 0] / weights[4, 0] == pytest.approx(1 / np.cos(np.pi / 6))
    assert (weights > 0).all()
    assert (BOX.area_weights() == 1).all()


@pytest.mark.parametrize("axis", [[], [0.0, np.nan], [1.0, 0.5], [0.0, 0.0]])
def test_coordinates_must_ascend(axis):
    with pytest.raises(InputError, match="ascending"):
        Grid(np.array(axis, float), np.arange(3.0), "plane", "m")


def foreign(**changes) -> xr.Dataset:
    """A dataset as a weather centre writes it: 0..360, latitude downward, short names, one level."""
    values = np.arange(2 * 3 * 4, dtype=np.float64).reshape(2, 1, 3, 4)
    coords = {
        "time": np.array(["2024-01-01T00", "2024-01-01T06"], "datetime64[ns]"),
        "level": [850],
        "lat": [52.0, 51.0, 50.0],
        "lon": [358.0, 359.0, 0.0, 1.0],
    }
    data = xr.Dataset({"t": (("time", "level", "lat", "lon"), values, {"units": "K"})}, {**coords, **changes})
    return data.assign_attrs(institution="a centre")


def test_a_foreign_dataset_is_brought_to_one_form():
    fields = Fields.from_dataset(foreign(), "a.nc")
    assert fields.values.shape == (1, 2, 1, 3, 4)
    assert fields.grid.y.tolist() == [50, 51, 52]
    assert fields.grid.x.tolist() == [-2, -1, 0, 1]
    assert fields.values[0, 0, 0, 0].tolist() == [8, 9, 10, 11]
    assert fields.variables == (Variable("t", "K"),)
    assert fields.attributes["institution"] == "a centre"
    assert "longitude moved" in fields.attributes["normalised"]


def test_a_globe_from_0_to_360_is_turned_and_closes():
    data = xr.Dataset(
        {"z": (("time", "latitude", "longitude"), np.arange(8.0).reshape(1, 2, 4), {"units": "m"})},
        {
            "time": [np.datetime64("2024-01-01", "ns")],
            "latitude": [0.0, 1.0],
            "longitude": [0.0, 90.0, 180.0, 270.0],
        },
    )
    fields = Fields.from_dataset(data)
    assert fields.grid.x.tolist() == [-180, -90, 0, 90]
    assert fields.grid.periodic == (False, True)
    assert fields.values[0, 0, 0, 0].tolist() == [2, 3, 0, 1]


def without_units() -> xr.Dataset:
    data = foreign()
    del data["t"].attrs["units"]
    return data


def encoded(**attributes) -> xr.Dataset:
    """The same dataset with times as numbers, as in the file."""
    return foreign().assign_coords(time=("time", [0, 6], attributes))


def test_times_are_decoded():
    fields = Fields.from_dataset(encoded(units="hours since 2024-01-01", calendar="proleptic_gregorian"))
    assert np.array_equal(fields.times, foreign()["time"].values)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: foreign().isel(level=[0, 0]), "dimension level: found 2"),
        (lambda: foreign().isel(lat=0), "expected time, latitude, longitude"),
        (without_units, "t: found no attribute units"),
        (lambda: encoded(units="days since 2024-01-01", calendar="360_day"), "360_day"),
        (lambda: encoded(units="moons since 2024-01-01"), "cannot be decoded"),
        (lambda: foreign(time=[0, 1]), "expected CF times"),
        (lambda: foreign().isel(time=[1, 0]), "ascending times"),
        (lambda: foreign(lat=[52.0, 51.0, 51.0]), "ascending"),
        (lambda: foreign(lat=[520.0, 51.0, 50.0]), "-90 to 90"),
        (lambda: foreign().drop_vars("time").isel(time=0), "time: found no such dimension"),
        (lambda: foreign().drop_vars("t"), "found no data variable"),
        (lambda: foreign().astype(str), "expected numbers"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(make, told):
    with pytest.raises(InputError, match=told) as refused:
        Fields.from_dataset(make(), "a.nc")
    assert str(refused.value).startswith("a.nc: ")
    assert "\n" not in str(refused.value)


def test_parts_are_selected_by_place_and_by_time():
    fields = Fields.from_dataset(foreign(), "a.nc")
    last = fields.select(times=fields.times[1:])
    assert np.array_equal(last.values, fields.values[:, 1:])
    assert np.array_equal(fields.select(times=slice(0, 1), trajectory=0).values, fields.values[:, :1])
    with pytest.raises(InputError, match="2025"):
        fields.select(times=np.array(["2025-01-01"], "datetime64[ns]"))
    with pytest.raises(InputError, match="trajectory: found 1"):
        fields.select(trajectory=1)


def test_sizes_must_agree():
    fields = Fields.from_dataset(foreign(), "a.nc")
    with pytest.raises(InputError, match="expected"):
        Fields(fields.values, fields.times[:1], fields.variables, fields.grid)
