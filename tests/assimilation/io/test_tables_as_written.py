"""Tables as people and agencies write them: codes, texts, units, separators, and single rows that are wrong."""

import numpy as np
import pytest

from assimilation.fields.grid import Grid, Variable
from assimilation.io.observations.tables import read_table, to_rows
from priors.runtime.errors import InputError, InputWarning

GRID = Grid(np.arange(50.0, 56.0), np.arange(-5.0, 1.0), "sphere", "degree")
T2M = (Variable("t2m", "K", "air_temperature"),)
OTHER = (Variable("ozone", "ppb"),)
HEADER = "time,lat,lon,variable,value,sigma"


def lines(*values, header=HEADER, sigma="0.5", place="52,-2", variable="t2m", more=""):
    rows = [
        f"2023-06-01T00:{k:02d},{place},{variable},{value},{sigma}{more}" for k, value in enumerate(values)
    ]
    return "\n".join([header, *rows]) + "\n"


def read(tmp_path, text, *, variables=T2M, encoding="utf-8", grid=GRID):
    (tmp_path / "obs.csv").write_bytes(text.encode(encoding))
    frame, _ = read_table(tmp_path / "obs.csv")
    return to_rows(frame, variables=variables, grid=grid, source="obs.csv")


CODES = (
    "-9999",
    "-9999.0",
    "-999",
    "-99999",
    "-9999.9",
    "9999",
    "999.9",
    "-32768",
    "-99.9",
    "0",
    "15",
    "1e20",
)


@pytest.mark.parametrize("code", CODES)
def test_what_is_no_temperature_is_left_out_and_counted(tmp_path, code):
    with pytest.warns(InputWarning, match="1 of 3 rows left out: t2m: found .* outside 150 to 350 K"):
        found = read(tmp_path, lines("288", code, "289"))
    assert found.value.tolist() == [288, 289]


@pytest.mark.parametrize(
    "text", ["M", "NA", "N/A", "-", "///", "nan", "null", "missing", "", "--", "#N/A", " M "]
)
def test_texts_for_missing_are_missing(tmp_path, text):
    assert read(tmp_path, lines("288", text, "289")).value.tolist() == [288, 289]


def test_a_code_of_an_unknown_variable_is_left_out(tmp_path):
    with pytest.warns(InputWarning, match="ozone: found -9999, a code of missing"):
        found = read(tmp_path, lines("40", "-9999", "-5", variable="ozone"), variables=OTHER)
    assert found.value.tolist() == [40, -5]


def test_a_code_in_another_unit_is_a_code_before_it_is_converted(tmp_path):
    text = lines("15", "-99.9", "14", header=HEADER + ",unit", more=",degC")
    with pytest.warns(InputWarning, match="found -99.9"):
        assert read(tmp_path, text).value.tolist() == pytest.approx([288.15, 287.15])


@pytest.mark.parametrize(
    "unit",
    [
        "degC",
        "°C",
        "C",
        "celsius",
        "Celsius",
        "deg C",
        "degrees C",
        "degree_C",
        "degrees Celsius",
        "ºC",
        "℃",
        "deg_C",
    ],
)
def test_spellings_of_degrees_celsius(tmp_path, unit):
    found = read(tmp_path, lines("15", header=HEADER + ",unit", more=f",{unit}"))
    assert found.value.tolist() == pytest.approx([288.15])
    # An error has no zero to move.
    assert found.sigma.tolist() == [0.5]


@pytest.mark.parametrize(("unit", "value"), [("K", 288.0), ("Kelvin", 288.0), ("degF", 59.0), ("°F", 59.0)])
def test_other_units_of_temperature(tmp_path, unit, value):
    found = read(tmp_path, lines(value, header=HEADER + ",unit", more=f",{unit}"))
    assert found.value[0] == pytest.approx(288.0, abs=0.2)


@pytest.mark.parametrize("place", ["70,-2", "52,30", "95,0", "52,", "NA,-2"])
def test_a_station_that_is_nowhere_does_not_refuse_the_others(tmp_path, place):
    text = lines("288") + f"2023-06-01T01:00,{place},t2m,287,0.5\n"
    with pytest.warns(InputWarning, match="1 of 2 rows left out"):
        assert read(tmp_path, text).value.tolist() == [288]


