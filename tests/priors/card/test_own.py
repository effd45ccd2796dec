"""A module of one's own as a prior: exact answers for Gaussian data, whatever way it is called."""

import pytest
import torch
from torch import nn

from priors.card import Prior, load_prior
from priors.diffusion.schedule import EDM, VP, Betas, Geometric, Rectified, Schedule
from priors.runtime.errors import InputError
from tests.support.priors.foreign import ask, relative

DEVIATION = 0.6


class Exact(nn.Module):
    """The exact answer for independent data of deviation 0.6, from the number it is told alone."""

    def __init__(self, kind: str, level) -> None:
        super().__init__()
        self.kind, self.level = kind, level
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x_t, told):
        alpha, sigma = (scale.reshape(-1, 1, 1, 1).float() for scale in self.level(told.double()))
        x = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2) * x_t
        z = (x_t - alpha * x) / sigma
        return (
            self.weight
            * {
                "noise": z,
                "clean": x,
                "velocity": alpha * z - sigma * x,
                "score": -z / sigma,
                "flow": z - x,
            }[self.kind]
        )


def table(schedule: Betas):
    def level(step):
        kept = torch.cumprod(1 - schedule.table(), 0)
        log = 0.5 * (torch.log1p(-kept) - torch.log(kept))
        low = step.floor().clamp(0, len(log) - 2).long()
        ratio = torch.exp(torch.lerp(log[low], log[low + 1], step - low))
        alpha = torch.rsqrt(1 + ratio**2)
        return alpha, alpha * ratio

    return level


def vp(told):
    r = told / 999
    exponent = 0.1 * r + 0.5 * 19.9 * r**2
    return torch.exp(-0.5 * exponent), torch.sqrt(-torch.expm1(-exponent))


CASES = [
    ("noise", Betas(), table(Betas())),
    ("velocity", Betas(kind="cosine"), table(Betas(kind="cosine"))),
    ("clean", EDM(), lambda sigma: (torch.ones_like(sigma), sigma)),
    ("score", Geometric(), lambda sigma: (torch.ones_like(sigma), sigma)),
    ("flow", Rectified(), lambda share: (1 - share, share)),
    ("noise", VP(), vp),
]


@pytest.mark.parametrize(("kind", "schedule", "level"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.filterwarnings("ignore:prior")
def test_every_way_of_calling_gives_the_exact_mean(kind: str, schedule: Schedule, level):
    prior = Prior(Exact(kind, level), schedule=schedule, parametrisation=kind, codec=(0.0, 1000.0))
    x_t = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    for t in (0.1, 0.5, 0.9):
        alpha, sigma = (float(scale) for scale in schedule(torch.tensor([t], dtype=torch.float64)))
        wanted = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2) * x_t
        # Float32: noise, score and flow leave the mean as a small difference of state and noise.
        amplified = 1 + (sigma / alpha / DEVIATION) ** 2
        assert relative(ask(prior.denoiser, x_t, t), wanted) < 1e-6 * amplified


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small()


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x, sigma):
        return self.second(torch.tanh(self.first(x) / (1 + sigma.reshape(-1, 1, 1, 1))))


def test_it_warns_once_and_survives_a_folder(tmp_path):
    with pytest.warns(UserWarning, match="no self-test record") as seen:
        prior = Prior(net(), schedule="edm", parametrisation="clean", codec=(0.0, 1000.0), mirrored=True)
    assert len(seen) == 1
    prior.save(tmp_path / "prior")
    with pytest.raises(InputError, match=r"load_prior\(folder, module=Small\(...\)\)"):
        load_prior(tmp_path / "prior")
    again = load_prior(tmp_path / "prior", module=Small())
    x_t = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ask(again.denoiser, x_t, 0.5), ask(prior.denoiser, x_t, 0.5))
    assert again.card.mirrored
    with pytest.raises(InputError, match="tensors missing"):
        load_prior(tmp_path / "prior", module=nn.Conv2d(1, 2, 3))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schedule": "edn"}, "schedule: found 'edn'"),
        ({"parametrisation": "eps"}, "parametrisation: found 'eps'"),
        ({"conditioning": "step"}, "needs a schedule with a table"),
        ({"codec": (0.0, -1.0)}, "codec.scale"),
        ({"unit": "HU", "colour": 1}, "colour: unknown key"),
    ],
)
def test_a_description_that_fits_nothing(change, told):
    given = {"schedule": "edm", "parametrisation": "clean", "codec": (0.0, 1000.0), **change}
    with pytest.raises(InputError, match=told):
        Prior(net(), **given)
