"""GRIB messages made with eccodes: names, levels, sums, grids, codes of what is missing."""

import numpy as np
import pytest

from assimilation.io.registry import open_stream, read_any_fields
from priors.runtime.errors import InputWarning

eccodes = pytest.importorskip("eccodes")


def message(sample="regular_ll_sfc_grib2", values=None, **keys):
    """Return the bytes of a message of a sample with some keys set, in order."""
    handle = eccodes.codes_grib_new_from_samples(sample)
    for key, value in keys.items():
        eccodes.codes_set(handle, key, value)
    values = np.asarray(0.0 if values is None else values, float)
    size = values.size if values.size > 9 else eccodes.codes_get_size(handle, "values")
    eccodes.codes_set_values(handle, np.resize(values, size))
    return eccodes.codes_get_message(handle)


def written(path, *messages):
    path.write_bytes(b"".join(messages))
    return path


def names(path, variable=None):
    with open_stream(path, variable) as stream:
        return [item.name for item in stream.variables]


def level(kind, value, number, sample="regular_ll_pl_grib2", **keys):
    return message(sample, number, typeOfLevel=kind, level=value, shortName="t", dataDate=20200101, **keys)


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        ("isobaricInhPa", 850, "t850"),
        ("isobaricInPa", 50, "t0.5"),
        ("isobaricInhPa", 1000, "t1000"),
        ("hybrid", 137, "t_hybrid137"),
        ("heightAboveGround", 100, "t_100m"),
        ("surface", 0, "t"),
        ("theta", 315, "t_theta315"),
    ],
)
def test_a_level_is_part_of_the_name(tmp_path, kind, value, name):
    assert names(written(tmp_path / "a.grib", level(kind, value, 250.0))) == [name]


def test_the_same_number_in_pascal_and_hectopascal(tmp_path):
    path = written(tmp_path / "a.grib", level("isobaricInPa", 50, 260.0), level("isobaricInhPa", 50, 215.0))
    found = read_any_fields(path)
    assert {item.name: found.values[0, 0, k, 0, 0] for k, item in enumerate(found.variables)} == {
        "t0.5": 260,
        "t50": 215,
    }


def step(first, last, number, name="tp", kind="accum"):
    keys = {"centre": "ecmf", "shortName": name, "dataDate": 20200101, "dataTime": 0}
    return message("regular_ll_sfc_grib1", number, **keys, stepType=kind, stepRange=f"{first}-{last}")


# label: (kind, intervals with their values, values read); packing leaves a millionth.
STEPS = {
    "sums since the start": ("accum", [(0, 1, 1.0), (0, 2, 3.0), (0, 3, 6.0)], [1, 2, 3]),
    "amounts": ("accum", [(0, 1, 1.0), (1, 2, 2.0), (2, 3, 3.0)], [1, 2, 3]),
    "buckets": ("accum", [(0, 3, 3.0), (0, 6, 5.0), (6, 9, 1.0), (6, 12, 4.0)], [3, 2, 1, 3]),
    "means since the start": ("avg", [(0, 1, 1.0), (0, 2, 1.5), (0, 4, 2.25)], [1, 2, 3]),
    "a shorter beside a longer": ("accum", [(0, 1, 1.0), (0, 2, 3.0), (1, 2, 2.0)], [1, 2]),
    "nothing at the start": ("accum", [(0, 0, 0.0), (0, 1, 1.0), (0, 2, 3.0)], [np.nan, 1, 2]),
}


