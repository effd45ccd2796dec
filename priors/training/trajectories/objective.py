r"""The training objective of trajectories: weighted squared error of the velocity, frames at their own levels.

    x_t = alpha x + sigma z,   v = alpha z - sigma x,   loss = mean over valid values of w_k |v_k - network|^2

An error e of the clean estimate is an error e / sigma of the velocity, at SNR = alpha^2 / sigma^2 per frame,
so weighting the clean error by min(SNR, S) (min-SNR, Hang et al. 2023, arXiv 2303.09556) is w = min(SNR, S) /
(SNR + 1) for the velocity. The fused weight adds what the frames before are worth (Diffusion Forcing, arXiv
2407.01392): with n_k = min(SNR_k, S) / S and the running mean over past frames C_0 = 0, C_{k+1} = d C_k +
(1 - d) n_k,

    g_k = 1 - (1 - d C_k)(1 - n_k),   h_k = 1 - (1 - d C_k)(1 - SNR_k / S),   w_k = S g_k / (S h_k + 1)

Clean context frames and missing values carry no loss.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from priors.diffusion.denoiser import NetworkDenoiser, broadcast_scales
from priors.training.task import Batch


class Weighting(BaseModel):
    """Weight of each frame's velocity error.

    Attributes:
        kind: ``uniform`` is 1 everywhere; the others see the module's text.
        snr: S, the signal-to-noise ratio above which a frame counts no more.
        decay: d, the memory of the running mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["fused-snr", "min-snr", "uniform"] = "fused-snr"
    snr: float = Field(5.0, gt=0)
    decay: float = Field(0.96, gt=0, lt=1)

    def __call__(self, ratio: Float[Tensor, "b f"]) -> Float[Tensor, "b f"]:
        """Return the weights, float64, for sigma / alpha of every frame."""
        snr = ratio.double() ** -2
        if self.kind == "uniform":
            return torch.ones_like(snr)
        n = (snr / self.snr).clamp(max=1)
        # h of a nearly clean frame is about SNR / S, which overflows nothing in float64.
        past = self._past(n) if self.kind == "fused-snr" else torch.zeros_like(n)
        kept = self.decay * past
        # 1 - (1 - kept)(1 - n), written so that a small n is not lost beside 1.
        g, h = kept + n * (1 - kept), kept + snr / self.snr * (1 - kept)
        return self.snr * g / (self.snr * h + 1)

    def _past(self, n: Float[Tensor, "b f"]) -> Float[Tensor, "b f"]:
        """Return the running mean over the frames before each frame."""
        means = [torch.zeros_like(n[:, 0])]
        for k in range(n.shape[1] - 1):
            means.append(self.decay * means[-1] + (1 - self.decay) * n[:, k])
        return torch.stack(means, dim=1)


def trajectory_errors(denoiser: NetworkDenoiser, batch: Batch, *, weighting: Weighting) -> Float[Tensor, ""]:
    """Return the sum of weighted squared errors over the values of ``batch`` that carry a loss.

    Args:
        denoiser: the network in training.
        batch: clean windows, zero where a value is missing; frames at t = 0 are context.
        weighting: weight by level.
    """
    x, t = batch.x, batch.t
    context = t == 0
    alpha, sigma = broadcast_scales(denoiser.schedule, x, t)
    clean = context.reshape(*context.shape, 1, 1, 1)
    # Missing values hold noise alone, like a network value of zero; context is given exactly.
    seen = torch.where(clean, x, alpha * x + sigma * batch.noise)
    output = denoiser.with_settings(causal=batch.causal).raw(seen, t)
    target = denoiser.parametrisation.target(x, batch.noise, alpha, sigma)
    weight = (weighting(denoiser.schedule.ratio(t)) * ~context).to(target.dtype).reshape(clean.shape)
    counted = weight if batch.counted is None else weight * batch.counted
    return (counted * (output - target) ** 2).sum()
