"""Missing values as files state them: each row is a file, the counts in it, and the values that it means."""

import numpy as np
import pytest
import xarray as xr
import zarr

from assimilation.io.registry import read_any_fields
from priors.runtime.errors import InputWarning

NAN = np.nan
BAD, GOOD = NAN, 50.0
# label: (type, three counts, attributes, three values)
CASES = {
    "nothing stated": ("f4", [50, 9999, -1], {}, [50, 9999, -1]),
    "_FillValue": ("f4", [50, -9999, 0], {"_FillValue": np.float32(-9999)}, [50, NAN, 0]),
    "missing_value of another type": ("f4", [50, -999, 0], {"missing_value": np.int32(-999)}, [50, NAN, 0]),
    "both, unlike": (
        "f4",
        [50, -9999, -999],
        {"_FillValue": np.float32(-9999), "missing_value": np.float64(-999)},
        [50, NAN, NAN],
    ),
    "missing_value list": (
        "f4",
        [-1, -2, 3],
        {"missing_value": np.array([-1, -2], "f4")},
        [NAN, NAN, 3],
    ),
    "missing_value text": ("f4", [50, -999, 0], {"missing_value": "-999"}, [50, NAN, 0]),
    "missing_value text of C": ("f4", [50, -999, 0], {"missing_value": "-999.f"}, [50, NAN, 0]),
    "code of IMERG": ("f4", [50, -9999.9, 0], {"CodeMissing": "-9999.9"}, [50, NAN, 0]),
    "misspelt fill": ("f4", [50, -9999, 0], {"FillValue": np.float32(-9999)}, [50, NAN, 0]),
    "fill rounded to a float": ("f4", [50, 1e20, 0], {"missing_value": 1e20}, [50, NAN, 0]),
    "double code of a float": ("f4", [50, -9999.9, 0], {"missing_value": -9999.9}, [50, NAN, 0]),
    "fill NaN": ("f4", [50, NAN, 0], {"_FillValue": np.float32(NAN)}, [50, NAN, 0]),
    "default fill float": ("f4", [50, 9.969209968386869e36, 0], {}, [50, NAN, 0]),
    "default fill rounded": ("f4", [50, 9.96921e36, 0], {}, [50, NAN, 0]),
    "default fill double": ("f8", [50, 9.969209968386869e36, 0], {}, [50, NAN, 0]),
    "default fill short": ("i2", [50, -32767, 0], {}, [50, NAN, 0]),
    "default fill unsigned": ("u2", [50, 65535, 0], {}, [50, NAN, 0]),
    "default fill int": ("i4", [50, -2147483647, 0], {}, [50, NAN, 0]),
    "no default of bytes": ("i1", [50, -127, 0], {}, [50, -127, 0]),
    "default beside another fill": ("i2", [50, -32767, -1], {"_FillValue": np.int16(-1)}, [50, -32767, NAN]),
    "valid_max": ("f4", [50, 9999, 0], {"valid_max": np.float32(100)}, [50, NAN, 0]),
    "valid_min": ("f4", [50, -1, 0], {"valid_min": np.float32(0)}, [50, NAN, 0]),
    "valid_range": ("f4", [101, -1, 100], {"valid_range": np.array([0, 100], "f4")}, [NAN, NAN, 100]),
    "valid_range text": ("f4", [101, -1, 100], {"valid_range": "0.f, 100.f"}, [NAN, NAN, 100]),
    "valid_min text": ("f4", [50, -1, 0], {"valid_min": "0.f"}, [50, NAN, 0]),
    "valid_range of ints for floats": (
        "f4",
        [101, 5, 100],
        {"valid_range": np.array([0, 100])},
        [NAN, 5, 100],
    ),
    "packed": (
        "i2",
        [500, -32768, 0],
        {"scale_factor": 0.1, "add_offset": 10.0, "_FillValue": np.int16(-32768)},
        [60, NAN, 10],
    ),
    "packed, range in counts": (
        "i2",
        [500, 1001, -1],
        {"scale_factor": 0.1, "valid_range": np.array([0, 1000], "i2")},
        [50, NAN, NAN],
    ),
    "packed, range in values": (
        "i2",
        [500, 1001, -1],
        {"scale_factor": 0.1, "valid_range": np.array([0, 100], "f4")},
        [50, NAN, NAN],
    ),
    "packed, valid_max in values": (
        "i2",
        [500, 1001, -5],
        {"scale_factor": 0.1, "valid_max": 100.0},
        [50, NAN, -0.5],
    ),
    "packed, falling scale": (
        "i2",
        [-500, -1001, 1],
        {"scale_factor": -0.1, "valid_min": 0.0, "valid_max": 100.0},
        [50, NAN, NAN],
    ),
    "packed, text in counts": (
        "i2",
        [500, 1001, 0],
        {"scale_factor": 0.1, "valid_max": "1000s"},
        [50, NAN, 0],
    ),
    "packed, code as a value": (
        "i2",
        [500, 0, -9999],
        {"scale_factor": 0.1, "missing_value": -999.9},
        [50, 0, NAN],
    ),
    "packed floats": ("f4", [5, -1, 2], {"scale_factor": 10.0, "_FillValue": np.float32(-1)}, [50, NAN, 20]),
    "packing as text": ("i2", [500, 0, -1], {"scale_factor": "0.1", "missing_value": "-1"}, [50, 0, NAN]),
    "unsigned bytes": (
        "i1",
        [100, -1, -56],
        {"_Unsigned": "true", "_FillValue": np.int8(-1), "scale_factor": 0.5},
        [50, NAN, 100],
    ),
    "unsigned range": (
        "i1",
        [100, -1, -56],
        {"_Unsigned": "true", "valid_range": np.array([0, -56], "i1"), "scale_factor": 0.5},
        [50, NAN, 100],
    ),
    "undetect": (
        "u1",
        [50, 255, 254],
        {"_FillValue": np.uint8(255), "_Undetect": np.uint8(254)},
        [50, NAN, 0],
    ),
    "a code no byte can be": ("u1", [50, 255, 0], {"missing_value": -9999.0}, [50, 255, 0]),
}


