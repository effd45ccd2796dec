r"""What the bottleneck of a network does with images and their perturbations: spikiness and the ICR.

Spikiness (arXiv 2512.20963): the kurtosis of the activations, and their deviation. Memorised images light up few units.

ICR, the invariant contamination ratio (arXiv 2606.09718): with R views of each image (flips, noise), h = sigma + xi,
sigma the mean over an image's views, and S_sigma, S_xi their covariances over images and views,

    S_sigma v = lambda S_xi v,      ICR = 1 / (1 + mean lambda),      mean lambda = tr(S_xi^-1 S_sigma) / d

A mean of R views still holds S_xi / R, which is subtracted; S_xi gets a ridge of a thousandth of its mean eigenvalue.
These figures are informative: no threshold has been shown to separate priors that copy from those that do not.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from priors.card import Prior
from priors.diffusion.samplers.sampler import clean_estimate
from priors.runtime.system.seeds import generator_of

RIDGE = 1e-3
BOTTLENECK = ("middle_block", "mid_block", "middle", "bottleneck")
Features = Float[np.ndarray, "images views d"]


def icr(features: Features) -> float:
    """Return the ICR of features (image, view, d)."""
    images, views, d = features.shape
    centre = features.mean(1)
    within = (features - centre[:, None]).reshape(-1, d)
    noise = within.T @ within / (images * (views - 1))
    signal = np.cov(centre.T, ddof=1).reshape(d, d) - noise / views
    ridge = RIDGE * np.trace(noise) / d * np.eye(d)
    mean = float(np.trace(np.linalg.solve(noise + ridge, signal))) / d
    return float(1 / (1 + max(mean, 0.0)))


def kurtosis(values: Float[np.ndarray, "*shape"]) -> float:
    """Return the fourth standardised moment, 3 for a normal distribution."""
    centred = values - values.mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2)


def bottleneck(network: nn.Module) -> nn.Module | None:
    """Return the module at the bottom of a U-Net, None of a network without one."""
    return next((part for name, part in network.named_modules() if name.split(".")[-1] in BOTTLENECK), None)


@torch.no_grad()
def activations(
    prior: Prior, x: Float[Tensor, "n 1 y x"], level: float, *, views: int, seed: int = 0
) -> Float[np.ndarray, "n views d"] | None:
    """Return means over the field of the bottleneck's channels for views of each slice: mirror images and noise."""
    part = bottleneck(prior.network)
    if part is None:
        return None
    caught: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        caught.append(output.detach().float().mean((2, 3)))

    handle: Callable[[], None] = part.register_forward_hook(hook).remove
    generator = generator_of(seed)
    try:
        for each in x.split(1):
            for view in range(views):
                shown = each.flip(-1) if view % 2 else each
                noise = torch.randn(shown.shape, generator=generator)
                clean_estimate(prior.denoiser, shown + level * noise.to(shown), level)
    finally:
        handle()
    found: Float[np.ndarray, "n views d"] = torch.cat(caught).reshape(len(x), views, -1).cpu().numpy()
    return found
