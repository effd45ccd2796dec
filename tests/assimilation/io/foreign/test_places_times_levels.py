"""Places, times and levels as other software writes them: each row is a file and what it means."""

import numpy as np
import pyproj
import pytest
import xarray as xr

from assimilation.fields.grid import Grid, Variable
from assimilation.fields.longitudes import connected
from assimilation.fields.times import places_of
from assimilation.fields.variables import column_of
from assimilation.io.registry import open_stream, read_any_fields
from assimilation.verification.aggregation import Region
from assimilation.verification.matching import regridding
from priors.runtime.errors import InputError, InputWarning

START = np.datetime64("2021-01-01", "ns")
HOUR = np.timedelta64(1, "h")


def dataset(
    values=None, *, dims=("time", "latitude", "longitude"), unit="K", name="t", coords=None, **attributes
):
    values = np.zeros((2, 3, 4), np.float32) if values is None else np.asarray(values, np.float32)
    default = {"time": START + np.arange(values.shape[dims.index("time")]) * HOUR} if "time" in dims else {}
    for axis, size in zip(dims[-2:], values.shape[-2:], strict=True):
        default[axis] = np.arange(float(size))
    item = xr.Variable(dims, values, {"units": unit, **attributes})
    return xr.Dataset({name: item}, coords={**default, **(coords or {})})


def read(data, tmp_path, **encoding):
    data.to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding=encoding)
    return read_any_fields(tmp_path / "a.nc")


LONGITUDES = {
    "Europe from 0 to 360": ([350, 355, 0, 5], [-10, -5, 0, 5]),
    "across the date line, 0 to 360": ([170, 175, 180, 185], [170, 175, 180, 185]),
    "across the date line, -180 to 180": ([-180, -175, 170, 175], [170, 175, 180, 185]),
    "across the date line, falling": ([185, 180, 175, 170], [170, 175, 180, 185]),
    "America from 0 to 360": ([230, 240, 250, 260], [-130, -120, -110, -100]),
    "the globe": ([0, 90, 180, 270], [-180, -90, 0, 90]),
    "the globe and once more": ([0, 90, 180, 270, 360], [-180, -90, 0, 90]),
    "the globe from -180 to 180": ([-180, -90, 0, 90, 180], [-180, -90, 0, 90]),
    "two turns away": ([720, 721, 722], [0, 1, 2]),
    "one column": ([190], [-170]),
}


@pytest.mark.parametrize("case", LONGITUDES)
def test_longitudes_are_one_run_of_columns(case):
    given, expected = (np.array(part, float) for part in LONGITUDES[case])
    order, longitude, _ = connected(given)
    np.testing.assert_allclose(longitude, expected)
    # Every column keeps its place on Earth.
    np.testing.assert_allclose((given[order] - longitude) % 360 % 360, 0, atol=1e-9)


def test_a_field_across_the_date_line_stays_whole(tmp_path):
    longitude = np.arange(160, 200, 2.0)
    values = np.tile(np.exp(-(((longitude - 181) / 4) ** 2)), (2, 3, 1))
    found = read(dataset(values, coords={"longitude": (longitude + 180) % 360 - 180}), tmp_path)
    np.testing.assert_allclose(found.grid.x, longitude)
    np.testing.assert_allclose(found.values[0, :, 0], values, rtol=1e-6)
    assert not found.grid.periodic[1]


def test_a_region_and_a_truth_across_the_date_line():
    pacific = Grid(np.arange(3.0), np.arange(170, 200, 2.0), "sphere", "degree")
    globe = Grid(np.arange(3.0), np.arange(-180, 180, 2.0), "sphere", "degree", (False, True))
    values = np.tile(np.cos(np.deg2rad(globe.x)), (3, 1))
    np.testing.assert_allclose(
        regridding(globe, pacific)(values), np.tile(np.cos(np.deg2rad(pacific.x)), (3, 1)), atol=1e-12
    )
    for west, east in ((176.0, -176.0), (176.0, 184.0), (-184.0, -176.0)):
        mask = Region("r", (0.0, 2.0), (west, east)).mask(pacific)
        assert pacific.x[mask[0]].tolist() == [176, 178, 180, 182, 184]
    assert Region("r", (0.0, 2.0), (10.0, -10.0)).mask(globe)[0].sum() == 11


def test_two_dimensional_latitude_and_longitude_of_a_plain_grid(tmp_path):
    lat, lon = np.meshgrid([50.0, 51, 52], [4.0, 5, 6, 7], indexing="ij")
    data = dataset(dims=("time", "south_north", "west_east")).drop_vars(["south_north", "west_east"])
    data = data.assign_coords(
        XLAT=(("south_north", "west_east"), lat), XLONG=(("south_north", "west_east"), lon)
    )
    found = read(data, tmp_path)
    assert (found.grid.kind, found.grid.y.tolist(), found.grid.x.tolist()) == (
        "sphere",
        [50, 51, 52],
        [4, 5, 6, 7],
    )