@pytest.mark.parametrize("case", STEPS)
def test_sums_become_amounts_of_each_step(tmp_path, case):
    kind, intervals, expected = STEPS[case]
    path = written(tmp_path / "a.grib", *(step(*interval, kind=kind) for interval in intervals))
    found = read_any_fields(path).values[0, :, 0, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_was_done_to_sums_is_told(tmp_path):
    path = written(tmp_path / "a.grib", step(0, 1, 1.0), step(0, 2, 3.0))
    with pytest.warns(
        InputWarning, match=r"tp: sums since the start of the forecast are read as .* \(3600 s\)"
    ):
        read_any_fields(path)
    path = written(tmp_path / "b.grib", step(0, 1, 280.0, "mx2t", "max"), step(0, 2, 281.0, "mx2t", "max"))
    with pytest.warns(InputWarning, match="the max since the start"):
        read_any_fields(path)


def test_an_instant_and_an_average_have_two_names(tmp_path):
    kind = {"discipline": 0, "parameterCategory": 1, "parameterNumber": 196, "typeOfFirstFixedSurface": 1}
    keys = {"dataDate": 20230510}
    instant = message(
        values=1e-4, centre="kwbc", productDefinitionTemplateNumber=0, **kind, **keys, forecastTime=5
    )
    average = message(
        values=2e-4,
        centre="kwbc",
        productDefinitionTemplateNumber=8,
        **kind,
        **keys,
        forecastTime=0,
        typeOfStatisticalProcessing=0,
        stepRange="0-5",
    )
    path = written(tmp_path / "a.grib2", instant, average)
    assert names(path) == ["cpr", "cpr_avg"]
    # cpr is a rate of water: kg m-2 s-1.
    np.testing.assert_allclose(read_any_fields(path, "cpr_avg").values, 2e-4, rtol=1e-4)


def test_a_lambert_grid_is_where_eccodes_says(tmp_path):
    pyproj = pytest.importorskip("pyproj")
    keys = {
        **{
            "gridType": "lambert",
            "Nx": 20,
            "Ny": 15,
            "DxInMetres": 3000,
            "DyInMetres": 3000,
            "LaDInDegrees": 38.5,
        },
        **{"LoVInDegrees": 262.5, "Latin1InDegrees": 38.5, "Latin2InDegrees": 38.5, "shapeOfTheEarth": 6},
        **{"latitudeOfFirstGridPointInDegrees": 38.0, "longitudeOfFirstGridPointInDegrees": 262.0},
        **{"jScansPositively": 1, "shortName": "2t", "dataDate": 20200101},
    }
    path = written(tmp_path / "a.grib2", message("GRIB2", np.arange(300.0), **keys))
    with path.open("rb") as file:
        handle = eccodes.codes_grib_new_from_file(file)
    places = [eccodes.codes_get_array(handle, key).reshape(15, 20) for key in ("longitudes", "latitudes")]
    found = read_any_fields(path)
    assert found.grid.spacing == pytest.approx((3, 3))
    x, y = pyproj.Proj(found.grid.projection)(places[0], places[1])
    np.testing.assert_allclose(x, np.broadcast_to(found.grid.x, (15, 20)), atol=1e-3)
    np.testing.assert_allclose(y, np.broadcast_to(found.grid.y[:, None], (15, 20)), atol=1e-3)
    np.testing.assert_allclose(found.values[0, 0, 0], np.arange(300.0).reshape(15, 20), atol=1e-2)


@pytest.mark.parametrize("edition", [1, 2])
def test_a_rotated_grid_is_where_eccodes_says(tmp_path, edition):
    pyproj = pytest.importorskip("pyproj")
    keys = {"latitudeOfSouthernPoleInDegrees": -39.25, "longitudeOfSouthernPoleInDegrees": 18.0}
    corners = {
        **{"latitudeOfFirstGridPointInDegrees": 10.0, "latitudeOfLastGridPointInDegrees": -20.0},
        **{"longitudeOfFirstGridPointInDegrees": -5.0, "longitudeOfLastGridPointInDegrees": 10.0},
        **{"iDirectionIncrementInDegrees": 1.0, "jDirectionIncrementInDegrees": 1.0, "shortName": "2t"},
    }
    path = written(
        tmp_path / "a.grib", message(f"rotated_ll_sfc_grib{edition}", np.arange(496.0), **keys, **corners)
    )
    with path.open("rb") as file:
        handle = eccodes.codes_grib_new_from_file(file)
    longitude, latitude = (eccodes.codes_get_array(handle, key) for key in ("longitudes", "latitudes"))
    found = read_any_fields(path)
    assert (found.grid.kind, found.grid.unit, found.grid.spacing) == (
        "plane",
        "degree",
        pytest.approx((1, 1)),
    )
    to_grid = pyproj.Transformer.from_crs("EPSG:4326", found.grid.projection, always_xy=True)
    x, y = to_grid.transform(longitude, latitude)
    rows, columns = found.grid.fractional_index(np.asarray(y), np.asarray(x))
    values = found.values[0, 0, 0][rows.round().astype(int), columns.round().astype(int)]
    np.testing.assert_allclose(values, np.arange(496.0), atol=1e-2)
    assert max(np.abs(rows - rows.round()).max(), np.abs(columns - columns.round()).max()) < 1e-3


@pytest.mark.parametrize(
    ("keys", "counts", "expected"),
    [
        ({"parameterCategory": 6, "parameterNumber": 1}, [-3, 5, -1, 0], [np.nan, 5, np.nan, 0]),
        ({"parameterCategory": 10, "parameterNumber": 0}, [-999, 30, -99, -5], [np.nan, 30, np.nan, -5]),
    ],
)
def test_the_codes_of_mrms(tmp_path, keys, counts, expected):
    path = written(
        tmp_path / "a.grib2", message(values=counts, centre=161, discipline=209, **keys, dataDate=20190610)
    )
    found = read_any_fields(path)
    np.testing.assert_allclose(found.values[0, 0, 0, -1, :4], expected, atol=1e-3)
    if keys["parameterCategory"] == 6:
        assert (found.variables[0].name, found.variables[0].unit) == ("rain_rate", "mm/h")


def test_a_value_of_9999_without_a_bitmap_is_a_value(tmp_path):
    path = written(tmp_path / "a.grib", message("regular_ll_sfc_grib1", [9999.0, 5.0], shortName="2t"))
    assert read_any_fields(path).values[0, 0, 0, -1, 0] == pytest.approx(9999, abs=0.2)
    with_bitmap = message("regular_ll_sfc_grib2", [9999.0, 5.0, 6.0], bitmapPresent=1, shortName="2t")
    assert np.isnan(read_any_fields(written(tmp_path / "b.grib", with_bitmap)).values[0, 0, 0, -1, 0])


def test_a_static_variable_is_left_out_with_a_word(tmp_path):
    hours = [message(values=280.0 + h, shortName="2t", dataDate=20200101, forecastTime=h) for h in range(3)]
    mask = message(values=1.0, shortName="lsm", dataDate=20200101)
    path = written(tmp_path / "a.grib2", *hours, mask)
    with pytest.warns(InputWarning, match="lsm: left out"):
        assert names(path) == ["t2m"]
    assert names(path, "lsm") == ["lsm"]
