r"""Memory and time of a run, before it starts.

graph of a chunk = members at once * frames in flight * activations of one frame's backward pass
time             = seconds per frame and member, tried on the first steps, * all that will be computed
"""

import time
from itertools import islice

import torch

from assimilation.inference.assimilator import Assimilator, Ensemble, Job, Task
from priors.networks import SpaceTimeTransformer
from priors.runtime.memory import MemoryPlan, available_bytes

# Bytes of activations per pixel and channel of one frame in flight, measured: see `graph_bytes`.
BYTES_PER_PIXEL_CHANNEL = 60
SMALLEST_GRAPH = 1 << 20
LARGEST_CHUNK = 16
SHARE = 0.4
TRIED_ROWS = 2


def graph_bytes(assimilator: Assimilator, task: Task) -> int:
    """Return the memory of a guided step per member: activations of all frames in flight."""
    frames = assimilator.schedule.largest(task.frames)
    pixels = task.shape[-2] * task.shape[-1]
    network = getattr(assimilator.model.denoiser, "network", None)
    if not isinstance(network, SpaceTimeTransformer):
        return SMALLEST_GRAPH + 400 * pixels * task.shape[0] * frames
    card = network.settings
    # Channels at full resolution that all stages together amount to.
    cells = (
        sum(channels * 2 / (card.patch * 2**depth) ** 2 for depth, channels in enumerate(card.stages))
        + card.width * card.depth / card.stride**2
    )
    return SMALLEST_GRAPH + int(BYTES_PER_PIXEL_CHANNEL * pixels * cells * frames)


def chunk_for(assimilator: Assimilator, task: Task, members: int) -> int:
    """Return the members to compute at once: as many as fit a share of the free memory."""
    fitting = int(SHARE * available_bytes() // graph_bytes(assimilator, task))
    return max(1, min(LARGEST_CHUNK, members, fitting))


def memory_plan(assimilator: Assimilator, task: Task, ensemble: Ensemble) -> MemoryPlan:
    """Return the memory of a run, by purpose."""
    state = 4 * task.shape[0] * task.shape[1] * task.shape[2]
    frames = assimilator.schedule.largest(task.frames)
    weights = sum(4 * weight.numel() for weight in assimilator.model.denoiser.parameters())
    reach = 8
    network = getattr(assimilator.model.denoiser, "network", None)
    cached = 0
    if isinstance(network, SpaceTimeTransformer):
        card, reach = network.settings, network.settings.reach
        places = sum(2 * c / (card.patch * 2**depth) ** 2 for depth, c in enumerate(card.stages))
        places += card.width * card.depth / card.stride**2
        cached = int(2 * 4 * reach * places * task.shape[1] * task.shape[2])
    return MemoryPlan(
        {
            "prior weights": weights,
            "frames in flight": 2 * ensemble.members * frames * state,
            "finished frames": ensemble.members * max(cached, reach * state),
            "network graph of one chunk": ensemble.chunk * graph_bytes(assimilator, task),
            "one analysis of all trajectories": task.trajectories * ensemble.members * state,
        }
    )


def rehearse(assimilator: Assimilator, task: Task, ensemble: Ensemble) -> float:
    """Return the seconds a run will take, from a few steps of one chunk."""
    job = Job(assimilator, task, ensemble, 0)
    members = ensemble.chunks()[0]
    window = job.start()[0]
    seconds, computed = 0.0, 0
    for number, row in islice(enumerate(assimilator.schedule.rows(task.frames)), TRIED_ROWS + 1):
        begin = time.perf_counter()
        window, _ = job.advance(window, members, row, number)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        # The first step carries the start-up.
        if number > 0 or assimilator.schedule.count(task.frames) == 1:
            seconds += time.perf_counter() - begin
            computed += len(row.before) * len(members)
    total = assimilator.schedule.evaluations(task.frames) * ensemble.members * task.trajectories
    return seconds / max(1, computed) * total
