"""The arithmetic of a run: which precision is meant by ``auto``, and blocks that are computed twice to save memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from priors.diffusion.denoiser import bfloat16_pays
from priors.networks.monai_unet import UnshuffledUNet
from priors.networks.space_time_dit.network import SpaceTimeTransformer
from priors.runtime.errors import InputError
from priors.training.configuration.settings import Precision


def resolved_precision(settings: Precision, device: torch.device) -> str:
    """Return the precision that is used on ``device``: ``bfloat16``, ``float32`` or ``float64``.

    Raises:
        InputError: bfloat16 was asked for where it is emulated, which is slower and no more exact.
    """
    if settings.compute == "auto":
        return "bfloat16" if bfloat16_pays(device) else "float32"
    if settings.compute == "bfloat16" and not bfloat16_pays(device):
        raise InputError(
            f"precision.compute: found 'bfloat16', which this {device.type} only emulates; expected auto or float32"
        )
    return settings.compute


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network: what fsdp shards one by one, and nothing inside another."""
    if isinstance(network, UnshuffledUNet):
        unet: Any = network.unet
        return [*unet.down_blocks, unet.middle_block, *unet.up_blocks]
    if isinstance(network, SpaceTimeTransformer):
        return [*network.down_blocks, *network.blocks, *network.up_blocks]
    return []


def checkpoint_blocks(network: nn.Module) -> int:
    """Let the innermost blocks keep their inputs only, and return how many there are.

    The names of the weights stay, since ``forward`` is replaced and no module is put around another.
    """
    blocks = _residual_blocks(network)
    for block in blocks:
        block.forward = _twice(block.forward)
    return len(blocks)


def _residual_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the residual blocks of a U-Net, or the blocks of a transformer."""
    if isinstance(network, UnshuffledUNet):
        from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock

        return [module for module in network.modules() if isinstance(module, DiffusionUNetResnetBlock)]
    return blocks_of(network)


def _twice(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **named)
        return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **named)

    return run


def weight_dtype(denoiser: nn.Module) -> torch.dtype:
    """Return the precision of a denoiser's weights, in which it wants its states; float32 where it has none."""
    weight = next(denoiser.parameters(), None)
    return torch.float64 if weight is not None and weight.dtype == torch.float64 else torch.float32
