"""Networks over several slices that are linear, so that dense algebra says what they answer."""

import torch
from torch import Tensor, nn

from priors.diffusion.conditioning import LogRatio
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.fitted import FittedDenoiser, SliceFit
from priors.diffusion.parametrisation import Clean
from priors.diffusion.schedule import EDM
from priors.networks.foreign import ForeignUNet, call_any

SCHEDULE = EDM(sigma_min=0.005, sigma_max=20.0)


class GaussianBlock(nn.Module):
    """E[x | x + s z] of Gaussian blocks (b, 1, d, y, x) with mean -0.5 and a separable covariance.

    Args:
        along: covariance along z.
        across: covariance of a slice, flattened.
    """

    def __init__(self, along: Tensor, across: Tensor) -> None:
        super().__init__()
        values, self.u = torch.linalg.eigh(along)
        inner, self.v = torch.linalg.eigh(across)
        self.power = values[:, None] * inner[None]
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        b, _, d, height, width = x.shape
        variance = torch.exp(2 * told).reshape(-1, 1, 1)
        modes = self.u.T @ (x.reshape(b, d, -1) + 0.5) @ self.v
        kept = self.u @ (self.power / (self.power + variance) * modes) @ self.v.T
        return (self.weight * kept - 0.5).reshape(b, 1, d, height, width)


class Mixing(nn.Module):
    """A convolution over neighbouring slices as channels, or over a block: linear in the state, whatever the level."""

    def __init__(self, slices: int, *, block: bool = False, outputs: int = 1) -> None:
        super().__init__()
        self.block = block
        weight = torch.randn(
            (1, 1, 3, 3, 3) if block else (outputs, slices, 3, 3), generator=torch.Generator().manual_seed(2)
        )
        self.weight = nn.Parameter(0.3 * weight)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        convolve = nn.functional.conv3d if self.block else nn.functional.conv2d
        return convolve(x, self.weight, padding=1)


def slab_denoiser(module: nn.Module, fit: SliceFit) -> FittedDenoiser:
    """Return the denoiser of a module that answers the clean slices."""
    volume = fit.channels == "block"
    network = ForeignUNet(module, call_any, channels=fit.slices, volume=volume)
    inner = NetworkDenoiser(
        network, schedule=SCHEDULE, parametrisation=Clean(), conditioning=LogRatio(), reduced=False
    )
    return FittedDenoiser(inner, fit, air=-1.0).eval().requires_grad_(False)
