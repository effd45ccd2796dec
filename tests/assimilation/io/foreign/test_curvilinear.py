"""Curvilinear grids without a grid mapping: WRF's attributes, and maps that are told from the places alone."""

import numpy as np
import pyproj
import pytest
import xarray as xr

from assimilation.fields.grid import Grid
from assimilation.io.registry import read_any_fields
from priors.runtime.errors import InputError, InputWarning

# name: (PROJ text of the map, WRF's attributes, place near the first point)
MAPS = {
    "Lambert": (
        "+proj=lcc +lat_1=30 +lat_2=60 +lat_0=45 +lon_0=8 +R=6370000 +units=km",
        {"MAP_PROJ": 1, "TRUELAT1": 30.0, "TRUELAT2": 60.0, "STAND_LON": 8.0, "MOAD_CEN_LAT": 45.0},
        (5.0, 44.0),
    ),
    "Lambert, southern": (
        "+proj=lcc +lat_1=-20 +lat_2=-20 +lat_0=-30 +lon_0=-60 +R=6370000 +units=km",
        {"MAP_PROJ": 1, "TRUELAT1": -20.0, "TRUELAT2": -20.0, "STAND_LON": -60.0, "MOAD_CEN_LAT": -30.0},
        (-64.0, -33.0),
    ),
    "polar stereographic": (
        "+proj=stere +lat_0=90 +lat_ts=60 +lon_0=20 +R=6370000 +units=km",
        {"MAP_PROJ": 2, "TRUELAT1": 60.0, "STAND_LON": 20.0},
        (10.0, 68.0),
    ),
    "rotated": (
        "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18 +R=6370000",
        None,
        (2.0, 48.0),
    ),
}


def wrf(name, *, attributes=True, times="XTIME"):
    """A file as WRF writes it: places repeated at every time, Time without a coordinate."""
    text, told, (west, south) = MAPS[name]
    step = 0.1 if "ob_tran" in text else 9.0
    to_map = pyproj.Transformer.from_crs("EPSG:4326", text, always_xy=True)
    x0, y0 = to_map.transform(west, south)
    x, y = np.meshgrid(x0 + step * np.arange(40), y0 + step * np.arange(30))
    lon, lat = to_map.transform(x, y, direction="INVERSE")
    dims = ("Time", "south_north", "west_east")
    held = {
        "T2": (dims, np.stack([0 * x + 280, 0 * x + 281]).astype("f4"), {"units": "K"}),
        "XLAT": (dims, np.stack([lat, lat]).astype("f4"), {"units": "degree_north"}),
        "XLONG": (dims, np.stack([lon, lon]).astype("f4"), {"units": "degree_east"}),
        "Times": ("Time", np.array([b"2021-06-01_00:00:00", b"2021-06-01_01:00:00"])),
    }
    if times == "XTIME":
        held["XTIME"] = ("Time", np.array([0, 60], "f4"), {"units": "minutes since 2021-06-01 00:00:00"})
    return xr.Dataset(held, attrs=told if attributes and told else {}), (lat, lon, step)


def places(grid: Grid):
    back = pyproj.Transformer.from_crs("EPSG:4326", grid.projection, always_xy=True)
    return back.transform(*np.meshgrid(grid.x, grid.y), direction="INVERSE")


@pytest.mark.parametrize("times", ["XTIME", "Times"])
@pytest.mark.parametrize("name", [name for name in MAPS if MAPS[name][1]])
def test_wrf_says_its_map_and_its_times(tmp_path, name, times):
    data, (lat, lon, step) = wrf(name, times=times)
    data.to_netcdf(tmp_path / "wrfout.nc")
    found = read_any_fields(tmp_path / "wrfout.nc")
    # Coordinates in float32 are known to half a metre.
    assert found.grid.spacing == pytest.approx((step, step), abs=1e-3)
    there = places(found.grid)
    np.testing.assert_allclose(there[0], lon, atol=2e-5)
    np.testing.assert_allclose(there[1], lat, atol=2e-5)
    assert found.times[1] == np.datetime64("2021-06-01T01:00")
    assert found.values[0, :, 0, 0, 0].tolist() == [280, 281]


@pytest.mark.parametrize("name", MAPS)
def test_places_tell_their_map(tmp_path, name):
    data, (lat, lon, _) = wrf(name, attributes=False)
    data.to_netcdf(tmp_path / "a.nc")
    with pytest.warns(InputWarning, match="are an even grid on the map"):
        found = read_any_fields(tmp_path / "a.nc")
    there = places(found.grid)
    # A hundredth of a cell is 0.001 degrees.
    np.testing.assert_allclose(there[0], lon, atol=2e-3)
    np.testing.assert_allclose(there[1], lat, atol=1e-3)
    if found.grid.unit == "km":
        metres = pyproj.Geod("+a=6371229 +b=6371229").inv(lon[15, 20], lat[15, 20], lon[15, 21], lat[15, 21])[
            2
        ]
        assert found.grid.spacing[1] == pytest.approx(metres / 1000, rel=2e-3)


def test_places_of_no_map_are_refused(tmp_path):
    data, _ = wrf("Lambert", attributes=False)
    wavy = data["XLAT"] + 0.2 * np.sin(np.arange(40) / 3)
    data.assign(XLAT=(data["XLAT"].dims, wavy.values, data["XLAT"].attrs)).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(
        InputError, match="without a grid mapping; expected axes, or places that form an even grid"
    ):
        read_any_fields(tmp_path / "a.nc")
    data, _ = wrf("Lambert")
    data.assign_attrs(MAP_PROJ=9).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(InputError, match="MAP_PROJ: found 9"):
        read_any_fields(tmp_path / "b.nc")


def test_cells_of_a_rotated_pole_shrink_towards_it():
    rotated = Grid(np.array([-60.0, 0, 60]), np.arange(4.0), "plane", "degree", projection=MAPS["rotated"][0])
    weights = rotated.area_weights()
    np.testing.assert_allclose(weights[0] / weights[1], np.cos(np.pi / 3))
    np.testing.assert_allclose(weights.mean(), 1)
