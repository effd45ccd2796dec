"""Slices of other sizes, channels and orientations: exact answers where there are any."""

import itertools
import math

import pytest
import torch
from torch import nn

from priors.diffusion.conditioning import LogRatio, Step
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.fitted import Averaged, FittedDenoiser, SliceFit
from priors.diffusion.parametrisation import Clean
from priors.diffusion.samplers.sampler import clean_estimate
from priors.diffusion.schedule import EDM, Betas
from priors.diffusion.windows import window_starts
from priors.runtime.errors import InputError


class Colour(nn.Module):
    """E[x | x_t] of colour images whose channels are one grey image of deviation 0.8, exactly."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x, told):
        variance = torch.exp(2 * told).reshape(-1, 1, 1, 1) / self.channels
        mean = x.mean(1, keepdim=True)
        return (self.weight * 0.64 / (0.64 + variance) * mean).expand_as(x)


class Place(nn.Module):
    """Answers with the place in the window a pixel has, and remembers which sizes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []
        self.given: list[torch.Tensor] = []
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x, told):
        self.seen.append(tuple(x.shape[-2:]))
        self.given.append(x)
        return self.weight * x


def fitted(network: nn.Module, fit: SliceFit, *, air: float = -1.0) -> FittedDenoiser:
    inner = NetworkDenoiser(network, schedule=EDM(), parametrisation=Clean(), conditioning=LogRatio())
    return FittedDenoiser(inner, fit, air=air)


def test_a_colour_prior_answers_grey_slices_exactly():
    denoiser = fitted(Colour(), SliceFit(channels="rgb"))
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for level in (0.05, 0.5, 5.0):
        found = clean_estimate(denoiser, x, level)
        # The mean of three channels with noise sqrt(3) s has noise s: the grey posterior mean.
        torch.testing.assert_close(found, 0.64 / (0.64 + level**2) * x, rtol=1e-5, atol=1e-6)
    repeated = Colour()(x.expand(-1, 3, -1, -1), torch.full((2,), math.log(0.5)))
    assert float((repeated[:, :1] - 0.64 / (0.64 + 0.25) * x).abs().max()) > 0.1


def test_the_noise_of_the_channels_is_independent():
    network = Place()
    denoiser = fitted(network, SliceFit(channels="rgb"))
    generator = torch.Generator().manual_seed(1)
    clean_estimate(denoiser, 0.5 * torch.randn(1, 1, 200, 200, generator=generator), 0.5)
    channels = network.given[0][0].flatten(1)
    # Three standard errors of a covariance over 40,000 pixels, of variances 0.75.
    assert torch.allclose(channels.cov(), 0.75 * torch.eye(3), atol=3 * 0.75 * math.sqrt(2 / 40_000))


def test_the_answer_is_one_function_of_the_state():
    x = torch.randn(3, 1, 14, 18, generator=torch.Generator().manual_seed(2))
    denoiser = fitted(Place(), SliceFit(channels="rgb", size=(16, 16), stride=4))
    whole = clean_estimate(denoiser, x, 0.3)
    alone = torch.cat([clean_estimate(denoiser, part, 0.3) for part in x.split(1)])
    assert torch.equal(whole, alone)


@pytest.mark.parametrize("shape", [(16, 16), (10, 13), (40, 16), (33, 70), (12, 50)])
def test_every_pixel_is_seen_in_windows_of_the_one_size(shape):
    network = Place()
    x = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(3))
    found = clean_estimate(fitted(network, SliceFit(size=(16, 16))), x, 0.3)
    assert set(network.seen) == {(16, 16)}
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-6)


def test_windows_overlap_and_reach_both_ends():
    for length in (16, 17, 40, 100):
        starts = window_starts(length, 16)
        assert starts[0] == 0
        assert starts[-1] == length - 16
        assert all(b - a <= 12 for a, b in itertools.pairwise(starts))


def test_padding_is_air_with_the_noise_of_the_level():
    network = Place()
    denoiser = fitted(network, SliceFit(size=(64, 64)), air=-0.9)
    clean_estimate(denoiser, torch.zeros(1, 1, 4, 4), 0.2)
    border = network.given[0].flatten()[: 20 * 64]
    # Four standard errors of 1280 draws.
    assert float(border.mean()) == pytest.approx(-0.9, abs=4 * 0.2 / 1280**0.5)
    assert float(border.std()) == pytest.approx(0.2, rel=4 / (2 * 1280) ** 0.5)


@pytest.mark.parametrize("orientation", ["y x", "-y x", "y -x", "-y -x", "x y", "-x y", "x -y", "-x -y"])
def test_an_orientation_is_undone(orientation):
    network = Place()
    x = torch.randn(1, 1, 4, 6, generator=torch.Generator().manual_seed(4))
    found = clean_estimate(fitted(network, SliceFit(orientation=orientation)), x, 0.3)
    assert torch.equal(found, x)
    assert network.seen[0] == ((6, 4) if "x" in orientation.split()[0] else (4, 6))
    if orientation == "-x y":
        # Its first axis is ours x, backwards.
        assert torch.equal(network.given[0][0, 0], x[0, 0].T.flip(0))


def test_gradients_are_those_of_the_answer():
    denoiser = fitted(Colour(), SliceFit(channels="rgb", size=(8, 8)))
    x = torch.randn(1, 1, 11, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    denoiser = denoiser.double()
    assert torch.autograd.gradcheck(lambda v: clean_estimate(denoiser, v, 0.4), x.requires_grad_(), atol=1e-4)


def test_a_level_the_schedule_does_not_know_is_refused():
    denoiser = fitted(Place(), SliceFit())
    for level in (0.0019, 81.0, float("nan")):
        with pytest.raises(InputError, match="expected a level in that range"):
            clean_estimate(denoiser, torch.zeros(1, 1, 4, 4), level)
    assert Averaged(inner=EDM()).ratio(torch.tensor([1.0], dtype=torch.float64)) == pytest.approx(80 / 3**0.5)


def test_steps_snap_to_whole_ones():
    schedule = Betas()
    levels = schedule.ratio(torch.arange(1000, dtype=torch.float64) / 999)
    told = Step()(schedule, schedule.inverse(levels))
    assert torch.equal(told, torch.arange(1000, dtype=torch.float64))


def test_every_level_has_noise_of_its_own():
    # Levels that are powers of two differ only in the highest bits of their numbers.
    given = Place()
    denoiser = fitted(given, SliceFit(stride=16))
    for level in (0.25, 0.5, 1.0):
        clean_estimate(denoiser, torch.zeros(1, 1, 8, 8), level)
    borders = [(x - x.mean())[0, 0, 12:].flatten() for x in given.given]
    for one, other in itertools.combinations(borders, 2):
        # 64 unit normal values: their correlation has a deviation of 1 / 8.
        assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.5
