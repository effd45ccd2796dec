"""What ``simulate system`` does, once its options are read."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from assimilation.io.archive import write_fields
from assimilation.io.store import check_path
from assimilation.systems import AnySystem
from assimilation.systems.base import simulate, steps
from priors.runtime.config import load, read_yaml
from priors.runtime.errors import InputError
from priors.runtime.files.permissions import allow_nonsense
from priors.runtime.progress import Progress
from priors.runtime.system.memory import MemoryPlan


class _Choice(BaseModel):
    """A system under the key that error messages name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: AnySystem


def system(
    name: str, *, size: int | None = None, layers: Sequence[Path] = (), overrides: Sequence[str] = ()
) -> AnySystem:
    """Return the system ``name``.

    Args:
        name: of the family.
        size: points along each axis, None for the system's own number.
        layers: YAML files of its fields.
        overrides: ``key=value`` texts for its other fields.

    Raises:
        InputError: there is no such system, a file is of another one, or a field is wrong.
    """
    trees = [read_yaml(path) for path in layers]
    for path, tree in zip(layers, trees, strict=True):
        if tree.get("name", name) != name:
            raise InputError(f"{path}: name: found '{tree['name']}', expected '{name}'")
    given: dict[str, Any] = {"name": name} if size is None else {"name": name, "size": size}
    return load(
        _Choice,
        [{"system": tree} for tree in (*trees, given)],
        [f"system.{text}" for text in overrides],
    ).system


def memory(system: AnySystem, *, trajectories: int, frames: int) -> MemoryPlan:
    """Return the memory a simulation needs."""
    height, width = system.grid.shape
    size = 4 * trajectories * frames * len(system.variables) * height * width
    return MemoryPlan({"trajectories": size, "compressed copy": size // 4})


def simulate_to_file(system: AnySystem, out: Path, *, trajectories: int, frames: int, seed: int) -> None:
    """Simulate and write an archive.

    Raises:
        InputError: the ending is unknown, the file cannot be written, or the system did not stay finite.
    """
    check_path(out)
    total = steps(system, trajectories=trajectories, frames=frames)
    with Progress(total, str(system.name)) as progress:
        fields = simulate(system, trajectories=trajectories, frames=frames, seed=seed, on_step=progress.step)
    if not (abs(fields.values) < float("inf")).all():
        raise InputError(f"{system.name}: the states did not stay finite; use a smaller time_step")
    if fields.values.size > 1 and fields.values.min() == fields.values.max():
        allow_nonsense(
            f"{system.name}: every value is {fields.values.flat[0]:g}, expected a system that moves"
        )
    write_fields(fields, out)
    size = " x ".join(map(str, fields.values.shape))
    print(f"{out}: {size} (trajectory, time, variable, y, x)", file=sys.stderr)
