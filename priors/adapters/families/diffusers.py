"""Folders of diffusers: a ``UNet2DModel`` with its scheduler, read as data.

    FOLDER/model_index.json, unet/ (or unet_ema/), scheduler/        a pipeline, or a training checkpoint
    FOLDER/config.json, diffusion_pytorch_model.safetensors           a network alone

``DiffusionPipeline.from_pretrained`` is never called: a pipeline folder can bring its own code along.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from priors.adapters.families.schedulers import Meaning, meaning_of
from priors.adapters.foreign import Foreign, Told, as_float, refuse, stated_or, tensors_of
from priors.adapters.inert import read_tensors
from priors.adapters.layout import EXTRA, WEIGHTS
from priors.networks import DiffusersUNet, MonaiUNet
from priors.runtime.config import validate
from priors.runtime.errors import InputError

FAMILY = "diffusers"
LATENT = ("vae", "vqvae", "image_encoder", "text_encoder")


def claims(source: Path, content: Any) -> bool:
    """Tell whether a folder is laid out by diffusers."""
    if not source.is_dir():
        return False
    names = ("model_index.json", "unet/config.json", "unet_ema/config.json")
    return any((source / name).is_file() for name in names) or _class_of(source / "config.json") is not None


def read(source: Path, content: Any, told: Told) -> Foreign:
    """Read a folder.

    Raises:
        InputError: it is no prior of slices, is damaged, or lacks what nobody told.
    """
    latent = [name for name in LATENT if (source / name).is_dir()]
    if latent:
        raise refuse(
            source, f"its diffusion runs behind {latent[0]!r}, whose code is not affine in the image"
        )
    notes: list[str] = []
    folder = _network_folder(source, told, notes)
    config = read_json(folder / "config.json")
    kind = config.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise refuse(folder, f"found a {kind}, expected a UNet2DModel")
    arguments = {
        key: value for key, value in config.items() if not key.startswith("_") and key not in EMA_KEYS
    }
    extra = read_json(source / EXTRA) if (source / EXTRA).is_file() else {}
    weights, state = _weights(folder)
    schedule, parametrisation, conditioning = _meaning(source, told, notes)
    network = DiffusersUNet(
        config=arguments,
        label=told.label if told.label is not None else extra.get("label"),
        unshuffle=extra.get("unshuffle", 1),
    )
    size = arguments.get("sample_size")
    shape = None if size is None else (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    foreign = Foreign(
        family=FAMILY,
        path=weights,
        network=network,
        state={f"module.{key}": value for key, value in as_float(state).items()},
        schedule=schedule,
        parametrisation=parametrisation,
        conditioning=conditioning,
        size=shape,
        notes=tuple(notes),
    )
    return _stated(foreign, extra, source)


EMA_KEYS = {
    "decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup",
}  # fmt: skip


def _stated(foreign: Foreign, extra: Mapping[str, Any], source: Path) -> Foreign:
    """Return the checkpoint with what an export of ours says beside it."""
    from dataclasses import replace

    from pydantic import TypeAdapter, ValidationError

    from priors.diffusion.conditioning import AnyConditioning, LogRatio

    if not extra:
        return foreign
    try:
        conditioning = TypeAdapter[Any](AnyConditioning).validate_python(extra["conditioning"])
    except (ValidationError, KeyError) as error:
        raise InputError(f"{source / EXTRA}: conditioning: found nothing that can be used") from error
    card = extra.get("card", {})
    if not isinstance(card, Mapping):
        raise InputError(f"{source / EXTRA}: card: found {type(card).__name__}, expected a mapping")
    if extra.get("native") is None:
        return replace(foreign, conditioning=conditioning, described=card)
    from priors.adapters.export import restored

    entry = validate(MonaiUNet, extra["native"], source=str(source / EXTRA))
    plain = {key.removeprefix("module."): value for key, value in foreign.state.items()}
    return replace(
        foreign,
        network=entry,
        state=restored(entry, plain, foreign.path),
        conditioning=LogRatio(),
        described=card,
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file.

    Raises:
        InputError: there is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: found {type(found).__name__}, expected a JSON mapping")
    return found


def _class_of(path: Path) -> str | None:
    """Return the class a config names, None where it names none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _network_folder(source: Path, told: Told, notes: list[str]) -> Path:
    """Return the folder of the network: averaged weights where there are any."""
    for name in ("unet", "unet_ema") if told.weights == "model" else ("unet_ema", "unet"):
        if (source / name / "config.json").is_file():
            notes.append(f"network from {name}/")
            return source / name
    if _class_of(source / "config.json") is None:
        raise InputError(
            f"{source}: found no unet/config.json, expected a folder of diffusers with a network"
        )
    return source


def _weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """Return the weights' file (the first, of several) and the tensors."""
    for name in (f"{WEIGHTS}.safetensors", f"{WEIGHTS}.bin", f"{WEIGHTS}.fp16.safetensors"):
        if (folder / name).is_file():
            return folder / name, tensors_of(folder / name, read_tensors(folder / name))
    index = folder / f"{WEIGHTS}.safetensors.index.json"
    if not index.is_file():
        raise InputError(f"{folder}: found no {WEIGHTS}.safetensors or .bin, expected the network's weights")
    named = read_json(index).get("weight_map")
    files = sorted({str(file) for file in named.values()}) if isinstance(named, Mapping) else []
    if not files or any(Path(file).name != file for file in files):
        raise InputError(f"{index}: weight_map: found no files of this folder")
    state: dict[str, Tensor] = {}
    for file in files:
        state.update(tensors_of(folder / file, read_tensors(folder / file)))
    return folder / files[0], state


def _meaning(source: Path, told: Told, notes: list[str]) -> Meaning:
    """Return what the scheduler says, or what was told in its place."""
    path = next(
        (
            found
            for found in (source / "scheduler" / "scheduler_config.json", source / "scheduler_config.json")
            if found.is_file()
        ),
        None,
    )
    if path is not None:
        return meaning_of(path, read_json(path))
    if told.steps is None and told.betas is None and told.target is None:
        raise InputError(
            f"{source}: found no scheduler/scheduler_config.json, which tells the network's times; expected it, or "
            "betas=, steps= and target= of its training"
        )
    predictions = {"noise": "epsilon", "clean": "sample", "velocity": "v_prediction"}
    rules = {"cosine": "squaredcos_cap_v2"}
    rule = stated_or(told.betas, "linear", "betas", notes)
    config = {
        "_class_name": "DDPMScheduler",
        "prediction_type": predictions[stated_or(told.target, "noise", "target", notes)],
        "beta_schedule": rules.get(rule, rule),
        "beta_start": stated_or(told.start, 1e-4, "start", notes),
        "beta_end": stated_or(told.stop, 0.02, "stop", notes),
        "num_train_timesteps": stated_or(told.steps, 1000, "steps", notes),
    }
    return meaning_of(source, config)