MAP = {
    "grid_mapping_name": "lambert_conformal_conic",
    "standard_parallel": 50.0,
    "longitude_of_central_meridian": 5.0,
    "latitude_of_projection_origin": 50.0,
    "earth_radius": 6371000.0,
}


def on_map(noise=0.0, mapped=True, step=10.0):
    proj = pyproj.Proj("+proj=lcc +lat_1=50 +lon_0=5 +lat_0=50 +R=6371000 +units=km")
    x, y = np.meshgrid(np.arange(4) * step, np.arange(3) * step)
    lon, lat = proj(x + noise * np.random.default_rng(0).normal(size=x.shape), y, inverse=True)
    data = dataset(dims=("time", "j", "i")).drop_vars(["j", "i"])
    data = data.assign_coords(lat=(("j", "i"), lat), lon=(("j", "i"), lon))
    return data.assign(crs=((), np.int32(0), MAP)) if mapped else data


def test_curvilinear_coordinates_with_a_mapping_become_axes(tmp_path):
    found = read(on_map(), tmp_path)
    assert found.grid.kind == "plane"
    np.testing.assert_allclose(found.grid.x, [0, 10, 20, 30], atol=1e-5)
    np.testing.assert_allclose(found.grid.y, [0, 10, 20], atol=1e-5)


def test_curvilinear_coordinates_that_are_no_grid_are_refused(tmp_path):
    with pytest.raises(InputError, match="cells from an even grid"):
        read(on_map(noise=20.0), tmp_path)
    with pytest.warns(InputWarning, match="cells from an even grid"):
        read(on_map(noise=0.5), tmp_path)


