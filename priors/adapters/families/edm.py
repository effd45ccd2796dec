r"""EDM: pickled networks of its code, read as data.

A checkpoint is ``{ema, loss_fn, augment_pipe, dataset_kwargs}`` as a bare pickle (``net`` in training states). Its
networks ask to be built again from source text that stands in the file; that text is never looked at. What is read is
the name of the class, the arguments it was built with, and the tensors of its parts. The network becomes a `SongUNet`
(DDPM++, NCSN++, and ADM as EDM has it), its preconditioning ours:

    EDMPrecond     D = c_skip x + c_out F(c_in x, log(s) / 4)
    VPPrecond      D = x - s F(x / sqrt(1 + s^2), 999 t(s))        F predicts the noise
    VEPrecond      D = x + s F(x, log(s / 2))                      F predicts its negative
    iDDPMPrecond   as VPPrecond, told the step of the cosine table, variance learned

Source: Karras et al. 2022 (arXiv 2206.00364, Table 1).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from priors.adapters.families.edm_modules import architecture, converted
from priors.adapters.foreign import Foreign, Told, as_float, refuse
from priors.adapters.inert import StandIn
from priors.diffusion.conditioning import Conditioning, LogRatio, SourceTime, Step
from priors.diffusion.parametrisation import Noise, Parametrisation, Preconditioned
from priors.diffusion.schedule import EDM, VP, Betas, Geometric, Schedule
from priors.runtime.errors import InputError

FAMILY = "edm"
REBUILDER = "persistence._reconstruct_persistent_obj"
KEYS = ("ema", "net")
NETWORKS = ("SongUNet", "DhariwalUNet")
WRAPPERS = ("EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond")
LICENCE = "the weights that EDM's authors publish are CC BY-NC-SA 4.0 (no commercial use): say --licence"
# Levels of the published sampler; training drew them without bounds, around 0.3.
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


def claims(source: Path, content: Any) -> bool:
    """Tell whether a pickle holds a network of EDM's code, or of another that saves networks the same way."""
    return any(_is_persistent(each) for each in _candidates(content))


def read(source: Path, content: Any, told: Told) -> Foreign:
    """Read a pickle.

    Raises:
        InputError: a network of another kind, or one that is damaged.
    """
    candidates = _candidates(content)
    order = reversed(candidates) if told.weights == "model" else candidates
    wrapper = next(each for each in order if _is_persistent(each))
    kind, outer = _class_and_state(source, wrapper)
    if kind == "Precond":
        raise refuse(source, "its magnitude-preserving network of EDM2 is not supported; expected one of EDM")
    if kind not in WRAPPERS:
        raise refuse(source, f"its network is of the class {kind!r}, expected one of {', '.join(WRAPPERS)}")
    inner_kind, inner = _class_and_state(source, _submodules(outer).get("model"))
    if inner_kind not in NETWORKS:
        raise refuse(source, f"it wraps a {inner_kind!r}, expected one of {', '.join(NETWORKS)}")
    arguments = _mapping(inner.get("_init_kwargs"))
    if arguments is None:
        raise InputError(f"{source}: found no arguments of its network (_init_kwargs), expected them")
    network, side = architecture(source, inner_kind, arguments, told)
    notes = [f"{inner_kind} in {kind}", LICENCE]
    tensors = as_float(_tensors(source, inner))
    if "map_augment.weight" in tensors:
        notes.append("labels of augmentation left out: none, as for sampling")
    schedule, parametrisation, conditioning = _meaning(source, kind, outer)
    return Foreign(
        family=FAMILY,
        path=source,
        network=network,
        state=converted(source, tensors, network, arguments),
        schedule=schedule,
        parametrisation=parametrisation,
        conditioning=conditioning,
        size=(side, side),
        notes=tuple(notes),
    )


