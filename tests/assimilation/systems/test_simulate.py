"""Every system: seeded, finite, the same however many are asked for; and the verb that writes them."""

import numpy as np
import pytest
import torch
import yaml

from assimilation.io.archive import read_fields
from assimilation.run import simulate as jobs
from assimilation.systems import Lorenz96, NavierStokes
from assimilation.systems.base import BATCH, generator, normal, simulate, steps
from priors.runtime.errors import InputError
from tests.support.assimilation.small_systems import small_systems
from tests.support.command_line import inside, mistake


@pytest.mark.parametrize("system", small_systems(), ids=lambda system: system.name)
class TestSystem:
    def test_a_trajectory_is_the_same_however_many_are_asked_for(self, system):
        one, many = (simulate(system, trajectories=n, frames=2, seed=4) for n in (2, 3))
        scale = np.abs(one.values).max()
        # A chaotic system amplifies the rounding of differently batched transforms through its spin-up; the
        # short frames of this test keep that below one percent.
        assert np.abs(one.values - many.values[:2]).max() < 0.01 * scale
        assert np.abs(many.values[0] - many.values[2]).max() > 0.1 * scale

    def test_the_seed_decides(self, system):
        one, same, other = (simulate(system, trajectories=1, frames=2, seed=s) for s in (1, 1, 2))
        assert np.array_equal(one.values, same.values)
        assert not np.allclose(one.values, other.values)

    def test_frames_follow_by_the_step(self, system):
        fields = simulate(system, trajectories=1, frames=3, seed=2)
        assert fields.values.shape == (1, 3, len(system.variables), *system.grid.shape)
        assert np.isfinite(fields.values).all()
        gaps = np.diff(fields.times) / np.timedelta64(1, "s")
        assert gaps == pytest.approx(system.frame_s)

    def test_steps_are_counted(self, system):
        told = []
        simulate(system, trajectories=BATCH + 1, frames=2, seed=0, on_step=lambda: told.append(1))
        assert len(told) == steps(system, trajectories=BATCH + 1, frames=2)

    def test_the_step_takes_a_batch_of_members(self, system):
        draws = torch.Generator().manual_seed(0)
        members = system.start(3, draws, dtype=torch.float64)
        after = system.step(members, draws)
        assert after.shape == members.shape
        assert after.dtype == torch.float64
        assert members.data_ptr() != after.data_ptr()

    def test_the_step_leaves_its_argument_alone(self, system):
        members = system.start(2, torch.Generator().manual_seed(0))
        held = members.clone()
        system.step(members, torch.Generator().manual_seed(0))
        assert torch.equal(members, held)


def test_every_state_has_draws_of_its_own():
    alone = normal([generator(3, 1)], 1, (4,), dtype=torch.float64)
    pair = normal([generator(3, 0), generator(3, 1)], 2, (4,), dtype=torch.float64)
    assert torch.equal(pair[1], alone[0])
    assert not torch.allclose(pair[0], pair[1])


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_the_verb_writes_an_archive(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    arguments = (
        "simulate",
        "system",
        "lorenz96",
        "frame=0.1",
        "--trajectories",
        3,
        "--steps",
        4,
        "--seed",
        7,
    )
    done = inside(*arguments, "--grid", 12, "--out", path)
    assert "3 x 4 x 1 x 1 x 12" in done.stderr
    expected = simulate(Lorenz96(size=12, frame=0.1), trajectories=3, frames=4, seed=7)
    found = read_fields(path)
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.times, expected.times)
    assert found.attributes["seed"] == "7"


def test_the_settings_printed_make_the_system_again():
    printed = inside("simulate", "system", "navier-stokes", "viscosity=1e-3", "--print-config").stdout
    assert NavierStokes.model_validate(yaml.safe_load(printed)) == NavierStokes(viscosity=1e-3)
    assert "total" in inside("simulate", "system", "kolmogorov", "--plan").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("navier-stoke",), "did you mean 'navier-stokes'"),
        (("navier-stokes", "viscosity=-1"), "viscosity: found -1, expected greater than 0"),
        (("lorenz96", "forcin=8"), "did you mean 'forcing'"),
        (("navier-stokes", "--grid", 7), "size: found 7"),
        (("lorenz96", "--trajectories", 0), "trajectories"),
        (("lorenz96", "--steps", -1), "steps"),
        (("lorenz96", "--out", "a.grib"), "ends in .nc or .zarr"),
        (("lorenz96",), "--out"),
        (("navier-stokes", "--trajectories", 10**9, "--out", "a.nc"), "memory"),
        (("kolmogorov", "frame=30", "time_step=5", "--grid", 32, "--out", "a.nc"), "did not stay finite"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    assert told in mistake("simulate", "system", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_overrides_reach_the_system():
    assert jobs.system("navier-stokes", size=128, overrides=["frame=1"]) == NavierStokes(size=128, frame=1.0)
    with pytest.raises(InputError, match="key=value"):
        jobs.system("lorenz96", overrides=["forcing"])
