r"""Memory and time of a run, before it starts.

graph of a chunk = members at once * frames in flight * activations of one frame's backward pass
time             = seconds per frame and member, tried on the first steps, * all that will be computed
"""

import time
from dataclasses import replace
from itertools import islice

import torch

from assimilation.inference.assimilator import Assimilator, EnsemblePlan, TrajectoryRun
from assimilation.inference.nowcast.cascade import Cascade
from assimilation.inference.nowcast.nowcaster import Nowcaster
from assimilation.inference.problem import Problem
from priors.networks import SpaceTimeTransformer
from priors.runtime.system.memory import MemoryPlan, available_bytes
from priors.runtime.system.peak import resident_bytes

# Bytes of activations per pixel and channel of one frame in flight, measured: see `graph_bytes`.
BYTES_PER_PIXEL_CHANNEL = 60
SMALLEST_GRAPH = 1 << 20
# Libraries that only writing and reporting load, and what allocators keep: see benchmarks/memory/plans.py.
LOADED_LATER = 80 << 20
LARGEST_CHUNK = 16
SHARE = 0.4
TRIED_ROWS = 2


def graph_bytes(assimilator: Assimilator, problem: Problem) -> int:
    """Return the memory of a guided step per member: activations of all frames in flight."""
    frames = assimilator.schedule.largest(problem.frames)
    pixels = problem.shape[-2] * problem.shape[-1]
    network = getattr(assimilator.model.denoiser, "network", None)
    if not isinstance(network, SpaceTimeTransformer):
        return SMALLEST_GRAPH + 400 * pixels * problem.shape[0] * frames
    card = network.settings
    # Channels at full resolution that all stages together amount to.
    cells = (
        sum(channels * 2 / (card.patch * 2**depth) ** 2 for depth, channels in enumerate(card.stages))
        + card.width * card.depth / card.stride**2
    )
    return SMALLEST_GRAPH + int(BYTES_PER_PIXEL_CHANNEL * pixels * cells * frames)


def ensemble_plan(
    assimilator: Assimilator, problem: Problem, *, members: int, seed: int, chunk: int | None = None
) -> EnsemblePlan:
    """Return members and how many of them to compute at once: as many as fit a share of the free memory."""
    if chunk is None:
        fitting = int(SHARE * available_bytes() // graph_bytes(assimilator, problem))
        chunk = max(1, min(LARGEST_CHUNK, fitting))
    return EnsemblePlan(members, seed, min(chunk, members))


def memory_plan(assimilator: Assimilator, problem: Problem, ensemble: EnsemblePlan) -> MemoryPlan:
    """Return the memory of a run by purpose, with what this process holds already."""
    state = 4 * problem.shape[0] * problem.shape[1] * problem.shape[2]
    frames = assimilator.schedule.largest(problem.frames)
    weights = sum(4 * weight.numel() for weight in assimilator.model.denoiser.parameters())
    reach = 8
    # A run with few frames never fills the past that the network sees.
    known = 0 if problem.context is None else problem.context.shape[2]
    network = getattr(assimilator.model.denoiser, "network", None)
    cached = 0
    if isinstance(network, SpaceTimeTransformer):
        card, reach = network.settings, network.settings.reach
        numbers = sum(2 * c / (card.patch * 2**depth) ** 2 for depth, c in enumerate(card.stages))
        numbers += card.width * card.depth / card.stride**2
        per_frame = 2 * 4 * numbers * problem.shape[1] * problem.shape[2]
        cached = int(per_frame * min(reach, known + problem.frames))
    bands = 0
    if isinstance(assimilator, Nowcaster):
        # Two anomalies and the noise of every band, double precision.
        count = len(Cascade(problem.grid.shape).wavelengths)
        bands = 8 * count * (2 * ensemble.members + 4) * problem.shape[1] * problem.shape[2]
    return MemoryPlan(
        {
            "bands of wavelength": bands,
            "prior weights": weights,
            "frames in flight": 2 * ensemble.members * frames * state,
            # The window after a step stands beside the one before it while a chunk advances.
            "finished frames": (ensemble.members + ensemble.chunk) * max(cached, reach * state),
            "network graph of one chunk": ensemble.chunk * graph_bytes(assimilator, problem),
            "one analysis of all trajectories": problem.trajectories * ensemble.members * state,
        },
        program=max(0, resident_bytes() - weights) + LOADED_LATER,
    )


def rehearse(assimilator: Assimilator, problem: Problem, ensemble: EnsemblePlan) -> float:
    """Return the seconds a run will take, from a few steps of one chunk."""
    if isinstance(assimilator, Nowcaster):
        return _rehearse_nowcast(assimilator, problem, ensemble)
    run = TrajectoryRun(assimilator, problem, ensemble, 0)
    members, state = ensemble.chunks()[0], run.start()
    rows = assimilator.schedule.rows(problem.frames)
    seconds, computed = 0.0, 0
    for number, row in islice(enumerate(rows), TRIED_ROWS + 1):
        begin = time.perf_counter()
        window = run.advance(replace(state, row=number), row, members).windows[0]
        state = replace(state, windows=(window, *state.windows[1:]))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        # The first step carries the start-up.
        if number > 0 or assimilator.schedule.count(problem.frames) == 1:
            seconds += time.perf_counter() - begin
            computed += len(row.before) * len(members)
    total = assimilator.schedule.evaluations(problem.frames) * ensemble.members * problem.trajectories
    return seconds / max(1, computed) * total


def _rehearse_nowcast(nowcaster: Nowcaster, problem: Problem, ensemble: EnsemblePlan) -> float:
    """Return the seconds of a nowcast, from its first frames: all take as long."""
    frames = min(TRIED_ROWS, problem.frames)
    begin = time.perf_counter()
    for _ in islice(nowcaster.run(problem, ensemble), frames):
        pass
    return (time.perf_counter() - begin) / frames * problem.frames * problem.trajectories
