"""The state of a diffusion reconstructor between two noise levels, and its file.

Everything a later level depends on is here, the generator included, so a run that was killed continues to the same
bits on the CPU. The file is written to a temporary name and renamed, so it is always whole.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.files import atomic

Volumes = Float[Tensor, "z y x"]


@dataclass(frozen=True)
class DiffusionState:
    """What one level hands to the next.

    Attributes:
        done: noise levels finished, over all stages.
        u: diffusion state in u-coordinates, at the noise level that comes next.
        x: current estimate in network units.
        duals: dual arrays of the coupling.
        generator: state of the random generator.
        history: figures of every finished level.
    """

    done: int
    u: Volumes
    x: Volumes
    duals: dict[str, Tensor]
    generator: Tensor
    history: list[dict[str, float]] = field(default_factory=list)


def fingerprint(settings: str, *arrays: Tensor) -> str:
    """Return a hash of the settings and the data of a run, so that a checkpoint is never continued with others."""
    digest = hashlib.sha256(settings.encode())
    for array in arrays:
        digest.update(repr(tuple(array.shape)).encode())
        digest.update(array.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_state(state: DiffusionState, path: Path, *, mark: str) -> None:
    """Write the state with its run's fingerprint, atomically."""
    with atomic(path) as temporary:
        torch.save({"mark": mark, **vars(state)}, temporary)


def load_state(path: Path, *, mark: str) -> DiffusionState:
    """Read a state.

    Raises:
        InputError: not a checkpoint, or one of other settings, data, seed or prior.
    """
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        found = content.pop("mark")
        state = DiffusionState(**content)
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint of this method ({type(error).__name__})") from error
    if found != mark:
        raise InputError(
            f"{path}: belongs to a run with other settings, data, seed or prior; expected the same ones"
        )
    return state
