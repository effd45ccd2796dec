"""The public face of data assimilation does what the command line does, from files and from memory."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import tomocast as tc
from assimilation.observation.withheld import WithheldStream
from priors.runtime.errors import InputError, InputWarning
from tests.support.command_line import inside

PRIOR = "ns-vorticity-64"
SHORT = {"members": 2, "seed": 3, "settings": {"sampler": {"steps": 3}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("fields")
    inside("simulate", "system", "navier-stokes", "--steps", 3, "--seed", 7, "--out", path / "truth.nc")
    inside("observe", path / "truth.nc", "--fraction", 0.1, "--sigma", 0.1, "--out", path / "observed.nc")
    inside("observe", path / "truth.nc", "--fraction", 0.1, "--sigma", 0.1, "--out", path / "observed.csv")
    return path


@pytest.fixture(scope="module")
def prior():
    return tc.load_prior(PRIOR)


@pytest.fixture(scope="module")
def ensemble(folder, prior):
    return tc.assimilate(tc.read_observations(folder / "observed.nc"), prior, lag=1, **SHORT)


def test_it_is_the_command_lines_result(folder, ensemble):
    words = ["--prior", PRIOR, "--lag", 1, "--members", 2, "--seed", 3, "--steps", 3]
    inside("assimilate", folder / "observed.nc", *words, "--out", folder / "run")
    run = tc.read_ensemble(folder / "run")
    np.testing.assert_array_equal(run.members, ensemble.members)
    figures = tc.verify(ensemble, folder / "truth.nc")
    assert figures["rmse"] == tc.verify(folder / "run", tc.read_fields(folder / "truth.nc"))["rmse"]
    assert 0.1 < figures["rmse"] < 2  # the field's own deviation


def test_an_ensemble_tells_what_it_is_and_becomes_xarray(ensemble):
    assert "2 members, 3 times" in repr(ensemble)
    dataset = ensemble.to_xarray()
    assert isinstance(dataset, xr.Dataset)
    assert (dataset.sizes["member"], dataset.sizes["time"]) == (2, 3)
    again = tc.Ensemble.from_dataset(dataset)
    np.testing.assert_array_equal(again.members, ensemble.members)


def test_analyses_come_one_after_the_other(folder, prior, ensemble):
    some = tc.analyses(folder / "observed.nc", prior, lag=1, **SHORT)
    first = next(some)
    assert first.frame == 0
    np.testing.assert_array_equal(first.members, ensemble.members[0, :, 0])
    some.close()


def test_observations_from_memory_are_those_of_the_file(folder, prior, ensemble):
    with xr.open_dataset(folder / "observed.nc") as opened:
        dataset = opened.load()
    observations = tc.Observations(dataset)
    assert "vorticity" in repr(observations)
    held = tc.assimilate(observations, prior, lag=1, **SHORT)
    np.testing.assert_array_equal(held.members, ensemble.members)
    name = next(iter(dataset.data_vars))
    bare = dataset[[name]].astype(np.float64)
    error = float(bare[name].attrs.pop("sigma"))
    with pytest.raises(InputError, match="found no sigma"):
        tc.assimilate(bare, prior, **SHORT)
    given = tc.assimilate(tc.Observations(bare, sigma=error), prior, lag=1, **SHORT)
    np.testing.assert_array_equal(given.members, ensemble.members)


def test_a_table_is_observations_too(folder, prior):
    import pandas

    frame = pandas.read_csv(folder / "observed.csv", comment="#")
    table = tc.Observations(frame)
    assert f"table of {len(frame)}" in repr(table)
    held = tc.assimilate(table, prior, **SHORT)
    file = tc.assimilate(folder / "observed.csv", prior, **SHORT)
    np.testing.assert_allclose(held.members, file.members, atol=1e-4)
    with pytest.raises(InputError, match="expected also sigma"):
        tc.Observations(frame.drop(columns="sigma"))


def test_a_forecast_goes_on_from_an_ensemble(folder, prior, ensemble):
    following = tc.forecast(ensemble, prior, frames=2, **SHORT)
    assert following.members.shape == (1, 2, 2, 1, 64, 64)
    step = ensemble.times[1] - ensemble.times[0]
    assert following.times[0] == ensemble.times[-1] + step


def test_mistakes_are_told(folder, prior):
    with pytest.raises(InputError, match="does not exist"):
        tc.read_observations("none.nc")
    with pytest.raises(InputError, match="did you mean 'members'"):
        tc.assimilate(folder / "observed.nc", prior, member=2)
    with pytest.raises(InputError, match="expected xarray, pandas or a file"):
        tc.Observations(np.zeros(3))


def test_gross_errors_are_left_out_of_streams_in_memory_as_of_files(folder, prior):
    with xr.open_dataset(folder / "observed.nc") as opened:
        dataset = opened.load()
    name = next(str(key) for key in dataset.data_vars if "sigma" in dataset[key].attrs)
    seen = np.argwhere(np.isfinite(dataset[name].values))[0]
    dataset[name].values[tuple(seen)] = 1e4
    stream = tc.Observations(dataset).stream()
    with pytest.warns(InputWarning, match=r"1 of .* observations rejected as gross errors"):
        ensemble = tc.assimilate(stream, prior, **SHORT)
    assert np.abs(ensemble.members).max() < 100
    with pytest.raises(InputError, match=r"strict: .*1 of .* rejected as gross errors"):
        tc.assimilate(stream, prior, strict=True, **SHORT)
    kept = {**SHORT, "settings": {**SHORT["settings"], "gross_error": None}}
    # 1e4 is not of this world, and without the check the analyses show it.
    assert np.abs(tc.assimilate(stream, prior, force=True, **kept).members).max() > 100


def test_withheld_places_are_not_used_and_say_how_wrong_the_analyses_are(folder, prior):
    sparse = ("--fraction", 0.2, "--fixed", "--sigma", 0.1)
    inside("observe", folder / "truth.nc", *sparse, "--out", folder / "fixed.nc")
    words = ("--prior", PRIOR, "--members", 4, "--steps", 6, "--seed", 3, "--withhold", "25%")
    inside("assimilate", folder / "fixed.nc", *words, "--out", folder / "passive")
    figures = json.loads((folder / "passive" / "metrics.json").read_text())["withheld"]
    # 819 places in each of three frames; a binomial share has a deviation of 0.015.
    assert figures["count"] / (3 * 819) == pytest.approx(0.25, abs=0.06)
    assert figures["count"] % 3 == 0
    # Between the observations' own error (0.2) and the field's deviation (2).
    assert 0.2 < figures["rms"] < 1.5
    assert 0.4 < figures["consistency"] < 2.5
    stream = tc.Observations(folder / "fixed.nc").stream()
    used, passive = (WithheldStream(stream, 0.25, seed=3, withheld=each) for each in (False, True))
    numbers = torch.arange(64.0**2).reshape(1, 64, 64)
    places = [[part.at(0, index).operator(numbers) for index in (0, 2)] for part in (used, passive)]
    for first, last in places:
        # The same places at all times.
        assert torch.equal(first, last)
    assert not set(places[0][0].tolist()) & set(places[1][0].tolist())
    with pytest.raises(InputError, match="expected some of both"):
        tc.assimilate(stream, prior, withhold=1e-9, **SHORT)


def test_what_no_prior_can_know_is_an_error_unless_forced(folder, prior, ensemble):
    with xr.open_dataset(folder / "observed.nc") as opened:
        dataset = opened.load()
    name = next(iter(dataset.data_vars))

    def changed(values):
        spoilt = dataset.copy(deep=True)
        spoilt[name].values[...] = values(dataset[name].values)
        return tc.Observations(spoilt)

    missing = changed(lambda values: np.full_like(values, np.nan))
    with pytest.raises(InputError, match=r"found no value at any time.*force=True"):
        tc.assimilate(missing, prior, **SHORT)
    far = changed(lambda values: 1e4 * values)
    for call in (tc.assimilate, lambda *given, **more: next(tc.analyses(*given, **more))):
        with pytest.raises(InputError, match=r"deviations of prior.*force=True"):
            call(far, prior, gross_error=None, **SHORT)
    with pytest.raises(InputError, match=r"start: .* deviations of prior"):
        tc.forecast(replace(ensemble, members=1e4 * ensemble.members), prior, frames=1, **SHORT)
    infinite = replace(ensemble, members=np.where(ensemble.members > 1, np.float32(np.inf), ensemble.members))
    with pytest.raises(InputError, match=r"truth: .* values are infinite.*force=True"):
        tc.verify(ensemble, replace(infinite, members=infinite.members[:, :1]))
    with pytest.warns(InputWarning, match=r"truth: .* values are infinite"):
        figures = tc.verify(ensemble, replace(infinite, members=infinite.members[:, :1]), force=True)
    assert np.isfinite(figures["rmse"])
