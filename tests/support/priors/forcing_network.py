"""The arithmetic of ForcingDAS's transformer, token by token, on a dictionary of weights by its names: slow and plain.

Source: arXiv 2605.14285 and its released layout of weights (MIT).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

PREFIX = "diffusion_model.model.module."


def small_state(
    *,
    channels: int = 1,
    width: int = 16,
    depth: int = 2,
    patch: int = 4,
    frames: int = 6,
    tokens: int = 4,
    full=False,
) -> dict[str, Tensor]:
    """Return random weights of a small network, a table of betas, and the mean and deviation of its data."""
    draw = torch.Generator().manual_seed(1)

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=draw) / columns**0.5

    state = {
        "patch_embed.proj.weight": matrix(width, channels * patch**2).reshape(width, channels, patch, patch),
        "patch_embed.proj.bias": 0.1 * torch.randn(width, generator=draw),
        "pos_embed": 0.5 * torch.randn(1, frames * tokens, width, generator=draw),
    }
    layers = {
        "noise_level_embedding.1.linear_1": (width, 64),
        "noise_level_embedding.1.linear_2": (width, width),
    }
    parts = (
        ("norm1", "attn", "norm2")
        if full
        else ("spatial_norm", "spatial_attn", "temporal_norm", "temporal_attn", "mlp_norm")
    )
    for block in range(depth):
        for part in parts:
            if part.endswith("attn"):
                layers[f"blocks.{block}.{part}.qkv"] = (3 * width, width)
                layers[f"blocks.{block}.{part}.proj"] = (width, width)
            else:
                layers[f"blocks.{block}.{part}.modulation.1"] = (3 * width, width)
        layers[f"blocks.{block}.mlp.0"] = (4 * width, width)
        layers[f"blocks.{block}.mlp.2"] = (width, 4 * width)
    layers["final_layer.norm.modulation.1"] = (2 * width, width)
    layers["final_layer.linear"] = (channels * patch**2, width)
    for name, shape in layers.items():
        state[f"{name}.weight"] = matrix(*shape)
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)
    named = {PREFIX + name: value for name, value in state.items()}
    betas = torch.linspace(1e-4, 0.02, 1000)
    return {
        **named,
        "diffusion_model.betas": betas,
        "data_mean": torch.tensor(0.5),
        "data_std": torch.tensor(0.5),
    }


def network(state: dict[str, Tensor], x: Tensor, steps: Tensor, *, heads: int, causal: bool) -> Tensor:
    """Return the output for one trajectory (f, k, y, x) with one training step per frame (f)."""
    w = {name.removeprefix(PREFIX): value for name, value in state.items()}
    patch = w["patch_embed.proj.weight"].shape[-1]

    def linear(name: str, v: Tensor) -> Tensor:
        return v @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    frequencies = torch.exp(-math.log(10_000) * torch.arange(32) / 32)
    angles = steps[:, None] * frequencies
    c = linear("noise_level_embedding.1.linear_1", torch.cat([angles.cos(), angles.sin()], 1))
    c = linear("noise_level_embedding.1.linear_2", functional.silu(c))
    cells = functional.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=patch)
    f, d, rows, columns = cells.shape
    tokens = cells.permute(0, 2, 3, 1).reshape(f, rows * columns, d)
    tokens = tokens + w["pos_embed"][0, : f * rows * columns].reshape(tokens.shape)

    def modulated(name: str, v: Tensor, count: int = 3) -> list[Tensor]:
        shift, scale, *gate = linear(f"{name}.modulation.1", functional.silu(c))[:, None].chunk(count, -1)
        normal = (v - v.mean(-1, keepdim=True)) / (v.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()
        return [normal * (1 + scale) + shift, *gate]

    def attended(name: str, v: Tensor, allowed: Tensor) -> Tensor:
        q, k, value = linear(f"{name}.qkv", v).chunk(3, -1)
        size = d // heads
        seen = torch.zeros_like(v)
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            score = q[..., own] @ k[..., own].transpose(-1, -2) / size**0.5
            seen[..., own] = torch.softmax(score.masked_fill(~allowed, -torch.inf), -1) @ value[..., own]
        return linear(f"{name}.proj", seen)

    everything = torch.ones(rows * columns, rows * columns, dtype=torch.bool)
    earlier = torch.ones(f, f, dtype=torch.bool).tril() if causal else torch.ones(f, f, dtype=torch.bool)
    block = 0
    while f"blocks.{block}.mlp.0.weight" in w:
        name = f"blocks.{block}."
        if f"{name}norm1.modulation.1.weight" in w:
            h, gate = modulated(f"{name}norm1", tokens)
            flat = h.reshape(1, -1, d)
            whole = torch.ones(flat.shape[1], flat.shape[1], dtype=torch.bool)
            tokens = tokens + gate * attended(f"{name}attn", flat, whole).reshape(h.shape)
            h, gate = modulated(f"{name}norm2", tokens)
        else:
            h, gate = modulated(f"{name}spatial_norm", tokens)
            tokens = tokens + gate * attended(f"{name}spatial_attn", h, everything)
            h, gate = modulated(f"{name}temporal_norm", tokens)
            tokens = tokens + gate * attended(f"{name}temporal_attn", h.transpose(0, 1), earlier).transpose(
                0, 1
            )
            h, gate = modulated(f"{name}mlp_norm", tokens)
        inner = functional.gelu(linear(f"{name}mlp.0", h), approximate="tanh")
        tokens = tokens + gate * linear(f"{name}mlp.2", inner)
        block += 1
    out = linear("final_layer.linear", modulated("final_layer.norm", tokens, 2)[0])
    out = out.reshape(f, rows, columns, patch, patch, x.shape[1])
    return out.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
