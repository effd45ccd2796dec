"""score_sde checkpoints: averaged weights by their order, and E[x | x_t] of the network spelt out."""

import argparse
import math

import pytest
import torch

from priors.adapters.foreign import Told
from priors.adapters.importing import assembled
from priors.adapters.registry import read_checkpoint
from priors.runtime.errors import InputError
from tests.support.priors.foreign import ask, relative
from tests.support.priors.ncsnpp_network import FIR, MEAN, Reference, random_state

EQUAL = 1e-5
KINDS = [
    {"progressive": "none", "progressive_input": "residual", "attention": (False, True, False), "blocks": 2},
    {
        "progressive": "output_skip",
        "progressive_input": "input_skip",
        "attention": (True, False, False),
        "blocks": 1,
    },
    {
        "progressive": "output_skip",
        "progressive_input": "residual",
        "attention": (False, False, False),
        "blocks": 1,
    },
    {"progressive": "none", "progressive_input": "none", "attention": (False, False, True), "blocks": 1},
]
MULTIPLIERS = (1, 2, 2)


def told(**more) -> Told:
    return Told(**{"offset": -1000.0, "scale": 2000.0, "unit": "HU", "size": 16, **more})


def weights(kind, **more) -> dict[str, torch.Tensor]:
    return random_state(multipliers=MULTIPLIERS, **kind, **more)


def checkpoint(path, state, **changes):
    """Save as score_sde does: wrapped names, a list of averages, and what the optimiser held."""
    shadow = [value for key, value in state.items() if key != "all_modules.0.W"]
    frozen = {key: value for key, value in state.items() if key == "all_modules.0.W"}
    frozen["sigmas"] = torch.linspace(1, 0, 5)
    model = {**{key: torch.zeros_like(value) for key, value in state.items()}, **frozen}
    content = {
        "model": {f"module.{key}": value for key, value in model.items()},
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": shadow},
        "optimizer": argparse.Namespace(lr=2e-4),
        "step": 9,
    }
    torch.save({**content, **changes}, path)
    return path


def imported(path, **more):
    return assembled(read_checkpoint(path, told(**more)), told(**more), path)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind['progressive']} {kind['progressive_input']}")
def test_every_kind_of_network(kind, tmp_path):
    state = weights(kind)
    prior = imported(checkpoint(tmp_path / "c.pth", state))
    reference = Reference(state, multipliers=MULTIPLIERS, **kind)
    x_t = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    for sigma in (0.05, 1.0, 20.0):
        wanted = x_t + sigma**2 * reference.score(x_t, sigma)
        t = prior.denoiser.schedule.inverse(torch.tensor(sigma, dtype=torch.float64))
        found = ask(prior.denoiser, x_t, float(t))
        assert relative(found, wanted) < EQUAL
        if sigma >= 1:
            assert relative(x_t + sigma**2 * reference.score(x_t, 1.05 * sigma), wanted) > 10 * EQUAL


def scales(t: float, *, sub: bool = False) -> tuple[float, float]:
    """Return alpha and deviation of variance-preserving diffusion at a time: log alpha = -t^2 19.9 / 4 - t 0.1 / 2."""
    alpha = math.exp(-0.25 * t**2 * 19.9 - 0.5 * t * 0.1)
    return alpha, 1 - alpha**2 if sub else math.sqrt(1 - alpha**2)


def table(number: int) -> tuple[float, float]:
    """Return the same at a step of the table of a thousand betas."""
    kept = math.prod(1 - (0.1 + 19.9 * n / 999) / 1000 for n in range(number + 1))
    return math.sqrt(kept), math.sqrt(1 - kept)


PRESERVING = [
    ("DDPM++", KINDS[3], MEAN, {}),
    ("NCSN++", KINDS[0], FIR, {"fir": True}),
    ("sub-VP", KINDS[3], MEAN, {"sde": "subvp"}),
    ("steps", KINDS[3], MEAN, {"steps": 1000}),
]


@pytest.mark.parametrize(("name", "kind", "taps", "more"), PRESERVING, ids=lambda value: str(value)[:8])
def test_variance_preserving(name, kind, taps, more, tmp_path):
    state = weights(kind, embedding="positional")
    prior = imported(checkpoint(tmp_path / "c.pth", state), **more)
    reference = Reference(state, multipliers=MULTIPLIERS, embedding="positional", taps=taps, **kind)
    x_t = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    schedule = prior.denoiser.schedule
    for number in (20, 400, 900):
        now, later = (
            table(n) if "steps" in more else scales(n / 999, sub="sde" in more) for n in (number, number + 1)
        )
        alpha, std = now
        # The score is -output / std, the network told 999 t.
        wanted = (x_t + std**2 * (-reference(x_t, number) / std)) / alpha
        times = [
            float(schedule.inverse(torch.tensor(sigma / a, dtype=torch.float64))) for a, sigma in (now, later)
        ]
        assert relative(ask(prior.denoiser, x_t, times[0]), wanted) < EQUAL
        assert relative(ask(prior.denoiser, x_t, times[1]), wanted) > 10 * EQUAL
    assert any("999" in note for note in prior.card.source.notes) == ("steps" not in more)


def test_averages_in_another_order_are_refused(tmp_path):
    state = weights(KINDS[0])
    shadow = [value for key, value in state.items() if key != "all_modules.0.W"]
    swapped = [*shadow[1:], shadow[0]]
    for ema in ({"shadow_params": swapped}, {"shadow_params": shadow[:-1]}, {"shadow_params": None}, {}):
        with pytest.raises(InputError, match="ema") as caught:
            imported(checkpoint(tmp_path / "c.pth", state, ema=ema))
        assert "\n" not in str(caught.value)
    last = imported(checkpoint(tmp_path / "c.pth", state, ema={}), weights="model")
    assert float(last.network.encoder[0].weight.abs().max()) == 0


def test_what_it_cannot_be(tmp_path):
    state = weights(KINDS[0])
    with pytest.raises(InputError, match="must be told: size="):
        imported(checkpoint(tmp_path / "c.pth", state), size=None)
    fewer = {key: value for key, value in state.items() if not key.startswith("all_modules.9.")}
    with pytest.raises(InputError, match=r"order of NCSN\+\+|does not fit"):
        imported(checkpoint(tmp_path / "c.pth", fewer))
    with pytest.raises(InputError, match="told Fourier features of sigma"):
        imported(checkpoint(tmp_path / "c.pth", state), sde="vp")
    old = {key.replace("Conv_2.weight", "NIN_0.W"): value for key, value in state.items()}
    with pytest.raises(InputError, match="residual blocks of DDPM"):
        imported(checkpoint(tmp_path / "c.pth", old))
