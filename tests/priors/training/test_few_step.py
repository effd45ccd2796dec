"""Few-step priors against the flow of Gaussian data, which is known in closed form.

For x ~ N(0, v) every path of the flow is x_r = x_t m(r) / m(t) with m(t)^2 = (1 - t)^2 v + t^2, so that

    u(x_t, r, t) = x_t (1 - m(r) / m(t)) / (t - r),      at r = t   x_t (t - (1 - t) v) / m(t)^2
"""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from priors.card import load_prior
from priors.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser
from priors.diffusion.parametrisation import Flow
from priors.diffusion.samplers.few_step import Jumps
from priors.diffusion.schedule import Rectified
from priors.networks import MonaiUNet, UnshuffledUNet
from priors.training.configuration.config import TrainConfig
from priors.training.few_step import FewStep, few_step_errors, mean_velocity
from priors.training.task import Batch
from tests.support.command_line import inside, mistake
from tests.support.priors.small_training import settings

VARIANCE = 0.36
SCHEDULE = Rectified()
SMALL = {"channels": (16, 16), "norm_groups": 4, "unshuffle": 1, "jumps": True}


class Exact(UnshuffledUNet):
    """The mean velocity in closed form, times a factor that training could change."""

    def __init__(self):
        super().__init__(nn.Identity(), MonaiUNet(**SMALL))
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, log_ratio, labels=None, jump=None):
        s = log_ratio.double().exp()
        t = s / (1 + s)
        jump = torch.zeros_like(t) if jump is None else jump
        square = (1 - t) ** 2 * VARIANCE + t**2
        earlier = (1 - t + jump) ** 2 * VARIANCE + (t - jump) ** 2
        # (m(t)^2 - m(r)^2) / (t - r) is a polynomial, so that nothing is divided by a small jump.
        slope = VARIANCE * (-2 * (1 - t) - jump) + 2 * t - jump
        factor = slope / (square.sqrt() * (square.sqrt() + earlier.sqrt()))
        return self.factor * factor.reshape(-1, 1, 1, 1) * x


@pytest.fixture
def denoiser():
    return NetworkDenoiser(Exact(), schedule=SCHEDULE, parametrisation=Flow(), reduced=False)


def batch_of(*, jump, mixing, count=7, generator=None):
    generator = generator or torch.Generator().manual_seed(0)
    x = VARIANCE**0.5 * torch.randn(count, 1, 2, 2, generator=generator, dtype=torch.float64)
    z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    sigma = torch.linspace(0.2, 0.95, count, dtype=torch.float64)
    return Batch(x, z, SCHEDULE.inverse(sigma / (1 - sigma)), jump=jump * sigma, mixing=mixing)


def test_without_a_jump_the_prior_is_the_exact_conditional_mean(denoiser):
    exact = GaussianDenoiser(
        torch.zeros(1, 2, 2, dtype=torch.float64),
        VARIANCE * torch.eye(4, dtype=torch.float64),
        schedule=SCHEDULE,
    )
    x, t = torch.randn(5, 1, 2, 2, dtype=torch.float64), torch.linspace(0, 1, 5, dtype=torch.float64)
    assert torch.allclose(denoiser(x, t), exact(x, t), atol=1e-10)