def write(path, kind, counts, attributes):
    data = np.zeros((1, 2, 3), kind)
    data[0, 0], data[0, 1] = counts, counts[0]
    item = xr.Variable(("time", "latitude", "longitude"), data, {"units": "%", **attributes})
    coords = {
        "time": [np.datetime64("2021-01-01", "ns")],
        "latitude": [0.0, 1.0],
        "longitude": [0.0, 1.0, 2.0],
    }
    held = xr.Dataset({"rh": item}, coords=coords)
    encoding = {} if "_FillValue" in attributes else {"rh": {"_FillValue": None}}
    if path.suffix == ".zarr":
        held.to_zarr(path, zarr_format=3, encoding=encoding, consolidated=False)
    else:
        held.to_netcdf(path, engine="h5netcdf", encoding=encoding)


@pytest.mark.parametrize("case", CASES)
def test_netcdf(tmp_path, case):
    kind, counts, attributes, values = CASES[case]
    write(tmp_path / "a.nc", kind, counts, attributes)
    found = read_any_fields(tmp_path / "a.nc").values[0, 0, 0, 0]
    # Values are stored as float32.
    np.testing.assert_allclose(found, values, rtol=1e-6)


@pytest.mark.parametrize(
    "case", ["missing_value text", "packed, range in counts", "_FillValue", "nothing stated"]
)
def test_zarr_3(tmp_path, case):
    kind, counts, attributes, values = CASES[case]
    write(tmp_path / "a.zarr", kind, counts, attributes)
    np.testing.assert_allclose(read_any_fields(tmp_path / "a.zarr").values[0, 0, 0, 0], values, rtol=1e-6)


# label: (type, counts, fill_value of the array, attributes, values): written by zarr itself, without _FillValue.
ZARR2 = {
    "zarr's default is dry": ("f4", [0, 1, 2], 0, {}, [0, 1, 2]),
    "a count of zero": ("i2", [0, 10, 20], 0, {"scale_factor": 0.1}, [0, 1, 2]),
    "one is a value": ("f4", [0, 1, 2], 1, {}, [0, 1, 2]),
    "NaN": ("f4", [0, NAN, 2], NAN, {}, [0, NAN, 2]),
    "a code": ("f4", [0, -9999, 2], -9999, {}, [0, NAN, 2]),
    "the least count": ("i2", [0, -32768, 20], -32768, {"scale_factor": 0.1}, [0, NAN, 2]),
    "zero that CF calls missing": ("f4", [0, 1, 2], 0, {"_FillValue": 0.0}, [NAN, 1, 2]),
}


