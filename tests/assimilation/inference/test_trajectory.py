"""The rolling window: the past as cache or as given frames, members on their own, what reaches an analysis."""

import io

import numpy as np
import pytest
import torch

from assimilation.fields.grid import Grid, Variable
from assimilation.inference.assimilator import Analysis, Assimilator, EnsemblePlan, RunState
from assimilation.inference.problem import Problem
from assimilation.inference.schedule import InferenceSchedule
from assimilation.inference.trajectory import CachedPast, GivenPast, Stepper, TrajectoryModel
from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.point import Identity, Selection
from priors.codec import FieldCodec, VariableCodec
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.guidance import Forcing, Guidance, Mmps, Sda
from priors.diffusion.parametrisation import Velocity
from priors.diffusion.samplers.sampler import DDIM, Multistep
from priors.diffusion.schedule import Cosine
from priors.networks import SpaceTimeDiT
from priors.runtime.errors import InputError

SHAPE = (1, 8, 8)
CODEC = FieldCodec(
    variables=(VariableCodec(name="a", unit="K", offset=280.0, scale=5.0, low=200.0, high=350.0),)
)


def denoiser() -> NetworkDenoiser:
    """An untrained network whose temporal attention does something."""
    torch.manual_seed(0)
    network = SpaceTimeDiT(patch=2, stages=(), width=16, depth=2, head_width=16, features=16, reach=2).build()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return NetworkDenoiser(
        network.eval().requires_grad_(False), schedule=Cosine(), parametrisation=Velocity(), reduced=False
    )


class Stream(ObservationStream):
    """Random values at random points; frames in ``missing`` have none."""

    def __init__(self, frames: int, *, trajectories: int = 1, missing: tuple[int, ...] = (), moved: int = -1):
        self.frames, self.trajectories, self.missing, self.moved = frames, trajectories, missing, moved

    def at(self, trajectory: int, index: int) -> Observation | None:
        if index in self.missing:
            return None
        draw = torch.Generator().manual_seed(100 * trajectory + index)
        places = torch.randperm(64, generator=draw)[:9]
        values = 280 + 5 * torch.randn(9, generator=draw) + (5.0 if index == self.moved else 0.0)
        return Observation(values, torch.full((9,), 1.0), Selection(Identity(), places))


def assimilator(schedule: InferenceSchedule, guidance: Guidance | None = None, **options) -> Assimilator:
    stepper = Stepper(Multistep(), guidance or Mmps(iterations=1))
    return Assimilator(TrajectoryModel(denoiser(), **options), CODEC, schedule, stepper)


def free(frames: int, trajectories: int = 1, **options) -> Problem:
    """A problem without observations."""
    axis = np.arange(float(SHAPE[-1]))
    times = np.datetime64("2000-01-01", "ns") + np.arange(frames) * np.timedelta64(60, "s")
    return Problem(times, (Variable("a", "K"),), Grid(axis, axis, "plane", "km"), trajectories, **options)


def observed(frames: int, **options) -> Problem:
    stream = Stream(frames, **options)
    return free(frames, stream.trajectories, stream=stream, stream_index=list(range(frames)))


def run(
    machine: Assimilator, what: Problem, *, members: int = 2, chunk: int = 2, seed: int = 0
) -> np.ndarray:
    """Return (n, f, m, k, y, x)."""
    found: list[Analysis] = list(machine.run(what, EnsemblePlan(members, seed, chunk)))
    order = [(one.trajectory, one.frame) for one in found]
    assert order == [(n, k) for n in range(what.trajectories) for k in range(what.frames)]
    return np.stack([one.members for one in found]).reshape(what.trajectories, what.frames, members, *SHAPE)


SCHEDULES = [
    InferenceSchedule(steps=3, lag=0),
    InferenceSchedule(steps=4, lag=2),
    InferenceSchedule(steps=2, lag=1, overlap=1),
    InferenceSchedule(steps=3, lag=None),
    InferenceSchedule(steps=2, lag=None, longest=4),
]
every_schedule = pytest.mark.parametrize(
    "schedule", SCHEDULES, ids=lambda s: f"{s.lag}-{s.overlap}-{s.longest}"
)


@every_schedule
def test_the_cache_of_finished_frames_changes_nothing(schedule):
    machines = (assimilator(schedule), assimilator(schedule, cache=False))
    # Keys and values are the same sums in another order: float32, several hundred terms, of values about 300.
    np.testing.assert_allclose(*(run(one, observed(6)) for one in machines), rtol=1e-4, atol=2e-3)


@every_schedule
def test_a_member_depends_on_no_other_member_and_on_no_chunk(schedule):
    what, machine = observed(5, trajectories=2), assimilator(schedule)
    whole = run(machine, what, members=5, chunk=5)
    for members, chunk in ((5, 2), (3, 1), (2, 2)):
        part = run(machine, what, members=members, chunk=chunk)
        # Equal draws; batches of another shape round differently.
        np.testing.assert_allclose(part, whole[:, :, :members], rtol=1e-4, atol=2e-3)
    assert np.abs(whole[:, :, 0] - whole[:, :, 1]).max() > 0.1
    assert np.abs(run(machine, what, members=5, chunk=5, seed=1) - whole).max() > 0.1
    np.testing.assert_array_equal(run(machine, what, members=5, chunk=5), whole)


