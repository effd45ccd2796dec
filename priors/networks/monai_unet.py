r"""MONAI's diffusion U-Net behind a pixel-unshuffle stem.

The stem trades resolution for channels, (1, y, x) -> (k^2, y/k, x/k), which makes the same network several
times faster; without attention the network is convolutional, so one set of weights serves any field size.
Sizes that are no multiple of the network's stride are padded by replication and cropped again.

The noise level enters as MONAI's sinusoidal embedding of ``conditioning_scale * log(sigma / alpha)``.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional


class UnshuffledUNet(nn.Module):
    """Pixel-unshuffle, U-Net, pixel-shuffle; called with states (b, k, y, x) and log(sigma / alpha), (b)."""

    def __init__(self, unet: nn.Module, *, unshuffle: int, stride: int, conditioning_scale: float) -> None:
        super().__init__()
        self.unet = unet
        self.unshuffle = unshuffle
        self.stride = stride
        self.conditioning_scale = conditioning_scale

    def forward(self, x: Float[Tensor, "b k y x"], log_ratio: Float[Tensor, "b"]) -> Float[Tensor, "b k y x"]:
        """Return the network's output, same shape as ``x``."""
        height, width = x.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        padded = functional.pad(x, (0, right, 0, below), mode="replicate") if below or right else x
        packed = functional.pixel_unshuffle(padded, self.unshuffle)
        packed = packed.contiguous(memory_format=torch.channels_last)
        output = self.unet(packed, self.conditioning_scale * log_ratio)
        return functional.pixel_shuffle(output, self.unshuffle)[..., :height, :width]


class MonaiUNet(BaseModel):
    """Card entry that builds a `UnshuffledUNet` around ``monai.networks.nets.DiffusionModelUNet``.

    Attributes:
        channels: feature channels per resolution level.
        field_channels: channels of the data.
        residual_blocks: residual blocks per level.
        attention: attend at these levels; a network without any has no attention at its bottom either.
        norm_groups: groups of the group normalisation.
        unshuffle: factor of the pixel-unshuffle stem.
        conditioning_scale: factor on log(sigma / alpha) before the sinusoidal embedding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["monai-unet"] = "monai-unet"
    channels: tuple[int, ...] = Field(min_length=2)
    field_channels: int = Field(1, ge=1)
    residual_blocks: int = Field(1, ge=1)
    attention: tuple[bool, ...] = ()
    norm_groups: int = Field(16, ge=1)
    unshuffle: int = Field(2, ge=1)
    conditioning_scale: float = Field(50.0, gt=0)

    @model_validator(mode="after")
    def _levels_fit(self) -> "MonaiUNet":
        if any(count <= 0 or count % self.norm_groups for count in self.channels):
            raise ValueError(
                f"channels {self.channels} must be multiples of norm_groups ({self.norm_groups})"
            )
        if self.attention and len(self.attention) != len(self.channels):
            raise ValueError(f"attention needs one entry per level of channels ({len(self.channels)})")
        return self

    def build(self) -> nn.Module:
        """Return the network with random weights."""
        from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

        packed = self.field_channels * self.unshuffle**2
        attention = self.attention or (False,) * len(self.channels)
        unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=packed,
            out_channels=packed,
            num_res_blocks=self.residual_blocks,
            channels=self.channels,
            attention_levels=attention,
            norm_num_groups=self.norm_groups,
        )
        if not any(attention):
            # MONAI always puts attention at the bottom; replaced, the network is convolutional and
            # size-agnostic.
            unet.middle_block.attention = nn.Identity()
        return UnshuffledUNet(
            unet.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            unshuffle=self.unshuffle,
            stride=self.unshuffle * 2 ** (len(self.channels) - 1),
            conditioning_scale=self.conditioning_scale,
        )
