r"""An average of any length from snapshots of two, after training: nothing about it has to be chosen before.

A power average with exponent g at step T weighs step t by p(t) = (g + 1) t^g / T^(g + 1) up to T. The one that is asked
for is approximated by the sum of the snapshots whose profile is nearest in the mean square,

    min_x |p - sum_i x_i p_i|^2,    <p_a, p_b> = (g_a + 1)(g_b + 1) min(T_a, T_b)^(g_a + g_b + 1)
                                                / (T_a^(g_a + 1) T_b^(g_b + 1) (g_a + g_b + 1))

Source: Karras et al. 2024, EDM2
(arXiv 2312.02696, section 3.2 and appendix C).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.card import Prior, denoiser_of, file_sha256, load_prior, read_card, self_test_errors
from priors.card.weights import write_weights
from priors.runtime.config import to_yaml
from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic, atomic_folder
from priors.training.engine.average import exponent

SNAPSHOTS = "snapshots"
WORST = 0.1
"""Relative distance of a profile from the one asked for above which the snapshots do not reach it."""
_NAME = re.compile(r"(\d+)-([0-9.]+)\.pt")
Profile = tuple[int, float]
"""Step at which an average was kept, and its exponent."""


def snapshot_name(step: int, length: float) -> str:
    """Return the name of the file that holds an average of a length at a step."""
    return f"{step:08d}-{length:g}.pt"


def inner(a: Profile, b: Profile) -> float:
    """Return the inner product of two profiles."""
    (t_a, g_a), (t_b, g_b) = (a, b) if a[0] <= b[0] else (b, a)
    # p_b reaches further: up to t_a it is (t_a / t_b)^(g_b + 1) of a profile that ends there.
    return float((g_a + 1) * (g_b + 1) / (g_a + g_b + 1) / t_a * (t_a / t_b) ** (g_b + 1))


def combination(known: Sequence[Profile], wanted: Profile) -> tuple[Float[np.ndarray, "n"], float]:
    """Return the weights of the snapshots, and the relative distance of their profile from the wanted one."""
    matrix = np.array([[inner(a, b) for b in known] for a in known])
    right = np.array([inner(a, wanted) for a in known])
    # Snapshots close to each other have nearly the same profile: the smallest weights that do are taken.
    weights = np.linalg.lstsq(matrix, right, rcond=1e-12)[0]
    square = inner(wanted, wanted)
    distance = max(0.0, square - 2 * weights @ right + weights @ matrix @ weights)
    return weights, float(np.sqrt(distance / square))


def snapshots_of(run: Path) -> list[tuple[Path, Profile]]:
    """Return the snapshots of a run.

    Raises:
        InputError: it kept none.
    """
    found = [
        (path, (int(match[1]), exponent(float(match[2]))))
        for path in sorted((run / SNAPSHOTS).glob("*.pt"))
        if (match := _NAME.fullmatch(path.name))
    ]
    if len(found) < 2:
        raise InputError(
            f"{run}: holds {len(found)} snapshots of averages, expected some; train with average.snapshot_every"
        )
    return found


def averaged_state(run: Path, length: float) -> tuple[dict[str, Tensor], float]:
    """Return the weights averaged over a relative length at the last snapshot, and how far their profile is off.

    Raises:
        InputError: there are no snapshots, one is damaged, or they do not reach the length.
    """
    if not 0 < length < 0.2886:
        raise InputError(
            f"--length: found {length:g}, expected more than 0 and less than 0.2886 (equal weights)"
        )
    found = snapshots_of(run)
    wanted = (max(step for _, (step, _) in found), exponent(length))
    weights, distance = combination([profile for _, profile in found], wanted)
    if distance > WORST:
        raise InputError(
            f"--length: found {length:g}, which {len(found)} snapshots reach to {100 * distance:.0f} % only; expected "
            "one nearer to those of average.lengths, or more snapshots"
        )
    total: dict[str, Tensor] = {}
    for weight, (path, _) in zip(weights, found, strict=True):
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise InputError(f"{path}: cannot be read as a snapshot ({type(error).__name__})") from error
        for name, value in state.items():
            part = float(weight) * value.double() if value.is_floating_point() else value
            total[name] = total[name] + part if name in total and value.is_floating_point() else part
    return total, distance


def write_average(run: Path, length: float, out: Path) -> float:
    """Write the prior of a run with weights of another average, and return how far its profile is off.

    Raises:
        InputError: see `averaged_state`; the run left no prior, or the result fails its self-test.
    """
    if not (run / "prior" / "card.yaml").is_file():
        raise InputError(f"{run}: holds no prior, expected a finished run")
    card = read_card(run / "prior")
    state, distance = averaged_state(run, length)
    network = card.network.build()
    dtypes = {name: value.dtype for name, value in network.state_dict().items()}
    try:
        network.load_state_dict({name: value.to(dtypes[name]) for name, value in state.items()})
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{run}: its snapshots are of another network than its prior") from error
    with atomic_folder(out) as folder:
        weights = folder / card.weights
        write_weights(network, weights, dtype=torch.float16)
        update = {
            "sha256": file_sha256(weights),
            "held_out_psnr": {},
            "training": f"{card.training}; averaged over {length:g} of the run",
        }
        card = card.model_copy(update=update)
        seen = self_test_errors(Prior.assembled(denoiser_of(card, network), card))
        card = card.model_copy(update={"self_test": {key: float(f"{e:.4g}") for key, e in seen.items()}})
        with atomic(folder / "card.yaml") as temporary:
            temporary.write_text(to_yaml(card), encoding="utf-8")
        load_prior(folder)
    return distance