def _meaning(
    source: Path, kind: str, state: Mapping[str, Any]
) -> tuple[Schedule, Parametrisation, Conditioning]:
    """Return what a wrapper's numbers mean.

    Raises:
        InputError: it lacks one, or one fits no schedule.
    """

    def number(name: str) -> float:
        found = state.get(name)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise InputError(f"{source}: {kind}.{name}: found {type(found).__name__}, expected a number")
        return float(found)

    try:
        if kind == "EDMPrecond":
            levels = EDM(
                sigma_min=max(SIGMA_MIN, number("sigma_min")), sigma_max=min(SIGMA_MAX, number("sigma_max"))
            )
            return levels, Preconditioned(sigma_data=number("sigma_data")), LogRatio(factor=0.25)
        if kind == "VEPrecond":
            exploding = Geometric(sigma_min=number("sigma_min"), sigma_max=number("sigma_max"))
            return exploding, Noise(sign=-1), LogRatio(unit=0.5)
        if kind == "VPPrecond":
            low = number("beta_min")
            preserving = VP(beta_min=low, beta_max=low + number("beta_d"), start=number("epsilon_t"))
            return preserving, Noise(), SourceTime(factor=number("M") - 1)
        return _cosine(source, state, int(number("M"))), Noise(), Step()
    except ValidationError as error:
        raise InputError(f"{source}: {kind}: {error.errors(include_url=False)[0]['msg']}") from error


def _cosine(source: Path, state: Mapping[str, Any], steps: int) -> Betas:
    """Return the table of iDDPM, checked against the levels in the file.

    Raises:
        InputError: they are others.
    """
    table = Betas(kind="cosine", count=steps)
    found = (_mapping(state.get("_buffers")) or {}).get("u")
    own = table.ratio(torch.linspace(1, 0, steps, dtype=torch.float64))
    # float32, over a thousand steps.
    if not isinstance(found, Tensor) or found.shape != (steps + 1,):
        raise InputError(f"{source}: iDDPMPrecond.u: expected {steps + 1} levels")
    if not torch.allclose(found[:-1].double(), own, rtol=1e-2):
        raise refuse(source, "the levels of its iDDPMPrecond are not those of the cosine table")
    return table


def _candidates(content: Any) -> list[Any]:
    """Return what of a content may be a network, averaged weights first."""
    if isinstance(content, Mapping):
        return [content[key] for key in KEYS if key in content]
    return [content]


def _is_persistent(found: Any) -> bool:
    return isinstance(found, StandIn) and found.path.endswith(REBUILDER)


def _class_and_state(source: Path, found: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the class of a pickled object and its attributes.

    Raises:
        InputError: it is none.
    """
    record = _mapping(found.given[0][0]) if _is_persistent(found) and found.given[0] else None
    state = None if record is None else _mapping(record.get("state"))
    if record is None or state is None:
        raise InputError(
            f"{source}: found {type(found).__name__}, expected a network as EDM's code pickles it"
        )
    return str(record.get("class_name")), state


def _mapping(found: Any) -> Mapping[str, Any] | None:
    """Return a mapping, also one of a class that became a stand-in; None where there is none."""
    if isinstance(found, Mapping):
        return found
    if isinstance(found, StandIn):
        if found.held and all(isinstance(pair, tuple) and len(pair) == 2 for pair in found.held):
            return dict(found.held)
        return found.state if isinstance(found.state, Mapping) else None
    return None


def _submodules(state: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(state.get("_modules")) or {}


def _tensors(source: Path, state: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Return parameters and buffers of a module by name, in the order of its parts."""
    found: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        for name, value in (_mapping(state.get(kind)) or {}).items():
            if isinstance(value, Tensor):
                found[f"{prefix}{name}"] = value.detach()
    for name, module in _submodules(state).items():
        if module is None:
            continue
        inner = _class_and_state(source, module)[1] if _is_persistent(module) else _mapping(module)
        if inner is None:
            raise InputError(f"{source}: {prefix}{name}: found {type(module).__name__}, expected a module")
        found.update(_tensors(source, inner, f"{prefix}{name}."))
    return found
