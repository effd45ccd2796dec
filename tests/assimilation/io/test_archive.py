"""Fields survive files: values, times, variables, grid and attributes, in both formats and in any order."""

import shutil

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.io.archive import (
    EnsembleWriter,
    analysis_path,
    read_ensemble,
    read_fields,
    write_ensemble,
    write_fields,
)
from priors.runtime.errors import InputError

START = np.datetime64("2000-01-01T00:00:00", "ns")


def plane(ny: int = 3, nx: int = 4) -> Grid:
    return Grid(np.arange(ny) * 0.5, np.arange(nx) * 2.0, "plane", "km", (False, True))


def sphere(ny: int = 3, nx: int = 4) -> Grid:
    return Grid(50 + np.arange(ny) * 0.25, -8 + np.arange(nx) * 0.25, "sphere", "degree")


def some_fields(seed: int, *, n: int, time: int, k: int, grid: Grid, step_ns: int = 10**9) -> Fields:
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(n, time, k, *grid.shape)).astype(np.float32)
    values[draw.random(values.shape) < 0.1] = np.nan
    variables = tuple(
        Variable(f"v{i}", "K", "air_temperature" if i else "", 0.0 if i else None) for i in range(k)
    )
    times = START + np.arange(time) * np.timedelta64(step_ns, "ns")
    return Fields(values, times, variables, grid, {"title": "a test"})


def assert_same(a: Fields | Ensemble, b: Fields | Ensemble) -> None:
    one, two = (item.values if isinstance(item, Fields) else item.members for item in (a, b))
    assert one.dtype == two.dtype == np.float32
    assert np.array_equal(one, two, equal_nan=True)
    assert np.array_equal(a.times, b.times)
    assert a.variables == b.variables
    assert np.array_equal(a.grid.y, b.grid.y)
    assert np.array_equal(a.grid.x, b.grid.x)
    assert (a.grid.kind, a.grid.unit, a.grid.periodic) == (b.grid.kind, b.grid.unit, b.grid.periodic)
    assert set(a.attributes.items()) <= set(b.attributes.items())


@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 3),
    time=st.integers(1, 4),
    k=st.integers(1, 2),
    round_earth=st.booleans(),
    ending=st.sampled_from(["nc", "zarr"]),
    step_ns=st.sampled_from([10**9, 2 * 10**8, 250_000, 21_600 * 10**9]),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fields_come_back(tmp_path, seed, n, time, k, round_earth, ending, step_ns):
    grid = sphere() if round_earth else plane()
    fields = some_fields(seed, n=n, time=time, k=k, grid=grid, step_ns=step_ns)
    path = tmp_path / f"fields.{ending}"
    write_fields(fields, path)
    assert_same(fields, read_fields(path))
    assert sorted(item.name for item in tmp_path.iterdir()) == [path.name]
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("ending", ["nc", "zarr"])
@pytest.mark.parametrize("n", [1, 2])
def test_an_ensemble_comes_back(tmp_path, ending, n):
    one = some_fields(1, n=n * 5, time=3, k=2, grid=sphere())
    members = one.values.reshape(n, 5, *one.values.shape[1:])
    ensemble = Ensemble(members, one.times, one.variables, one.grid, {"lag": "3"})
    path = tmp_path / f"analysis.{ending}"
    write_ensemble(ensemble, path)
    assert_same(ensemble, read_ensemble(path))
    assert_same(ensemble, read_ensemble(tmp_path))
    with pytest.raises(InputError, match=r"dimension member \(5\)"):
        read_fields(path)


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_a_killed_run_continues_where_it_stopped(tmp_path, ending):
    one = some_fields(2, n=4, time=5, k=1, grid=plane())
    members, path = one.values[None], tmp_path / f"analysis.{ending}"

    def writer(resume):
        return EnsembleWriter(path, variables=one.variables, grid=one.grid, resume=resume)

    def run_until_it_is_killed():
        with writer(False) as first:
            for place in range(3):
                first.append(one.times[place], members[:, :, place])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_until_it_is_killed()
    assert not path.exists()
    with writer(True) as second:
        assert np.array_equal(second.done(), one.times[:3])
        assert np.array_equal(second.last(), members[0, :, 2], equal_nan=True)
        with pytest.raises(InputError, match="expected a later one"):
            second.append(one.times[1] + np.timedelta64(1, "ms"), members[:, :, 1])
        second.append(one.times[2], members[:, :, 2])
        for place in (3, 4):
            second.append(one.times[place], members[:, :, place])
    assert_same(Ensemble(members, one.times, one.variables, one.grid), read_ensemble(path))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    fresh = writer(False)
    assert fresh.done().size == 0


