"""What a user can get wrong between fields, observations, analyses and scores, through the real command line.

Every case is one clear line on standard error and exit status 2, and nothing half-written.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
import xarray

from assimilation.fields.fields import Fields, Grid, Variable
from assimilation.io.archive import write_fields
from assimilation.io.observations.files import write_observations
from assimilation.observation.instruments import Points
from assimilation.observation.observing import observe
from tests.support.mistakes import assert_refused, call

START = np.datetime64("2000-01-01", "ns")
PRIOR = "ns-vorticity-64"
Spoil = Callable[[Path], None]


def turbulence(*, size: int = 64, box: float = 2 * np.pi, frames: int = 4, name: str = "vorticity") -> Fields:
    """Fields the embedded turbulence prior could meet: smooth noise on its periodic box."""
    axis = box / size * np.arange(size)
    grid = Grid(axis, axis.copy(), "plane", "m", (True, True))
    y, x = np.meshgrid(2 * np.pi / box * axis, 2 * np.pi / box * axis, indexing="ij")
    values = np.stack([np.sin(x + 0.1 * f) * np.cos(2 * y) for f in range(frames)]).astype(np.float32)
    times = START + np.arange(frames) * np.timedelta64(500, "ms")
    return Fields(values[None, :, None], times.astype("datetime64[ns]"), (Variable(name, "s-1"),), grid)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fields, observations of them and a table that work."""
    folder = tmp_path_factory.mktemp("good")
    truth = turbulence()
    write_fields(truth, folder / "fields.nc")
    observed = observe(truth, Points(fraction=0.05), sigma="0.1", seed=0)
    for ending in ("nc", "csv"):
        write_observations(observed, folder / f"obs.{ending}")
    return folder