@pytest.mark.parametrize(
    ("schedule", "reached"),
    [
        (InferenceSchedule(steps=3, lag=0), range(4, 7)),
        (InferenceSchedule(steps=6, lag=2), range(2, 7)),
        (InferenceSchedule(steps=2, lag=0, overlap=2), range(4, 7)),
        (InferenceSchedule(steps=2, lag=1, overlap=1), range(3, 7)),
        (InferenceSchedule(steps=2, lag=None), range(7)),
    ],
    ids=["filter", "lag 2", "filter with overlap", "lag 1 with overlap", "reanalysis"],
)
def test_an_observation_reaches_the_analyses_of_at_most_lag_earlier_frames(schedule, reached):
    # Frame 4 of 7 is observed differently; the network's two layers of reach 2 carry it over the whole run.
    machine = assimilator(schedule)
    change = np.abs(run(machine, observed(7, moved=4)) - run(machine, observed(7)))[0].max(axis=(1, 2, 3, 4))
    assert (change[[k for k in range(7) if k not in reached]] == 0).all()
    assert (change[list(reached)] > 0).all()


@every_schedule
def test_frames_without_observations_are_forecast(schedule):
    machine = assimilator(schedule)
    whole, gap = run(machine, observed(6)), run(machine, observed(6, missing=(2, 3)))
    assert np.isfinite(gap).all()
    assert np.abs(gap - whole)[0, 2:4].max() > 0
    nothing = run(machine, observed(6, missing=tuple(range(6))))
    np.testing.assert_array_equal(nothing, run(machine, free(6)))


def test_context_conditions_members_and_trajectories_in_turn():
    machine = assimilator(InferenceSchedule(steps=3, lag=0))
    context = torch.randn(2, 3, 2, *SHAPE, generator=torch.Generator().manual_seed(3))
    whole = run(machine, free(2, 2, context=context), members=4)
    cold = run(machine, free(2, 2), members=4)
    assert np.abs(whole - cold).max(axis=(1, 2, 3, 4, 5)).min() > 0.01
    alone = run(machine, free(2, context=context[:1, :1]), members=1)
    np.testing.assert_allclose(alone[0, :, 0], whole[0, :, 0], rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("method", [Mmps(backprop=False), Sda(), Sda(backprop=False), Forcing()])
def test_every_guidance_runs_on_a_network(method):
    machine = assimilator(InferenceSchedule(steps=3, lag=1), method)
    with_it, without = run(machine, observed(4)), run(machine, free(4))
    assert np.isfinite(with_it).all()
    assert np.abs(with_it - without).max() > 0.01


@every_schedule
def test_a_run_continues_from_any_state_bit_by_bit(schedule):
    what, machine, plan = observed(6, trajectories=2), assimilator(schedule), EnsemblePlan(3, 0, 2)
    states: list[tuple[int, dict]] = []
    whole: list[Analysis] = []

    def keep(state: RunState) -> None:
        # Through a file, as a run does, and with the number of analyses that were out by then.
        buffer = io.BytesIO()
        torch.save(state.saved(), buffer)
        states.append((len(whole), torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)))

    for one in machine.run(what, plan, on_state=keep):
        whole.append(one)  # noqa: PERF402 (keep reads how many there are)
    for count, state in states[:: len(states) // 5]:
        again = list(machine.run(what, plan, state=state))
        # Nothing is left out: what was complete but not yet yielded comes again.
        assert len(again) >= len(whole) - count
        for one, other in zip(whole[::-1], again[::-1], strict=False):
            assert (one.trajectory, one.frame) == (other.trajectory, other.frame)
            np.testing.assert_array_equal(other.members, one.members)


def test_a_state_of_other_chunks_is_refused():
    machine, states = assimilator(InferenceSchedule(steps=2, lag=0)), []
    list(machine.run(observed(2), EnsemblePlan(3, 0, 2), on_state=states.append))
    with pytest.raises(InputError, match="chunks"):
        list(machine.run(observed(2), EnsemblePlan(3, 0, 3), state=states[0].saved()))


def test_a_state_that_is_not_finite_stops_the_run():
    class Broken(Stream):
        def at(self, trajectory, index):
            found = super().at(trajectory, index)
            return Observation(found.values * 1e30, found.variance * 1e-30, found.operator)

    what = free(2, stream=Broken(2), stream_index=[0, 1])
    with pytest.raises(InputError, match="not finite"):
        run(assimilator(InferenceSchedule(steps=3, lag=0)), what)


def test_the_past_is_what_the_prior_needs():
    network = denoiser()
    assert isinstance(TrajectoryModel(network).start(1, SHAPE).past, CachedPast)
    assert isinstance(TrajectoryModel(network, cache=False).start(1, SHAPE).past, GivenPast)
    frames = torch.randn(1, 5, *SHAPE, generator=torch.Generator().manual_seed(0))
    kept = GivenPast(network, longest=2).followed_by(frames[:, :3]).followed_by(frames[:, 3:])
    torch.testing.assert_close(kept.frames, frames[:, 3:])


def test_heun_and_ancestral_samplers_run_on_windows():
    for sampler in (DDIM(eta=1.0),):
        machine = Assimilator(
            TrajectoryModel(denoiser()), CODEC, InferenceSchedule(steps=4, lag=2), Stepper(sampler, Mmps())
        )
        assert np.isfinite(run(machine, observed(5))).all()