def test_trajectories_can_be_written_one_after_the_other(tmp_path):
    one = some_fields(8, n=6, time=3, k=1, grid=plane())
    members, path = one.values.reshape(2, 3, *one.values.shape[1:]), tmp_path / "a.nc"
    writer = EnsembleWriter(path, variables=one.variables, grid=one.grid, trajectories=2)
    for trajectory in (0, 1):
        with pytest.raises(InputError, match=r"none|3, "):
            writer.finish()
        for place, time in enumerate(one.times):
            writer.append_one(time, members[trajectory, :, place], trajectory=trajectory)
            if trajectory and place < 2:
                with pytest.raises(InputError, match=f"found 3, {place + 1} analysis times"):
                    writer.finish()
        if not trajectory:
            writer.append_one(one.times[0], members[1, :, 0], trajectory=1)
    writer.finish()
    assert_same(Ensemble(members, one.times, one.variables, one.grid), read_ensemble(path))


def test_an_archive_is_replaced_whole(tmp_path):
    for ending in ("nc", "zarr"):
        path = tmp_path / f"a.{ending}"
        write_fields(some_fields(3, n=1, time=4, k=2, grid=plane()), path)
        second = some_fields(4, n=1, time=2, k=1, grid=sphere())
        write_fields(second, path)
        assert_same(second, read_fields(path))


def test_files_follow_the_conventions(tmp_path):
    write_fields(some_fields(5, n=2, time=2, k=1, grid=sphere()), tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as dataset:
        assert dataset["v0"].dims == ("trajectory", "time", "latitude", "longitude")
        assert dataset.attrs["Conventions"] == "CF-1.11"
        assert dataset.attrs["source"].startswith("tomocast")
        assert dataset["latitude"].attrs["units"] == "degrees_north"
        assert dataset["time"].attrs["standard_name"] == "time"
        assert dataset["v0"].attrs["units"] == "K"


def test_mean_and_spread_are_over_the_members():
    one = some_fields(6, n=6, time=2, k=1, grid=plane())
    ensemble = Ensemble(one.values[None], one.times, one.variables, one.grid)
    expected = np.std(one.values.astype(float), axis=0, ddof=1)
    np.testing.assert_allclose(ensemble.spread().values[0], expected, rtol=1e-6)
    np.testing.assert_allclose(ensemble.mean().values[0], one.values.mean(0), rtol=1e-5, atol=1e-6)
    single = Ensemble(one.values[None, :1], one.times, one.variables, one.grid)
    assert np.nanmax(single.spread().values) == 0


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder / "absent.nc", "does not exist"),
        (
            lambda folder: (folder / "a.nc").write_bytes(b"\x89HDF\r\n\x1a\nrubbish") and folder / "a.nc",
            "readable",
        ),
        (lambda folder: (folder / "b.nc").write_text("not a file") and folder / "b.nc", "not readable"),
        (lambda folder: (folder / "c.zarr").mkdir() or folder / "c.zarr", "not readable"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_line(tmp_path, make, told):
    with pytest.raises(InputError, match=told) as refused:
        read_fields(make(tmp_path))
    assert "\n" not in str(refused.value)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"ends in .nc or .zarr"):
        write_fields(some_fields(7, n=1, time=1, k=1, grid=plane()), tmp_path / "a.grib")


def test_a_run_without_an_analysis_did_not_finish(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(InputError, match="did not finish"):
        analysis_path(tmp_path)