def test_an_error_that_is_a_code_leaves_its_row_out(tmp_path):
    text = lines("288") + "2023-06-01T01:00,52,-2,t2m,287,-999\n"
    with pytest.warns(InputWarning, match="1 of 2 rows left out: sigma"):
        assert read(tmp_path, text).value.tolist() == [288]


def test_all_rows_wrong_is_refused(tmp_path):
    with pytest.raises(InputError, match="all of 2 rows are so"):
        read(tmp_path, lines("-9999", "-9999"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda text: text.replace(",", ";").replace(".", ","),
            "semicolons between columns and decimal commas",
        ),
        (lambda text: text.replace(",", ";"), "semicolons between columns$"),
        (lambda text: text.replace(",", "\t"), "tabs between columns$"),
    ],
)
def test_separators_are_told(tmp_path, change, told):
    with pytest.warns(InputWarning, match=told):
        found = read(tmp_path, change(lines("288.5", "289.25")))
    assert found.value.tolist() == [288.5, 289.25]


def test_marks_and_encodings_of_other_editors(tmp_path):
    assert read(tmp_path, lines("288"), encoding="utf-8-sig").value.tolist() == [288]
    text = lines("15", header=HEADER + ",unit", more=",°C")
    with pytest.warns(InputWarning, match="Windows-1252"):
        assert read(tmp_path, text, encoding="cp1252").value.tolist() == pytest.approx([288.15])
    with pytest.raises(InputError, match="no text"):
        read(tmp_path, text, encoding="utf-16")


@pytest.mark.parametrize(
    "header", ["datetime,LAT,LON,parameter,obs,error", "Timestamp,lat_deg,long,var,value,std"]
)
def test_spellings_of_columns(tmp_path, header):
    assert read(tmp_path, lines("288", header=header)).value.tolist() == [288]


def test_stations_beyond_the_date_line(tmp_path):
    pacific = Grid(np.arange(50.0, 56.0), np.arange(175.0, 190.0), "sphere", "degree")
    text = lines("288", place="52,-175") + lines("287", place="52,178").split("\n")[1] + "\n"
    found = read(tmp_path, text.replace("00:00,52,178", "01:00,52,178"), grid=pacific)
    assert found.value.tolist() == [288, 287]


RAIN = (Variable("rain_rate", "mm/h", "rainfall_rate", 0.0),)


@pytest.mark.parametrize("trace", ["T", "trace", "Tr.", "<0.1", "< 0,05"])
def test_a_trace_of_rain_is_no_rain_and_told(tmp_path, trace):
    text = lines(f'"{trace}"', "1.5", variable="rain_rate")
    with pytest.warns(InputWarning, match="1 traces of rain are read as 0"):
        assert read(tmp_path, text, variables=RAIN).value.tolist() == [0, 1.5]
    with pytest.warns(InputWarning, match=r"1 of 2 rows left out: value: found"):
        assert read(tmp_path, lines(f'"{trace}"', "288")).value.tolist() == [288]


@pytest.mark.parametrize("wrong", ["288*", "288 K", '"1,013.2"', "inf", "0x120"])
def test_a_value_that_is_no_number_leaves_its_row_out(tmp_path, wrong):
    with pytest.warns(InputWarning, match=r"1 of 2 rows left out: value: found .* expected a number"):
        assert read(tmp_path, lines(wrong, "289")).value.tolist() == [289]


@pytest.mark.parametrize("mark", [",", ";"])
def test_the_line_of_spreadsheets_that_names_the_separator(tmp_path, mark):
    text = f"sep={mark}\n" + lines("288").replace(",", mark)
    assert read(tmp_path, text).value.tolist() == [288]


@pytest.mark.parametrize("time", ["202306011230", "20230601123000", "20230601T1230", "20230601 1230"])
def test_times_without_marks(tmp_path, time):
    text = lines("288").replace("2023-06-01T00:00", time)
    assert read(tmp_path, text).time.tolist() == [np.datetime64("2023-06-01T12:30", "ns").astype(int)]


@pytest.mark.parametrize("time", ["1685620800", "2023060112", "06/01/2023 12:00", "01.06.2023"])
def test_times_that_may_mean_several_moments_are_refused(tmp_path, time):
    with pytest.raises(InputError, match=r"time: found a text that is no ISO 8601 time"):
        read(tmp_path, lines("288").replace("2023-06-01T00:00", time))
