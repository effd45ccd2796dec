"""EDM's networks as plain arithmetic on named weights, its preconditioning, and pickles as its code writes them.

The networks follow the architectures of Song et al. 2021 and Dhariwal and Nichol 2021 as Karras et al. 2022
(arXiv 2206.00364, appendix F) describe them; names of weights are those of EDM's checkpoints. A pickled module asks to
be built again by ``torch_utils.persistence._reconstruct_persistent_obj`` from the source text of its class, its
arguments and its attributes.
"""

import math
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.priors.ncsnpp_network import resampled


class EdmReference:
    """A network of EDM with random weights.

    Args:
        kind: ``SongUNet`` or ``DhariwalUNet``.
        side: of its images.
        channels: of its images.
        outputs: channels of its output.
        arguments: of the class, by EDM's names.
    """

    def __init__(
        self, kind: str, *, side: int = 16, channels: int = 1, outputs: int = 1, **arguments: Any
    ) -> None:
        self.kind, self.song = kind, kind == "SongUNet"
        self.arguments = {
            "img_resolution": side, "in_channels": channels, "out_channels": outputs, "label_dim": 0,
            "model_channels": 16 if self.song else 64, "channel_mult": [1, 2, 2], "num_blocks": 1,
            "attn_resolutions": [8], "dropout": 0.1, **arguments,
        }  # fmt: skip
        self.draw, self.weights = torch.Generator().manual_seed(0), dict[str, Tensor]()
        a = self.arguments
        self.taps = tuple(a.get("resample_filter", [1, 1]))
        self.encoder, self.decoder = a.get("encoder_type", "standard"), a.get("decoder_type", "standard")
        self.fourier = a.get("embedding_type") == "fourier"
        self.filling = True
        with torch.no_grad():
            self(torch.zeros(1, channels, side, side), 1.0, label=0 if a["label_dim"] else None)
        self.filling = False
        if a.get("augment_dim"):
            self.weights["map_augment.weight"] = self._random(self._noise_width(), a["augment_dim"])

    def _random(self, *shape: int) -> Tensor:
        size = max(1, torch.Size(shape[1:]).numel())
        return torch.randn(shape, generator=self.draw) * 0.4 / size**0.5

    def w(self, name: str, *shape: int, around: float = 0.0) -> Tensor:
        """Return a weight; while the network is filled, draw it."""
        if self.filling:
            self.weights[name] = around + self._random(*shape)
        return self.weights[name]

    def buffer(self, name: str) -> None:
        if self.filling:
            taps = torch.tensor(self.taps, dtype=torch.float32) / sum(self.taps)
            self.weights[f"{name}.resample_filter"] = torch.outer(taps, taps)[None, None]

    def conv(self, name: str, x: Tensor, out: int, side: int = 3) -> Tensor:
        weight, bias = self.w(f"{name}.weight", out, x.shape[1], side, side), self.w(f"{name}.bias", out)
        return functional.conv2d(x, weight, bias, padding=side // 2)

    def linear(self, name: str, x: Tensor, out: int, *, bias: bool = True) -> Tensor:
        y = x @ self.w(f"{name}.weight", out, x.shape[-1]).T
        return y + self.w(f"{name}.bias", out) if bias else y

    def norm(self, name: str, x: Tensor) -> Tensor:
        c = x.shape[1]
        scale, shift = self.w(f"{name}.weight", c, around=1.0), self.w(f"{name}.bias", c)
        eps = 1e-6 if self.song else 1e-5
        grouped = x.reshape(len(x), min(32, c // 4), -1)
        mean, variance = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, unbiased=False)
        flat = ((grouped - mean) / (variance + eps).sqrt()).reshape(x.shape)
        return flat * scale[:, None, None] + shift[:, None, None]

    def _noise_width(self) -> int:
        return self.arguments["model_channels"] * self.arguments.get("channel_mult_noise", 1)

    def embedding(self, told: Tensor, label: int | None) -> Tensor:
        a, silu, wide = self.arguments, functional.silu, self._noise_width()
        half = wide // 2
        if self.fourier:
            # Frequencies of order one instead of 16: the features of neighbouring levels differ smoothly.
            angles = 2 * math.pi * told[:, None] * self.w("map_noise.freqs", half)
        else:
            last = half - 1 if self.song else half
            angles = told[:, None] * torch.tensor([1e4 ** (-k / last) for k in range(half)])
        both = [angles.sin(), angles.cos()] if self.song else [angles.cos(), angles.sin()]
        features, out, count = torch.cat(both, 1), 4 * a["model_channels"], a["label_dim"]
        chosen = None if not count else functional.one_hot(torch.tensor([label] * len(told)), count).float()
        if self.song and chosen is not None:
            features = features + self.linear("map_label", chosen * count**0.5, wide)
        features = self.linear("map_layer1", silu(self.linear("map_layer0", features, out)), out)
        if not self.song and chosen is not None:
            features = features + self.linear("map_label", chosen, out, bias=False)
        return silu(features)

    def block(self, name: str, x: Tensor, out: int, *, attends: bool = False, resample: str = "") -> Tensor:
        c, scale = x.shape[1], 0.5**0.5 if self.song else 1.0
        h = functional.silu(self.norm(f"{name}.norm0", x))
        if resample:
            self.buffer(f"{name}.conv0")
            h, x = resampled(h, resample, self.taps), resampled(x, resample, self.taps)
        h = self.conv(f"{name}.conv0", h, out)
        told = self.linear(f"{name}.affine", self.told, out if self.song else 2 * out)[:, :, None, None]
        if self.song:
            h = self.norm(f"{name}.norm1", h + told)
        else:
            factor, shift = told[:, :out], told[:, out:]
            h = self.norm(f"{name}.norm1", h) * (1 + factor) + shift
        h = self.conv(f"{name}.conv1", functional.silu(h), out)
        if resample:
            self.buffer(f"{name}.skip")
        if c != out or (self.song and resample):
            x = self.conv(f"{name}.skip", x, out, 1)
        x = (x + h) * scale
        return self.attend(name, x) if attends else x

    def attend(self, name: str, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        heads = 1 if self.song else c // 64
        packed = self.conv(f"{name}.qkv", self.norm(f"{name}.norm2", x), 3 * c, 1).reshape(
            b, heads, -1, 3, height * width
        )
        q, k, v = packed.unbind(3)
        seen = torch.softmax(q.transpose(2, 3) @ k / math.sqrt(c // heads), -1) @ v.transpose(2, 3)
        out = self.conv(f"{name}.proj", seen.transpose(2, 3).reshape(b, c, height, width), c, 1)
        return (x + out) * (0.5**0.5 if self.song else 1.0)

    def halved_features(self, name: str, x: Tensor, out: int) -> Tensor:
        """Return the convolution of the filtered image at every second place, over borders of zeros."""
        self.buffer(name)
        weight, bias = self.w(f"{name}.weight", out, x.shape[1], 3, 3), self.w(f"{name}.bias", out)
        taps = torch.tensor(self.taps, dtype=torch.float32) / sum(self.taps)
        border = (len(taps) - 1) // 2 + 1
        wide = functional.pad(x, (border,) * 4)
        for axis in (2, 3):
            wide = wide.unfold(axis, len(taps), 1) @ taps
        return functional.conv2d(wide, weight, bias, stride=2)

    def __call__(self, x: Tensor, told: float | Tensor, *, label: int | None = None) -> Tensor:
        """Return the raw output for the number the network is told."""
        a = self.arguments
        number = torch.as_tensor(told, dtype=torch.float32).expand(len(x))
        self.told = self.embedding(number, label)
        base, factors, side = a["model_channels"], a["channel_mult"], a["img_resolution"]
        pyramid, held = x, []
        for level, factor in enumerate(factors):
            name, attends = f"enc.{side >> level}x{side >> level}", side >> level in a["attn_resolutions"]
            if level == 0:
                x = self.conv(f"{name}_conv", x, base if self.song else base * factor)
            else:
                x = self.block(f"{name}_down", x, x.shape[1], resample="down")
                if self.encoder == "skip":
                    self.buffer(f"{name}_aux_down")
                    pyramid = resampled(pyramid, "down", self.taps)
                    x = x + self.conv(f"{name}_aux_skip", pyramid, x.shape[1], 1)
                elif self.encoder == "residual":
                    x = pyramid = (
                        x + self.halved_features(f"{name}_aux_residual", pyramid, x.shape[1])
                    ) / 2**0.5
            held.append(x)
            for n in range(a["num_blocks"]):
                x = self.block(f"{name}_block{n}", x, base * factor, attends=attends)
                held.append(x)
        total = None
        for level in range(len(factors) - 1, -1, -1):
            name, attends = f"dec.{side >> level}x{side >> level}", side >> level in a["attn_resolutions"]
            if level == len(factors) - 1:
                x = self.block(f"{name}_in0", x, x.shape[1], attends=True)
                x = self.block(f"{name}_in1", x, x.shape[1])
            else:
                x = self.block(f"{name}_up", x, x.shape[1], resample="up")
            for n in range(a["num_blocks"] + 1):
                here = attends and (not self.song or n == a["num_blocks"])
                x = self.block(
                    f"{name}_block{n}", torch.cat([x, held.pop()], 1), base * factors[level], attends=here
                )
            if self.song and (self.decoder == "skip" or level == 0):
                if self.decoder == "skip" and total is not None:
                    self.buffer(f"{name}_aux_up")
                    total = resampled(total, "up", self.taps)
                own = self.conv(
                    f"{name}_aux_conv", functional.silu(self.norm(f"{name}_aux_norm", x)), a["out_channels"]
                )
                total = own if total is None else total + own
        if self.song:
            return total
        return self.conv("out_conv", functional.silu(self.norm("out_norm", x)), a["out_channels"])


class _Persistent:
    """What EDM's code pickles in place of a module."""

    def __init__(self, name: str, state: dict[str, Any]) -> None:
        self.name, self.state = name, state

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        from torch_utils.persistence import _reconstruct_persistent_obj

        source = "import os\nos.system('touch ran')\n"
        meta = {
            "type": "class",
            "version": 6,
            "module_src": source,
            "class_name": self.name,
            "state": self.state,
        }
        return _reconstruct_persistent_obj, (meta,)


class EasyDict(dict):
    """A dict of another module, as EDM keeps arguments in."""


@contextmanager
def _edm_modules() -> Iterator[None]:
    """Let pickle find EDM's functions by name while it writes."""
    package, module, util = (
        ModuleType("torch_utils"),
        ModuleType("torch_utils.persistence"),
        ModuleType("dnnlib.util"),
    )

    def _reconstruct_persistent_obj(meta: Any) -> Any:
        raise AssertionError("a checkpoint's code was run")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    util.EasyDict = EasyDict
    EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
    names = {
        "torch_utils": package,
        "torch_utils.persistence": module,
        "dnnlib": ModuleType("dnnlib"),
        "dnnlib.util": util,
    }
    sys.modules.update(names)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _module(kind: str, tensors: dict[str, Tensor], **more: Any) -> Any:
    """Return a tree of pickled modules with tensors by dotted name."""
    state: dict[str, Any] = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}, **more}
    inner: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        first, _, rest = key.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = value
        elif first in ("resample_filter", "freqs", "u"):
            state["_buffers"][first] = value
        else:
            state["_parameters"][first] = nn.Parameter(value, requires_grad=False)
    state["_modules"] = {name: _module("UNetBlock", own) for name, own in inner.items()}
    return _Persistent(kind, state)


def edm_pickle(
    network: EdmReference, wrapper: str = "EDMPrecond", *, attributes: Any = None, **more: Any
) -> bytes:
    """Return a checkpoint as EDM's training writes it."""
    arguments = EasyDict(network.arguments)
    model = _module(network.kind, network.weights, _init_args=(), _init_kwargs=arguments)
    outer = _module(wrapper, {}, _init_args=(), _init_kwargs={}, **(attributes or {}))
    outer.state["_modules"]["model"] = model
    outer.state["_buffers"] |= (more.pop("buffers", None)) or {}
    content = {
        "ema": outer,
        "loss_fn": None,
        "augment_pipe": None,
        "dataset_kwargs": EasyDict(path="x.zip"),
        **more,
    }
    with _edm_modules():
        return pickle.dumps(content)