@pytest.fixture
def place(good: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    for file in good.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def dataset(name: str, change: Callable[[xarray.Dataset], xarray.Dataset]) -> Spoil:
    """Return a change of a NetCDF file."""

    def spoil(place: Path) -> None:
        with xarray.open_dataset(place / name, engine="h5netcdf", decode_times=False) as opened:
            data = opened.load()
        changed = change(data)
        for item in changed.variables.values():
            item.encoding = {}
        changed.to_netcdf(place / name, engine="h5netcdf")

    return spoil


def attribute(name: str, variable: str, key: str, value: object) -> Spoil:
    """Return a change of an attribute; None removes it."""

    def change(data: xarray.Dataset) -> xarray.Dataset:
        data[variable].attrs.pop(key, None)
        if value is not None:
            data[variable].attrs[key] = value
        return data

    return dataset(name, change)


def table(change: Callable[[pandas.DataFrame], pandas.DataFrame]) -> Spoil:
    """Return a change of the rows of the table; its first line stays."""

    def spoil(place: Path) -> None:
        path = place / "obs.csv"
        first = path.read_text().splitlines()[0]
        rows = change(pandas.read_csv(path, comment="#"))
        path.write_text(first + "\n" + rows.to_csv(index=False))

    return spoil


def cut(name: str, keep: int) -> Spoil:
    def spoil(place: Path) -> None:
        (place / name).write_bytes((place / name).read_bytes()[:keep])

    return spoil


def content(name: str, data: bytes) -> Spoil:
    def spoil(place: Path) -> None:
        (place / name).write_bytes(data)

    return spoil


def nothing(place: Path) -> None:
    """Leave everything as it is."""


def smaller(place: Path) -> None:
    write_fields(turbulence(size=32), place / "fields.nc")
    write_observations(
        observe(turbulence(size=32, box=np.pi), Points(), sigma="0.1", seed=0), place / "obs.nc"
    )


def other_variable(place: Path) -> None:
    observed = observe(turbulence(name="temperature"), Points(), sigma="0.1", seed=0)
    write_observations(observed, place / "obs.nc")


def unsorted(data: xarray.Dataset) -> xarray.Dataset:
    return data.isel(time=[1, 0, 2, 3])


OBSERVE = ["observe", "fields.nc", "--out", "new.nc"]
OBSERVE_CASES: dict[str, tuple[Spoil, list[str], str]] = {
    "no file": (nothing, ["observe", "none.nc", "--out", "new.nc"], "none.nc: does not exist"),
    "a folder of nothing": (nothing, ["observe", ".", "--out", "new.nc"], "folder without known files"),
    "no out": (nothing, ["observe", "fields.nc"], "--out"),
    "ending of out": (nothing, ["observe", "fields.nc", "--out", "new.txt"], "ends in .nc, .zarr, .csv"),
    "unknown operator": (nothing, [*OBSERVE, "--operator", "point"], "did you mean 'points'"),
    "fraction above one": (nothing, [*OBSERVE, "--fraction", "1.5"], "operator.fraction: found 1.5"),
    "fraction of zero": (nothing, [*OBSERVE, "--fraction", "0"], "operator.fraction: found 0"),
    "fraction of another operator": (
        nothing,
        [*OBSERVE, "--operator", "coarse", "--fraction", "0.1"],
        "operator.fraction: unknown key",
    ),
    "factor that does not tile": (nothing, [*OBSERVE, "--operator", "coarse", "--factor", "7"], "found 7"),
    "negative sigma": (nothing, [*OBSERVE, "--sigma", "-0.1"], "sigma: found '-0.1'"),
    "sigma in another unit": (nothing, [*OBSERVE, "--sigma", "0.1K"], "converts to 's-1'"),
    "sigma that is no number": (nothing, [*OBSERVE, "--sigma", "small"], "sigma: found 'small'"),
    "negative seed": (nothing, [*OBSERVE, "--seed", "-3"], "seed: found -3"),
    "unknown variable": (
        nothing,
        [*OBSERVE, "--variable", "vortex"],
        "found 'vortex', expected one of vorticity",
    ),
    "unknown channel": (
        nothing,
        [*OBSERVE, "--operator", "channels", "--channels", "vortcity"],
        "did you mean 'vorticity'",
    ),
    "no wind": (nothing, [*OBSERVE, "--operator", "wind-speed"], "eastward_wind"),
    "block averages in a table": (
        nothing,
        ["observe", "fields.nc", "--operator", "coarse", "--out", "new.csv"],
        "a table holds values of the state at points",
    ),
    "frames that are not there": (nothing, [*OBSERVE, "--frames", "2:9"], "frames: found '2:9'"),
    "no unit": (attribute("fields.nc", "vorticity", "units", None), OBSERVE, "no attribute units"),
    "unknown unit": (
        attribute("fields.nc", "vorticity", "units", "frogs"),
        [*OBSERVE, "--sigma", "0.1s-1"],
        "found unit 'frogs'",
    ),
    "a calendar of 360 days": (
        attribute("fields.nc", "time", "calendar", "360_day"),
        OBSERVE,
        "found the calendar 360_day",
    ),
    "unsorted times": (dataset("fields.nc", unsorted), OBSERVE, "time: "),
    "no horizontal dimension": (
        dataset("fields.nc", lambda data: data.isel(x=0)),
        OBSERVE,
        "expected time, latitude, longitude or time, y, x",
    ),
    "one dimension too many": (
        dataset("fields.nc", lambda data: data.expand_dims(band=2)),
        OBSERVE,
        "dimension band: found 2",
    ),
    "truncated NetCDF": (cut("fields.nc", 3000), OBSERVE, "damaged or truncated"),
    "truncated GRIB": (content("fields.nc", b"GRIB\x00\x10\x00\x01" + bytes(64)), OBSERVE, "truncated GRIB"),
    "a text file": (content("fields.nc", b"time, value\n"), OBSERVE, "unknown kind of file"),
}

ASSIMILATE = ["assimilate", "obs.nc", "--prior", PRIOR, "--out", "new.nc"]
FROM_TABLE = ["assimilate", "obs.csv", "--prior", PRIOR, "--out", "new.nc"]
ASSIMILATE_CASES: dict[str, tuple[Spoil, list[str], str]] = {
    "no observations": (
        nothing,
        ["assimilate", "no.nc", "--prior", PRIOR, "--out", "new.nc"],
        "no.nc: does not exist",
    ),
    "unknown prior": (nothing, [*ASSIMILATE[:3], "nobody", "--out", "new.nc"], "nobody"),
    "a prior of slices": (nothing, [*ASSIMILATE[:3], "ct-chest-256", "--out", "new.nc"], "prior of slices"),
    "a grid of another size": (smaller, ASSIMILATE, "obs.nc: "),
    "a variable the prior lacks": (
        other_variable,
        ASSIMILATE,
        "found 'temperature', expected one of vorticity",
    ),
    "a unit of something else": (
        attribute("obs.nc", "vorticity", "units", "K"),
        ASSIMILATE,
        "vorticity: found unit 'K'",
    ),
    "no sigma": (attribute("obs.nc", "vorticity", "sigma", None), ASSIMILATE, "vorticity: found no sigma"),
    "negative sigma": (attribute("obs.nc", "vorticity", "sigma", -0.1), ASSIMILATE, "sigma: found -0.1"),
    "unknown instrument": (
        dataset("obs.nc", lambda data: data.assign_attrs(observation_operator='{"name": "radio"}')),
        ASSIMILATE,
        "observation_operator: found",
    ),
    "truncated observations": (cut("obs.nc", 2000), ASSIMILATE, "damaged or truncated"),
    "an empty table": (table(lambda rows: rows.iloc[:0]), FROM_TABLE, "obs.csv: found no rows"),
    "an empty file": (content("obs.csv", b""), FROM_TABLE, "obs.csv: is empty"),
    "a table without sigma": (
        table(lambda rows: rows.drop(columns="sigma")),
        FROM_TABLE,
        "expected also sigma",
    ),
    "a sigma of zero": (table(lambda rows: rows.assign(sigma=0.0)), FROM_TABLE, "sigma: found 0 in row 1"),
    "an infinite value": (
        table(lambda rows: rows.assign(value=np.inf)),
        FROM_TABLE,
        "value: found 'inf', expected a number; all of",
    ),
    "a text for a value": (table(lambda rows: rows.assign(value="wet")), FROM_TABLE, "value: found 'wet'"),
    "all values missing": (table(lambda rows: rows.assign(value=np.nan)), FROM_TABLE, "every row is missing"),
    "duplicate rows": (
        table(lambda rows: pandas.concat([rows, rows[:2]])),
        FROM_TABLE,
        "found 2 duplicate rows",
    ),
    "an unknown variable": (table(lambda rows: rows.assign(variable="rain")), FROM_TABLE, "found 'rain'"),
    "outside the time range": (
        table(lambda rows: rows.assign(time=["2001-01-01T00:00:00", *rows["time"][1:]])),
        FROM_TABLE,
        "observations lie outside",
    ),
    "no time": (table(lambda rows: rows.assign(time="yesterday")), FROM_TABLE, "no ISO 8601 time"),
    "latitudes on a box": (
        table(lambda rows: rows.rename(columns={"y": "latitude", "x": "longitude"})),
        FROM_TABLE,
        "the grid has no projection",
    ),
    "a lag of minus one": (nothing, [*ASSIMILATE, "--lag", "-1"], "lag"),
    "no members": (nothing, [*ASSIMILATE, "--members", "0"], "members"),
    "unknown guidance": (nothing, [*ASSIMILATE, "--guidance", "magic"], "guidance.name: found 'magic'"),
}

OTHER_CASES: dict[str, tuple[Spoil, list[str], str]] = {
    "an unknown system": (nothing, ["simulate", "system", "ocean", "--out", "new.nc"], "found 'ocean'"),
    "no trajectories": (
        nothing,
        ["simulate", "system", "lorenz96", "--out", "new.nc", "--trajectories", "0"],
        "--trajectories",
    ),
    "a misspelt field of a system": (
        nothing,
        ["simulate", "system", "lorenz96", "forcin=8", "--out", "new.nc"],
        "did you mean 'forcing'",
    ),
    "an archive of another kind": (
        nothing,
        ["simulate", "system", "lorenz96", "--out", "new.txt"],
        ".nc or .zarr",
    ),
    "no truth": (nothing, ["score", "ensemble", "fields.nc", "none.nc"], "none.nc: does not exist"),
    "no analysis": (nothing, ["score", "ensemble", "none.nc", "fields.nc"], "none.nc: does not exist"),
    "a forecast from nothing": (
        nothing,
        ["forecast", "none.nc", "--prior", PRIOR, "--out", "new.nc"],
        "none.nc: does not exist",
    ),
    "no configuration": (
        nothing,
        ["prepare", "trajectories", "none.yaml", "--out", "new.nc"],
        "none.yaml: cannot be read",
    ),
    "a configuration without events": (
        content("some.yaml", b"spacing: 2\n"),
        ["prepare", "trajectories", "some.yaml", "--out", "new.nc"],
        "events: found nothing",
    ),
    "a split that is none": (
        content("some.yaml", b"events: [{path: fields.nc, split: test}]\n"),
        ["prepare", "trajectories", "some.yaml", "--out", "new.nc"],
        "split: found 'test'",
    ),
    "an event that is not there": (
        content("some.yaml", b"events: [{path: none.nc, split: train}]\n"),
        ["prepare", "trajectories", "some.yaml", "--out", "new.nc"],
        "none.nc: does not exist",
    ),
    "a spacing that does not divide": (
        content("some.yaml", b"spacing: 0.25\nevents: [{path: fields.nc, split: train}]\n"),
        ["prepare", "trajectories", "some.yaml", "--out", "new.nc"],
        "found spacing 0.0981",
    ),
}

CASES = {
    **{f"observe, {name}": case for name, case in OBSERVE_CASES.items()},
    **{f"assimilate, {name}": case for name, case in ASSIMILATE_CASES.items()},
    **OTHER_CASES,
}


@pytest.mark.parametrize("case", CASES)
def test_one_clear_line(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, words, told = CASES[case]
    spoil(place)
    monkeypatch.chdir(place)
    monkeypatch.delenv("TOMOCAST_DATA", raising=False)
    before = {item.name for item in place.iterdir()}
    assert_refused(call(words, monkeypatch, capfd), told=told, unwritten=place / "new.nc")
    assert {item.name for item in place.iterdir()} == before


def test_what_is_refused_spoilt_is_accepted_whole(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert call([*OBSERVE, "--fraction", "0.5"], monkeypatch, capfd).status == 0
    for name in ("obs.nc", "obs.csv"):
        words = ["assimilate", name, "--prior", PRIOR, "--out", "run", "--members", "2", "--plan"]
        assert call(words, monkeypatch, capfd).status == 0
