"""From files of fields to the prepared trajectories that training a prior reads.

Every event is cut in time, brought to one step and one spacing, and written as float32 (n, time, k, y, x), frame by
frame: an archive may be larger than the memory, and only the frames that are wanted are read.

    OUT/manifest.yaml      kind, step_s, spacing, spacing_unit, periodic, variables, events
    OUT/statistics.yaml    of each variable over the finite values of the training split only
    OUT/NAME.npy           one per event; NaN is missing
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from omegaconf import OmegaConf

from assimilation.fields.grid import Variable
from assimilation.fields.streams import FieldStream
from assimilation.prepare.events import opened_event
from assimilation.prepare.settings import EventSource, PrepareSettings
from priors.runtime.errors import InputError, warn
from priors.runtime.files.writing import atomic, atomic_folder
from priors.runtime.progress import Progress
from priors.runtime.system.cluster import ALONE, Workers

_QUANTILES = (0.001, 0.01, 0.5, 0.99, 0.999)
_SAMPLE = 2_000_000
BLOCK = 16
"""Frames that a worker of a cluster reads at a time."""
Block = tuple[tuple[int, int], ...]


def prepare(
    settings: PrepareSettings, out: Path, *, data: Path | None = None, work: Workers = ALONE
) -> list[dict[str, Any]]:
    """Write a prepared folder and return its events.

    Args:
        settings: what to prepare.
        out: folder to write, new or empty; it appears when it is whole.
        data: folder the paths are relative to, before the current folder.
        work: who reads the frames.

    Raises:
        InputError: a file cannot be read, lacks a variable, or differs in grid, step or variables from the
            first one; no event is for training; or ``out`` holds something.
    """
    if not any(event.split == "train" for event in settings.events):
        raise InputError("events: found none with split 'train', expected one at least")
    with atomic_folder(out) as folder:
        return _prepare(settings, folder, data=data, work=work)


def _prepare(
    settings: PrepareSettings, out: Path, *, data: Path | None, work: Workers
) -> list[dict[str, Any]]:
    """Write arrays, then statistics and the manifest."""
    shared: dict[str, Any] = {}
    listed, samples = [], []
    for number, event in enumerate(settings.events):
        with opened_event(event, settings, data=data) as stream:
            _agree(shared, described(stream), event.path)
            name = f"{number:02d}-{Path(event.path).stem}-{event.split}.npy"
            with atomic(out / name) as temporary:
                frames = _frames(stream, work, partial(_read_block, event, settings, data))
                values, missing = _write_frames(stream, temporary, event.path, frames)
                if event.split == "train":
                    samples.append(_finite_values(values))
                del values
        entry = {"file": name, "split": event.split, "source": Path(event.path).name}
        listed.append({**entry, "licence": event.licence, "share": event.share})
        if missing:
            warn(
                f"{event.path}: {missing} of {stream.trajectories * stream.times.size} frames have no value (times "
                "without a frame, or all missing); they are masked in training"
            )
    _write(out / "statistics.yaml", {"variables": _statistics(shared["variables"], samples)})
    _write(out / "manifest.yaml", {"kind": "trajectories", **shared, "events": listed})
    return listed


def _frames(
    stream: FieldStream, work: Workers, read: Callable[[Block], np.ndarray]
) -> Iterator[Float[np.ndarray, "k y x"]]:
    """Yield all frames in order, read here or by workers, who open the files themselves."""
    every = [(int(n), int(time)) for n, time in np.ndindex(stream.trajectories, stream.times.size)]
    if work.alone:
        for trajectory, time in every:
            yield stream.read(trajectory, time)[0]
        return
    blocks = [tuple(every[k : k + BLOCK]) for k in range(0, len(every), BLOCK)]
    for frames in work.ordered(read, blocks):
        yield from frames


def _read_block(
    event: EventSource, settings: PrepareSettings, data: Path | None, block: Block
) -> Float[np.ndarray, "n k y x"]:
    """Return some frames of an event, in a worker."""
    with opened_event(event, settings, data=data) as stream:
        return np.stack([np.asarray(stream.read(*index)[0], np.float32) for index in block])


def _write_frames(
    stream: FieldStream, path: Path, label: str, frames: Iterator[Float[np.ndarray, "k y x"]]
) -> tuple[np.ndarray, int]:
    """Write the frames of a stream one by one; return the array, which stays on disk, and how many have no value."""
    shape = (stream.trajectories, stream.times.size, len(stream.variables), *stream.grid.shape)
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    missing = 0
    with Progress(stream.trajectories * stream.times.size, f"prepare {Path(label).name}") as progress:
        for index, frame in zip(np.ndindex(shape[:2]), frames, strict=True):
            values[index] = frame
            missing += not np.isfinite(frame).any()
            progress.step()
    values.flush()
    return values, missing


def described(fields: FieldStream) -> dict[str, Any]:
    """Return what all events share, as the manifest says it.

    Raises:
        InputError: a single frame, which has no step.
    """
    if fields.times.size < 2:
        raise InputError("time: found one frame, expected a trajectory of two at least")
    dy, dx = (float(f"{step:.6g}") for step in fields.grid.spacing)
    return {
        "step_s": float((fields.times[1] - fields.times[0]) / np.timedelta64(1, "s")),
        # Cells called 1 km may be 999.6 m wide; the archive says what its events agree on.
        "spacing": dy if dy == dx else [dy, dx],
        "spacing_unit": fields.grid.unit,
        "periodic": list(fields.grid.periodic),
        "variables": [_variable(variable) for variable in fields.variables],
    }


def _variable(variable: Variable) -> dict[str, Any]:
    return {"name": variable.name, "unit": variable.unit, "standard_name": variable.standard_name}


def _agree(shared: dict[str, Any], stated: dict[str, Any], source: str) -> None:
    """Take the first event's description, and compare the later ones with it."""
    if not shared:
        shared.update(stated)
    for key, value in stated.items():
        same = np.allclose(value, shared[key], rtol=0.02) if key == "spacing" else value == shared[key]
        if not same:
            raise InputError(f"{source}: {key}: found {value}, expected {shared[key]} as in the first event")