@pytest.mark.parametrize("case", ZARR2)
def test_zarr_2(tmp_path, case):
    kind, counts, fill, attributes, values = ZARR2[case]
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)

    def put(name, data, dims, value, **told):
        array = group.create_array(name, data=data, fill_value=value)
        array.attrs.update({"_ARRAY_DIMENSIONS": dims, **told})

    data = np.tile(np.array(counts, kind), (1, 2, 1))
    put("rain", data, ["time", "y", "x"], fill, units="mm/h", **attributes)
    put("time", np.array([0]), ["time"], 0, units="minutes since 2021-01-01")
    put("y", np.arange(2.0), ["y"], 0, units="km")
    put("x", np.arange(3.0), ["x"], 0, units="km")
    found = read_any_fields(tmp_path / "a.zarr")
    np.testing.assert_allclose(found.values[0, 0, 0, 0], values, rtol=1e-6)
    assert found.times[0] == np.datetime64("2021-01-01")


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"valid_min": "low"}, "valid_min: found 'low', expected a number"),
        ({"missing_value": "none"}, "missing_value: found 'none'"),
        ({"valid_range": np.array([1.0])}, "valid_range: found 1 numbers"),
        ({"valid_min": 3.0, "valid_max": 1.0}, "a valid range from 3 to 1, which holds nothing"),
        ({"scale_factor": 0.0}, "scale_factor: found 0"),
    ],
)
def test_what_is_no_limit_is_told_and_not_used(tmp_path, attributes, told):
    write(tmp_path / "a.nc", "f4", [1, 2, 3], attributes)
    with pytest.warns(InputWarning, match=told):
        found = read_any_fields(tmp_path / "a.nc")
    np.testing.assert_array_equal(found.values[0, 0, 0, 0], [1, 2, 3])


def test_a_least_value_is_told_in_the_unit_of_the_values(tmp_path):
    write(tmp_path / "a.nc", "i2", [100, 0, 5], {"scale_factor": 0.1, "valid_min": np.int16(0)})
    assert read_any_fields(tmp_path / "a.nc").variables[0].minimum == 0


def _days(values: np.ndarray, unit: str) -> xr.Dataset:
    days = np.array(["2021-01-01", "2021-01-02"], "datetime64[ns]")
    coords = {"time": days, "y": np.arange(3.0), "x": np.arange(4.0)}
    return xr.Dataset({"n": (("time", "y", "x"), values, {"units": unit})}, coords)


@pytest.mark.parametrize("code", [1e20, -1e20, 9.999e20, 9.969209968386869e36, 3.4028234663852886e38, 1e30])
@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_codes_that_no_quantity_reaches_are_missing_though_unstated(tmp_path, code, ending):
    values = np.full((2, 3, 4), 280, np.float32)
    values[0, 0, 0], values[1, 2, 3] = code, 2.5e19
    path, plain = tmp_path / f"a.{ending}", {"n": {"_FillValue": None}}
    if ending == "nc":
        _days(values, "cm-3").to_netcdf(path, engine="h5netcdf", encoding=plain)
    else:
        _days(values, "cm-3").to_zarr(path, encoding=plain, consolidated=False)
    found = read_any_fields(path).values[0, :, 0]
    assert np.isnan(found[0, 0, 0])
    # As many molecules are in a cubic centimetre of air.
    assert found[1, 2, 3] == pytest.approx(2.5e19)
    assert np.isnan(found).sum() == 1


@pytest.mark.parametrize(("fill", "missing"), [(-9999.0, True), (0.0, False), (1.0, False), (9.0, False)])
def test_fill_values_of_zarr_3_are_codes_where_they_look_like_it(tmp_path, fill, missing):
    values = np.full((2, 3, 4), 280, np.float32)
    values[0, 0, 0] = fill
    encoding = {"n": {"fill_value": fill, "_FillValue": None}}
    _days(values, "K").to_zarr(tmp_path / "a.zarr", zarr_format=3, encoding=encoding, consolidated=False)
    found = read_any_fields(tmp_path / "a.zarr").values[0, 0, 0, 0, 0]
    assert np.isnan(found) if missing else found == fill
