"""The loss of trajectories: weights in closed form; context and missing values carry none."""

import math

import pytest
import torch
from torch import nn

from priors.diffusion.denoiser import NetworkDenoiser, broadcast_scales
from priors.diffusion.parametrisation import Velocity
from priors.diffusion.schedule import Cosine
from priors.training.task import Batch
from priors.training.trajectories.objective import Weighting, trajectory_errors


def test_min_snr_weights_the_clean_error_by_the_capped_ratio():
    ratio = torch.logspace(-3, 3, 25, dtype=torch.float64)[None]
    snr = ratio**-2
    found = Weighting(kind="min-snr", snr=5.0)(ratio)
    torch.testing.assert_close(found, snr.clamp(max=5) / (snr + 1), rtol=1e-12, atol=0)


def test_the_fused_weight_by_its_recursion_written_out():
    ratio = torch.rand(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 0.05
    found = Weighting(kind="fused-snr", snr=5.0, decay=0.96)(ratio)
    for sample in range(3):
        past = 0.0
        for k in range(7):
            snr = float(ratio[sample, k]) ** -2
            n = min(snr, 5) / 5
            g = 1 - (1 - 0.96 * past) * (1 - n)
            h = 1 - (1 - 0.96 * past) * (1 - snr / 5)
            assert float(found[sample, k]) == pytest.approx(5 * g / (5 * h + 1), rel=1e-12)
            past = 0.96 * past + 0.04 * n


def test_the_fused_weight_of_equal_frames_in_closed_form():
    # Equal levels make the running mean geometric: C_k = n (1 - d^k).
    ratio = torch.full((1, 30), 0.7, dtype=torch.float64)
    n = 0.7**-2 / 5
    k = torch.arange(30, dtype=torch.float64)
    past = n * (1 - 0.96**k)
    g = 1 - (1 - 0.96 * past) * (1 - n)
    torch.testing.assert_close(Weighting()(ratio)[0], 5 * g / (5 * g + 1), rtol=1e-12, atol=0)


def test_the_first_frame_has_no_past_and_pure_noise_after_clean_frames_counts():
    first = Weighting()(torch.tensor([[0.5, 1.0]], dtype=torch.float64))[0, 0]
    assert float(first) == pytest.approx(4 / 5)
    levels = torch.tensor([[1e-3] * 5 + [1e3], [1e3] * 6], dtype=torch.float64)
    weight = Weighting()(levels)
    # After five clean frames C = 1 - 0.96^5; SNR = 0 leaves g = h = 0.96 C.
    g = 0.96 * (1 - 0.96**5)
    assert float(weight[0, 5]) == pytest.approx(5 * g / (5 * g + 1), rel=1e-4)
    assert float(weight[1, 5]) < 1e-5


class Zero(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
        return self.bias.expand(x.shape)


def loss_of(x, valid, t, context, *, network=None, weighting=None):
    denoiser = NetworkDenoiser(
        network or Zero(), schedule=Cosine(), parametrisation=Velocity(), reduced=False
    )
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    batch = Batch(x, z, t, valid & ~context[..., None, None, None])
    return trajectory_errors(denoiser, batch, weighting=weighting or Weighting(kind="uniform")) / max(
        1, batch.values
    )


def test_the_loss_of_a_silent_network_is_the_mean_square_of_the_velocity():
    x = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([[0.0, 0.3, 0.9], [0.2, 0.5, 1.0]], dtype=torch.float64)
    valid = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) > 0.3
    alpha, sigma = broadcast_scales(Cosine(), x, t)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    counted = valid.clone()
    counted[0, 0] = False
    expected = ((alpha * z - sigma * x) ** 2)[counted].mean()
    torch.testing.assert_close(loss_of(x, valid, t, t == 0), expected)


def test_context_and_missing_values_carry_no_loss():
    t = torch.tensor([[0.0, 0.3, 0.9]], dtype=torch.float64)
    x = torch.randn(1, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(x.shape, dtype=torch.bool)
    valid[0, 1, 0, 2] = False
    before = loss_of(x, valid, t, t == 0)
    x[0, 0] += 10
    x[0, 1, 0, 2] += 10
    assert torch.equal(loss_of(x, valid, t, t == 0), before)
    assert float(loss_of(x, torch.zeros_like(valid), t, t == 0).detach()) == 0


class Watcher(Zero):
    def forward(self, x: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
        self.seen, self.log_ratio = x, log_ratio
        return super().forward(x, log_ratio)


def test_context_is_shown_without_noise_at_level_zero():
    network = Watcher()
    t = torch.tensor([[0.0, 0.5]], dtype=torch.float64)
    x = torch.randn(1, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    loss_of(x, torch.ones(x.shape, dtype=torch.bool), t, t == 0, network=network)
    assert torch.equal(network.seen[:, 0], x[:, 0])
    assert float(network.log_ratio[0, 0]) == pytest.approx(math.log(float(Cosine().ratio(t[0, 0]))), rel=1e-6)
    assert float((network.seen[:, 1] - x[:, 1]).abs().max()) > 0.1
