r"""score_sde: NCSN++ and DDPM++ checkpoints, by the order of their modules.

A checkpoint is ``{model, ema, optimizer, step}``. The averaged weights are a list without names: the parameters with
gradients, in the order of the state dict (all but ``sigmas`` and the frequencies of the Fourier features). Their number
and every shape are compared, so a list in another order is refused wherever shapes can tell. The network is a list of
modules (``all_modules.N``) that is walked; what a module is follows from the names inside it. It becomes a `SongUNet`.

    variance exploding     Fourier features of log sigma, output / sigma is the score:   E[z | x_t] = -output
    variance preserving    sines of 999 t, -output / std is the score:                   E[z | x_t] = output

Source: Song et al. 2021 (arXiv 2011.13456), and the checkpoints of DiffusionMBIR (arXiv 2211.10655).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from priors.adapters.families.score_sde_modules import architecture, converted
from priors.adapters.foreign import Foreign, Told, as_float, best_state, first, refuse, stated_or
from priors.adapters.inert import StandIn
from priors.diffusion.conditioning import Conditioning, LogRatio, SourceTime, Step
from priors.diffusion.parametrisation import Noise
from priors.diffusion.schedule import VP, Betas, Geometric, Schedule
from priors.runtime.errors import InputError

FAMILY = "score-sde"
FREQUENCIES = "all_modules.0.W"
FROZEN = ("sigmas", FREQUENCIES)
# Training draws times from here on; sampling stops at 1e-3.
FIRST_TIME = 1e-5


def claims(source: Path, content: Any) -> bool:
    """Tell whether a checkpoint holds the modules of score_sde."""
    state = best_state(content, "model")[0]
    return FREQUENCIES in state or all(f"all_modules.{n}.weight" in state for n in range(3))


def read(source: Path, content: Any, told: Told) -> Foreign:
    """Read a checkpoint.

    Raises:
        InputError: a network of another kind, or averaged weights that do not fit it.
    """
    notes: list[str] = []
    state = {key: value for key, value in best_state(content, "model")[0].items() if key != "sigmas"}
    if told.weights != "model":
        state = averaged(source, state, content, notes)
    exploding = FREQUENCIES in state
    sde = stated_or(told.sde, "ve" if exploding else "vp", "sde", notes)
    if (sde == "ve") != exploding:
        found = "Fourier features of sigma" if exploding else "sines of a time"
        raise refuse(source, f"sde: found {sde!r}, but the network is told {found}")
    centred = stated_or(told.centred, not exploding, "centred", notes)
    fir = stated_or(told.fir, exploding, "fir", notes)
    network = architecture(source, state, centred=centred, fir=fir)
    schedule, parametrisation, conditioning = _meaning(source, told, sde, notes)
    return Foreign(
        family=FAMILY,
        path=source,
        network=network,
        state=converted(source, as_float(state), network),
        schedule=schedule,
        parametrisation=parametrisation,
        conditioning=conditioning,
        size=None if told.size is None else (told.size, told.size),
        notes=tuple(notes),
    )


def _meaning(source: Path, told: Told, sde: str, notes: list[str]) -> tuple[Schedule, Noise, Conditioning]:
    """Return schedule, parametrisation and conditioning, as told, else as the code's configurations have them.

    Raises:
        InputError: values that fit no schedule.
    """
    try:
        if sde == "ve":
            low = stated_or(told.sigma_min, 0.01, "sigma_min", notes)
            high = stated_or(told.sigma_max, 378.0, "sigma_max", notes)
            return Geometric(sigma_min=low, sigma_max=high), Noise(sign=-1), LogRatio()
        low = stated_or(told.beta_min, 0.1, "beta_min", notes)
        high = stated_or(told.beta_max, 20.0, "beta_max", notes)
        if told.steps is not None and sde == "vp":
            # Trained on a table: betas shrink with the number of steps, so that the last level stays the same.
            table = Betas(
                start=first(told.start, low / told.steps),
                stop=first(told.stop, high / told.steps),
                count=told.steps,
            )
            return table, Noise(), Step()
        notes.append("continuous times up to 999 taken as usual (steps=1000 says otherwise)")
        continuous = VP(beta_min=low, beta_max=high, start=FIRST_TIME, sub=sde == "subvp")
        return continuous, Noise(), SourceTime()
    except ValidationError as error:
        raise InputError(f"{source}: {error.errors(include_url=False)[0]['msg']}") from error


def averaged(source: Path, state: Mapping[str, Tensor], content: Any, notes: list[str]) -> dict[str, Tensor]:
    """Return the averaged weights by name.

    Raises:
        InputError: there are none, or their number or shapes are not those of the network.
    """
    ema = content.get("ema") if isinstance(content, Mapping) else None
    ema = ema.state if isinstance(ema, StandIn) else ema
    shadow = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    if not isinstance(shadow, list):
        raise InputError(
            f"{source}: found no ema with shadow_params, expected them (or weights=model for the last step's)"
        )
    names = [key for key in state if key not in FROZEN]
    if len(names) != len(shadow):
        raise InputError(
            f"{source}: ema: found {len(shadow)} tensors, expected {len(names)}: one per weight of the network"
        )
    for name, value in zip(names, shadow, strict=True):
        if not isinstance(value, Tensor) or value.shape != state[name].shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"{source}: ema: found {found} in the place of {name} {tuple(state[name].shape)}"
            )
    notes.append("weights from 'ema', named by their order")
    return {**state, **dict(zip(names, shadow, strict=True))}