def _finite_values(values: np.ndarray) -> list[np.ndarray]:
    """Return finite values of each variable, thinned evenly where there are very many."""
    trajectories, frames, variables = values.shape[:3]
    # Every so many pixels of every so many frames: what lies on disk is not read as a whole.
    step = max(1, trajectories * frames * int(np.prod(values.shape[3:])) // _SAMPLE)
    apart = min(trajectories * frames, max(1, round(step**0.5)))
    pixels = max(1, step // apart)
    samples: list[list[np.ndarray]] = [[] for _ in range(variables)]
    for index in range(0, trajectories * frames, apart):
        frame = np.asarray(values[index // frames, index % frames]).reshape(variables, -1)
        for k, flat in enumerate(frame[:, ::pixels]):
            samples[k].append(flat[np.isfinite(flat)])
    return [np.concatenate(own) for own in samples]


def _statistics(variables: list[dict[str, Any]], samples: list[list[np.ndarray]]) -> list[dict[str, Any]]:
    statistics = []
    for k, variable in enumerate(variables):
        values = np.concatenate([event[k] for event in samples]).astype(np.float64)
        if values.size == 0:
            raise InputError(
                f"{variable['name']}: found no finite value in the training split, expected some"
            )
        statistics.append(
            {
                "name": variable["name"],
                "unit": variable["unit"],
                "mean": float(values.mean()),
                "standard_deviation": float(values.std()),
                "minimum": float(values.min()),
                "maximum": float(values.max()),
                "quantiles": {str(q): float(np.quantile(values, q)) for q in _QUANTILES},
            }
        )
    return statistics


def _write(path: Path, tree: dict[str, Any]) -> None:
    with atomic(path) as temporary:
        OmegaConf.save(OmegaConf.create(tree), temporary)