def test_rotated_latitude_and_longitude_in_netcdf(tmp_path):
    data = dataset(dims=("time", "rlat", "rlon"))
    data["rlat"].attrs = {"standard_name": "grid_latitude", "units": "degrees"}
    data["rlon"].attrs = {"standard_name": "grid_longitude", "units": "degrees"}
    attributes = {"grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
    data["pole"] = ((), np.int32(0), {"grid_mapping_name": "rotated_latitude_longitude", **attributes})
    found = read(data, tmp_path)
    assert (found.grid.kind, found.grid.unit) == ("plane", "degree")
    to_grid = pyproj.Transformer.from_crs("EPSG:4326", found.grid.projection, always_xy=True)
    # The origin of the rotated grid lies opposite to the pole's meridian, 90 degrees from the pole.
    assert to_grid.transform(18.0, 50.75) == pytest.approx((0, 0), abs=1e-6)


# label: (axis, its attributes, levels, names of the variable t)
LEVELS = {
    "hPa": ("level", {"units": "hPa"}, [850, 500], ["t850", "t500"]),
    "millibar": ("level", {"units": "millibars"}, [850, 500], ["t850", "t500"]),
    "Pa": ("plev", {"units": "Pa", "standard_name": "air_pressure"}, [85000, 50], ["t850", "t0.5"]),
    "Pa by standard name": (
        "p",
        {"units": "Pa", "standard_name": "air_pressure"},
        [85000, 50000],
        ["t850", "t500"],
    ),
    "no unit": ("level", {}, [850, 500], ["t850", "t500"]),
    "heights": ("height", {"units": "m", "standard_name": "height"}, [10, 80], ["t_10m", "t_80m"]),
    "heights in km": (
        "altitude",
        {"units": "km", "standard_name": "altitude"},
        [1, 2.5],
        ["t_1000m", "t_2500m"],
    ),
    "model levels": ("hybrid", {"units": "1"}, [1, 137], ["t_hybrid1", "t_hybrid137"]),
}


@pytest.mark.parametrize("case", LEVELS)
def test_levels_are_named_in_one_unit(tmp_path, case):
    axis, attributes, levels, names = LEVELS[case]
    values = np.stack([np.full((2, 3, 4), level) for level in levels], axis=1)
    coords = {axis: (axis, levels, attributes)}
    found = read(dataset(values, dims=("time", axis, "latitude", "longitude"), coords=coords), tmp_path)
    assert [item.name for item in found.variables] == names
    np.testing.assert_array_equal(found.values[0, 0, :, 0, 0], np.array(levels, np.float32))


def test_a_single_level_keeps_its_name(tmp_path):
    data = dataset().assign_coords(plev=((), 85000.0, {"units": "Pa", "standard_name": "air_pressure"}))
    assert read(data, tmp_path).variables[0].name == "t850"
    # A temperature at a height of 2 m has a name of its own.
    data = dataset(name="tas").assign_coords(height=((), 2.0, {"units": "m", "standard_name": "height"}))
    assert read(data, tmp_path).variables[0].name == "tas"


def test_pressures_without_a_unit_beyond_any_in_hectopascal_are_told(tmp_path):
    values = np.zeros((2, 2, 3, 4))
    data = dataset(
        values, dims=("time", "plev", "latitude", "longitude"), coords={"plev": [85000.0, 50000.0]}
    )
    with pytest.warns(InputWarning, match="they are read as Pa"):
        assert [item.name for item in read(data, tmp_path).variables] == ["t850", "t500"]


AIR = "air_temperature"


@pytest.mark.parametrize(
    ("wanted", "held", "place"),
    [
        ("t2m", ["t850", "t2m"], 1),
        ("t2m", ["t850", "t500"], None),
        ("t2m", ["t850"], None),
        ("t2m", ["2m_temperature"], 0),
        ("t850", ["ta850", "ta500"], 0),
        ("t2m", ["tas"], 0),
        ("t2m", ["tas", "tos"], None),
        ("t0.5", ["t5"], None),
    ],
)
def test_a_variable_is_never_taken_for_one_of_another_level(wanted, held, place):
    others = [Variable(name, "K", AIR) for name in held]
    if place is None:
        with pytest.raises(InputError, match=f"expected {wanted}; .* share its standard name"):
            column_of(Variable(wanted, "K", AIR), others)
    else:
        assert column_of(Variable(wanted, "K", AIR), others) == place


FLOATS = {
    "hours since 1900": ("hours since 1900-01-01", 1060680 + np.arange(144) / 6, "f8"),
    "days since 1970": ("days since 1970-01-01", 18628 + np.arange(144) / 144, "f8"),
    "days since the year 1": ("days since 0001-01-01", 737790 + np.arange(144) / 144, "f8"),
    "minutes as float32": ("minutes since 2021-01-01", np.arange(144) * 10.0, "f4"),
    "seconds": ("seconds since 2021-01-01", np.arange(144) * 600.0, "f8"),
}


@pytest.mark.parametrize("case", FLOATS)
def test_times_stored_as_floats_are_the_round_ones(tmp_path, case):
    unit, values, kind = FLOATS[case]
    time = ("time", values.astype(kind), {"units": unit, "calendar": "proleptic_gregorian"})
    found = read(dataset(np.zeros((144, 1, 1)), coords={"time": time}), tmp_path)
    np.testing.assert_array_equal(found.times, START + np.arange(144) * np.timedelta64(600, "s"))


def test_times_known_to_minutes_only_are_told_and_made_even(tmp_path):
    hours = (1060680 + np.arange(24) / 2).astype("f4")
    data = dataset(
        np.zeros((24, 1, 1)), coords={"time": ("time", hours, {"units": "hours since 1900-01-01"})}
    )
    with pytest.warns(InputWarning, match=r"float32 and known to .* s only"):
        found = read(data, tmp_path)
    np.testing.assert_array_equal(found.times, START + np.arange(24) * np.timedelta64(1800, "s"))


@pytest.mark.parametrize(
    ("unit", "calendar", "day"),
    [("days since 2300-01-01", "standard", 0), ("days since 1500-01-01", "standard", 0),
     ("days since 2300-01-01", "noleap", 5), ("days since 2000-01-01", "proleptic_gregorian", 999999),
     ("days since 1600-01-01", "365_day", 0)],
)  # fmt: skip
def test_times_beyond_what_nanoseconds_hold_are_refused(tmp_path, unit, calendar, day):
    time = ("time", [day, day + 1], {"units": unit, "calendar": calendar})
    with pytest.raises(InputError, match="expected times from 1678 to 2261"):
        read(dataset(coords={"time": time}), tmp_path)


@pytest.mark.parametrize(
    ("unit", "calendar"), [("days since 2261-12-30", "standard"), ("days since 1678-01-02", "noleap")]
)
def test_the_last_times_that_nanoseconds_hold(tmp_path, unit, calendar):
    found = read(dataset(coords={"time": ("time", [0, 1], {"units": unit, "calendar": calendar})}), tmp_path)
    assert str(found.times[0])[:10] == unit[-10:]


def test_the_same_moments_up_to_a_hundredth_of_a_step():
    held = START + np.arange(5) * np.timedelta64(600, "s")
    wanted = held + np.array([0, 5, -5, 7, 0]) * np.timedelta64(1, "s")
    assert places_of(wanted, held).tolist() == [0, 1, 2, -1, 4]
    assert places_of(held[:1], held[3:]).tolist() == [-1]
    assert places_of(held, held[2:3]).tolist() == [-1, -1, 0, -1, -1]


@pytest.mark.parametrize(
    "names",
    [
        ("time", "prediction_timedelta"),
        ("init_time", "lead_time"),
        ("forecast_reference_time", "forecast_period"),
    ],
)
def test_several_starts_by_several_leads(tmp_path, names):
    values = np.random.default_rng(0).normal(280, 2, (4, 3, 2, 2)).astype(np.float32)
    start, lead = START + np.arange(4) * 12 * HOUR, np.arange(3) * 12 * HOUR
    coords = {names[0]: start, names[1]: lead.astype("m8[ns]")}
    data = dataset(values, dims=(*names, "latitude", "longitude"), coords=coords)
    data.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with open_stream(tmp_path / "a.nc") as stream:
        np.testing.assert_array_equal(stream.starts, start)
        np.testing.assert_array_equal(stream.valid_times(), start[:, None] + lead)
        np.testing.assert_array_equal(stream.read(2, 1)[0, 0], values[2, 1])
    with pytest.raises(InputError, match="4 starts by 3 leads"):
        read_any_fields(tmp_path / "a.nc")
    chosen = read_any_fields(tmp_path / "a.nc", lead=np.timedelta64(24, "h"))
    np.testing.assert_array_equal(chosen.times, start + 24 * HOUR)
    np.testing.assert_array_equal(chosen.values[0, :, 0], values[:, 2])
    with pytest.raises(InputError, match="found 6 h, expected one of 0, 12, 24 h"):
        read_any_fields(tmp_path / "a.nc", lead=np.timedelta64(6, "h"))


def test_scores_by_lead_are_over_all_starts():
    from assimilation.fields.fields import Fields
    from assimilation.fields.streams import STARTS, FieldStream
    from assimilation.verification.verify import verify

    grid = Grid(np.arange(2.0), np.arange(2.0), "plane", "km")
    start, lead = START + np.arange(3) * HOUR, np.arange(2) * HOUR
    truth = np.arange(3.0)[:, None, None, None] + np.zeros((3, 1, 2, 2))
    fields = Fields(truth[None].astype(np.float32), start, (Variable("t", "K"),), grid)

    def frame(trajectory, time):
        # The error is the lead in hours, whatever the start; the truth at START + 3 h is absent.
        return np.full((1, 1, 2, 2), trajectory + 2.0 * time, np.float32)

    attributes = {STARTS: " ".join(np.datetime_as_string(start.astype("datetime64[s]")))}
    forecast = FieldStream(3, 1, start[0] + lead, fields.variables, grid, frame, attributes)
    with pytest.warns(InputWarning, match="1 of 6 times of the analysis are absent"):
        scores = verify(forecast, fields)
    assert scores["by_lead"]["lead_s"] == [0, 3600]
    assert scores["by_lead"]["rmse"] == [0, 1]
    assert (scores["points"], scores["points_held"]) == (20, 24)


BOUNDS = {
    "sums since the start": ([[0, 1], [0, 2], [0, 3]], [1, 3, 6], [1, 2, 3]),
    "amounts": ([[0, 1], [1, 2], [2, 3]], [1, 2, 3], [1, 2, 3]),
    "sums that begin again": ([[0, 1], [0, 2], [2, 3]], [1, 3, 4], [1, 2, 4]),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_bounds_of_time_tell_sums_from_amounts(tmp_path, case):
    bounds, given, expected = BOUNDS[case]
    values = np.array(given, float)[:, None, None] * np.ones((3, 2, 2))
    time = ("time", [1.0, 2, 3], {"units": "hours since 2021-01-01", "bounds": "time_bnds"})
    data = dataset(values, unit="kg m-2", name="pr", coords={"time": time}, cell_methods="time: sum")
    data["time_bnds"] = (("time", "nv"), np.array(bounds, float))
    np.testing.assert_allclose(read(data, tmp_path).values[0, :, 0, 0, 0], expected)


def test_sums_without_bounds_are_told(tmp_path):
    data = dataset(unit="mm", name="RAINNC", description="ACCUMULATED TOTAL GRID SCALE PRECIPITATION")
    with pytest.warns(InputWarning, match="RAINNC: says that it is accumulated, but not over which time"):
        read(data, tmp_path)


@pytest.mark.parametrize(
    "unit", ["Hours Since 2021-01-01", "HOURS SINCE 2021-01-01 00:00", "hours  since 2021-1-1"]
)
def test_spellings_of_units_of_time(tmp_path, unit):
    data = dataset(coords={"time": ("time", [0.0, 1.0], {"units": unit})})
    assert read(data, tmp_path).times.tolist() == [START.astype(int), (START + HOUR).astype(int)]


def test_months_are_no_unit_of_time(tmp_path):
    data = dataset(coords={"time": ("time", [0.0, 1.0], {"units": "months since 2021-01-01"})})
    with pytest.raises(InputError, match="time: unable to decode time units 'months since"):
        read(data, tmp_path)
