"""Schedulers of diffusers in our terms: a schedule, what the network's output means, and what it is told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from priors.adapters.foreign import refuse
from priors.diffusion.conditioning import Conditioning, LogRatio, Share, Sigma, Step
from priors.diffusion.parametrisation import (
    Clean,
    Flow,
    Noise,
    Parametrisation,
    Preconditioned,
    Score,
    Velocity,
)
from priors.diffusion.schedule import EDM, Betas, Discrete, Geometric, Rectified, Schedule
from priors.runtime.errors import InputError

Meaning = tuple[Schedule, Parametrisation, Conditioning]

TABLES = {
    "DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler",
    "PNDMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler", "DPMSolverSinglestepScheduler",
    "DPMSolverSDEScheduler", "UniPCMultistepScheduler", "SASolverScheduler", "RePaintScheduler",
}  # fmt: skip
KINDS = {
    "linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid",
    "laplace": "laplace",
}  # fmt: skip
CONSISTENCY = {
    "LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler", "ConsistencyDecoderScheduler", "SCMScheduler",
    "FlowMatchLCMScheduler", "FlowMapEulerDiscreteScheduler",
}  # fmt: skip


def meaning_of(path: Path, config: Mapping[str, Any]) -> Meaning:
    """Return what a ``scheduler_config.json`` means.

    Raises:
        InputError: a scheduler without a conditional mean, an unknown one, or values that fit none.
    """
    name = str(config.get("_class_name"))
    try:
        if name in CONSISTENCY:
            raise refuse(path, f"{name} belongs to a consistency model, which has no conditional mean")
        if name in TABLES:
            return _table(path, config)
        if name in ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"):
            return _edm(config)
        if name in ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"):
            return _flow(config)
        if name == "ScoreSdeVeScheduler":
            levels = Geometric(sigma_min=config["sigma_min"], sigma_max=config["sigma_max"])
            return levels, Score(), Sigma()
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        told = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: {name} has a value that cannot be used ({told})") from error
    raise InputError(
        f"{path}: the scheduler {name!r} is not known, expected one of {', '.join(sorted(TABLES))}"
    )


def config_of(schedule: Schedule, parametrisation: Parametrisation) -> dict[str, Any]:
    """Return the ``scheduler_config.json`` of what it can express.

    Raises:
        InputError: diffusers has no scheduler for it.
    """
    predictions = {Noise: "epsilon", Clean: "sample", Velocity: "v_prediction"}
    kind = None if parametrisation == Noise(sign=-1) else predictions.get(type(parametrisation))
    if isinstance(schedule, Betas) and kind is not None:
        names = {ours: theirs for theirs, ours in KINDS.items()}
        return {
            "_class_name": "DDPMScheduler",
            "beta_schedule": names[schedule.kind],
            "beta_start": schedule.start,
            "beta_end": schedule.stop,
            "num_train_timesteps": schedule.count,
            "prediction_type": kind,
            "rescale_betas_zero_snr": schedule.zero_terminal,
            "clip_sample": False,
        }
    if isinstance(schedule, Discrete) and kind is not None:
        return {
            "_class_name": "DDPMScheduler",
            "trained_betas": list(schedule.betas),
            "num_train_timesteps": len(schedule.betas),
            "prediction_type": kind,
            "clip_sample": False,
        }
    if isinstance(schedule, EDM) and isinstance(parametrisation, Preconditioned):
        return {
            "_class_name": "EDMEulerScheduler",
            "sigma_min": schedule.sigma_min,
            "sigma_max": schedule.sigma_max,
            "rho": schedule.rho,
            "sigma_data": parametrisation.sigma_data,
            "prediction_type": "epsilon" if parametrisation.sign == 1 else "v_prediction",
        }
    if isinstance(schedule, Rectified) and isinstance(parametrisation, Flow) and parametrisation.sign == 1:
        return {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0}
    if isinstance(schedule, Geometric) and isinstance(parametrisation, Score):
        return {
            "_class_name": "ScoreSdeVeScheduler",
            "sigma_min": schedule.sigma_min,
            "sigma_max": schedule.sigma_max,
        }
    raise InputError(
        f"export: diffusers has no scheduler for {schedule.name!r} levels with the output {parametrisation.name!r}"  # type: ignore[attr-defined]
    )


def _table(path: Path, config: Mapping[str, Any]) -> Meaning:
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        return _flow(config)
    meanings: dict[str, Parametrisation] = {
        "epsilon": Noise(),
        "sample": Clean(),
        "v_prediction": Velocity(),
    }
    kind = config.get("prediction_type", "epsilon")
    if kind not in meanings:
        raise InputError(f"{path}: prediction_type: found {kind!r}, expected one of {', '.join(meanings)}")
    zero = bool(config.get("rescale_betas_zero_snr", False))
    trained = config.get("trained_betas")
    if trained is not None:
        betas = tuple(float(beta) for beta in trained)
        return Discrete(betas=betas[:-1] if betas and betas[-1] == 1 else betas), meanings[kind], Step()
    rule = str(config.get("beta_schedule", "linear"))
    if rule not in KINDS:
        raise InputError(f"{path}: beta_schedule: found {rule!r}, expected one of {', '.join(KINDS)}")
    levels = Betas(
        kind=KINDS[rule],
        start=config.get("beta_start", 1e-4),
        stop=config.get("beta_end", 0.02),
        count=config.get("num_train_timesteps", 1000),
        zero_terminal=zero,
    )
    return levels, meanings[kind], Step()


def _edm(config: Mapping[str, Any]) -> Meaning:
    signs = {"epsilon": 1, "v_prediction": -1}
    levels = EDM(
        sigma_min=config.get("sigma_min", 0.002),
        sigma_max=config.get("sigma_max", 80.0),
        rho=config.get("rho", 7.0),
    )
    sign = signs[config.get("prediction_type", "epsilon")]
    own = Preconditioned(sigma_data=config.get("sigma_data", 0.5), sign=1 if sign == 1 else -1)
    return levels, own, LogRatio(factor=0.25)


def _flow(config: Mapping[str, Any]) -> Meaning:
    count = int(config.get("num_train_timesteps", 1000))
    # The shift moves where a sampler steps; the network is told the share of noise itself.
    return Rectified(), Flow(sign=1), Share(factor=float(count))
