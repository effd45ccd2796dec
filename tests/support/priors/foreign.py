"""Small foreign checkpoints with random weights, saved as their families save them; and mutations of them."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from priors.diffusion.denoiser import Denoiser

SMALL_UNET = {
    "sample_size": 32,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}


def randomised(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give every weight a value, zero-initialised ones too, small enough to keep outputs of order one."""
    draw = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape, generator=draw) * (0.3 / max(1, weight[0].numel()) ** 0.5)
        if weight.ndim == 1:
            weight.data = 1 + 0.1 * torch.randn(weight.shape, generator=draw)
    return module.eval()


def small_unet(**changes: Any) -> nn.Module:
    """Return a small ``UNet2DModel`` with random weights."""
    diffusers = pytest.importorskip("diffusers", reason="the extra tomocast[diffusers] is not installed")
    return randomised(diffusers.UNet2DModel(**{**SMALL_UNET, **changes}))


def save_diffusers(folder: Path, module: Any, scheduler: Any) -> Path:
    """Save a network and its scheduler as diffusers itself does."""
    module.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def ask(denoiser: Denoiser, x_t: Tensor, t: float) -> Tensor:
    """Return E[x | x_t] at one time for the whole batch."""
    with torch.no_grad():
        return denoiser(x_t, torch.full((len(x_t),), t, dtype=torch.float64))


def relative(found: Tensor, wanted: Tensor) -> float:
    """Return the difference relative to what is wanted."""
    return float(((found - wanted).norm() / wanted.norm()).detach())


class Payload:
    """What a malicious pickle calls when it is loaded: here, writing a file."""

    def __init__(self, command: Any, *arguments: Any) -> None:
        self.call = (command, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def payloads(mark: Path) -> list[Payload]:
    """Return calls that would each create ``mark``."""
    text = f"open({str(mark)!r}, 'w').close()"
    return [
        Payload(os.system, f"touch {mark}"),
        Payload(eval, text),
        Payload(exec, text),
        Payload(getattr, Payload(__import__, "os"), "getcwd"),
        Payload(os.popen, f"touch {mark}"),
    ]


def malicious(content: dict[str, Any], mark: Path) -> list[bytes]:
    """Return checkpoints with a call in them: beside the tensors, among them, nested, zip and legacy."""
    found = []
    for payload in payloads(mark):
        shapes = [
            {**content, "extra": payload},
            {"extra": payload, **content},
            {**content, "extra": {"a": [1, (2, payload)]}},
            payload,
            {**content, payload: 1} if False else [content, payload],
        ]
        for shape in shapes:
            for zipped in (True, False):
                stream = io.BytesIO()
                torch.save(shape, stream, _use_new_zipfile_serialization=zipped)
                found.append(stream.getvalue())
    return found


def damaged(data: bytes, count: int, *, seed: int = 0) -> list[bytes]:
    """Return truncated, overwritten and spliced versions of a file."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        place = int(torch.randint(1, max(2, len(data) - 1), (), generator=draw))
        noise = bytes(torch.randint(0, 256, (min(64, len(data) - place),), generator=draw).tolist())
        found.append(
            [data[:place], data[:place] + noise + data[place + len(noise) :], noise + data][number % 3]
        )
    return found


def rewrite_pickle(data: bytes, change: Any) -> bytes:
    """Return a zip checkpoint whose pickle was passed through ``change``."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, change(content) if entry.filename.endswith("data.pkl") else content)
    return stream.getvalue()


def bare(content: Any) -> bytes:
    """Return a plain pickle."""
    return pickle.dumps(content)