def test_jumps_land_on_the_path_of_the_flow_whatever_their_number(denoiser):
    z = torch.randn(4, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first = float(SCHEDULE(torch.ones(1))[1])
    expected = z * VARIANCE**0.5 / ((1 - first) ** 2 * VARIANCE + first**2) ** 0.5
    for count in (1, 2, 5):
        sample = Jumps(steps=count).sample(denoiser, z, generator=torch.Generator())
        assert torch.allclose(sample, expected, atol=1e-10)


def test_the_mean_flow_target_of_the_mean_velocity_is_the_exact_jump(denoiser):
    # The target is linear in v: with v = E[v | x_t] it is its own conditional mean, which has to be u itself.
    batch = batch_of(jump=torch.tensor([0, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64), mixing=0.0)
    state = torch.randn(batch.x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    velocity = denoiser.raw(state, batch.t)
    target = mean_velocity(denoiser, state, velocity, batch=batch)
    assert torch.allclose(target, denoiser.raw(state, batch.t, jump=batch.jump), atol=1e-9)


def test_the_curriculum_approaches_the_mean_flow_target(denoiser):
    # u* of a finite a differs from it by an Euler step: its error falls with a.
    state = torch.randn(7, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    errors = []
    for a in (0.2, 0.1, 0.05):
        batch = batch_of(jump=torch.full((7,), 0.5, dtype=torch.float64), mixing=a)
        velocity = denoiser.raw(state, batch.t)
        target = mean_velocity(denoiser, state, velocity, batch=batch)
        errors.append(
            float((target - denoiser.raw(state, batch.t, jump=batch.jump)).detach().abs().max()) / a
        )
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]


def test_the_loss_of_samples_that_stay_is_smallest_at_the_exact_mean(denoiser):
    batch = batch_of(jump=torch.zeros(100_000, dtype=torch.float64), mixing=0.0, count=100_000)
    loss = few_step_errors(denoiser, batch, objective=FewStep()) / batch.x.numel()
    (slope,) = torch.autograd.grad(loss, denoiser.network.factor)
    # 400,000 values: four deviations of the mean of products of size one.
    assert abs(float(slope)) < 0.02


def test_the_derivative_goes_through_the_real_network():
    torch.manual_seed(0)
    network = MonaiUNet(**SMALL).build().double()
    nn.init.normal_(network.unet.class_embedding.jump[2].weight, std=0.1)
    nn.init.normal_(network.unet.out[2].conv.weight, std=0.1)
    denoiser = NetworkDenoiser(network, schedule=SCHEDULE, parametrisation=Flow(), reduced=False)
    sigma, jump = torch.tensor([0.5], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64)
    state, velocity = torch.randn(2, 1, 1, 16, 16, dtype=torch.float64)
    h = 1e-5

    def along(by):
        time = SCHEDULE.inverse((sigma + by) / (1 - sigma - by))
        return denoiser.raw(state + by * velocity, time, jump=jump + by)

    change = (along(h) - along(-h)) / (2 * h)
    batch = Batch(state, state, SCHEDULE.inverse(sigma / (1 - sigma)), jump=jump, mixing=0.0)
    target = mean_velocity(denoiser, state, velocity, batch=batch)
    # Central differences of step 1e-5 in float64 are good to 1e-6 here; MONAI embeds the level in float32.
    assert torch.allclose(target, velocity - 0.2 * change, atol=2e-2 * float(change.abs().max()))


def test_a_few_step_prior_loads_samples_and_denoises_like_any_other(small_data, tmp_path):
    plain = settings(small_data, steps=100)
    plain |= {"schedule": {"name": "rectified"}, "parametrisation": {"name": "flow"}}
    plain |= {
        "objective": {"kind": "few-step", "still": 0.8, "begin": 0.2, "end": 0.6},
        "levels": {"centre": 0.15, "high": 900.0},
    }
    OmegaConf.save(OmegaConf.create(plain), tmp_path / "c.yaml")
    inside("train", tmp_path / "c.yaml", "--out", tmp_path / "run")
    prior = load_prior(tmp_path / "run" / "prior")
    assert prior.card.network.jumps
    inside(
        "sample",
        tmp_path / "run" / "prior",
        "--out",
        tmp_path / "s.npy",
        "--count",
        2,
        "--steps",
        2,
        "--size",
        32,
    )
    assert np.isfinite(np.load(tmp_path / "s.npy")).all()
    plain["schedule"] = {"name": "cosine"}
    OmegaConf.save(OmegaConf.create(plain), tmp_path / "d.yaml")
    assert "needs schedule" in mistake("train", tmp_path / "d.yaml", "--out", tmp_path / "other")


def test_the_share_of_the_instantaneous_velocity_falls_from_one_to_zero():
    values = [FewStep().mixing(share) for share in np.linspace(0, 1, 21)]
    assert values[0] == 1.0
    assert values[-1] == 0.0
    assert values == sorted(values, reverse=True)
    assert FewStep().mixing(0.55) == pytest.approx(0.5)
    assert TrainConfig.model_fields["objective"].default.kind == "denoising"
