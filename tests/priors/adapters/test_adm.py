"""guided-diffusion state dicts: the network inferred from names and shapes answers as the original does."""

import numpy as np
import pytest
import torch

from priors.adapters.foreign import Told
from priors.adapters.importing import assembled
from priors.adapters.registry import read_checkpoint
from priors.runtime.errors import InputError
from tests.support.priors.adm_network import AdmNetwork
from tests.support.priors.foreign import ask, randomised, relative

pytest.importorskip("diffusers", reason="the extra tomocast[diffusers] is not installed")
EQUAL = 1e-5
KINDS = {
    "conv": {"resblock_updown": False, "scale_shift": False, "out": 2},
    "resblocks": {"blocks": 2, "attention": (False, False), "multipliers": (1, 2)},
    "three levels": {"multipliers": (1, 1, 2), "attention": (False, True, True), "order": "new"},
    "attention first": {"attention": (True, False), "resblock_updown": False},
    "classes": {"classes": 3},
}


def told(**more) -> Told:
    return Told(**{"offset": 0.0, "scale": 1000.0, "unit": "HU", "size": 16, "heads": 2, **more})


def imported(path, state, what: Told):
    torch.save(state, path)
    return assembled(read_checkpoint(path, what), what, path)


def step(network, x_t, number: int, *, steps: int = 1000, cosine: bool = False, **labels):
    """Return the code's own estimate of x_0 from its prediction of the noise, tables in float64 as it has them."""
    betas = np.linspace(0.1 / steps, 20 / steps, steps)
    if cosine:
        edges = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    kept = float(np.cumprod(1 - betas)[number])
    with torch.no_grad():
        noise = network(x_t, torch.full((len(x_t),), number), **labels)[:, : x_t.shape[1]]
    return kept**-0.5 * x_t - (1 / kept - 1) ** 0.5 * noise


def states(channels: int = 1) -> torch.Tensor:
    return torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network(kind, tmp_path):
    settings = KINDS[kind]
    network = randomised(AdmNetwork(**settings))
    label = {"label": 1} if "classes" in settings else {}
    what = told(qkv=settings.get("order", "old"), **label)
    prior = imported(tmp_path / "model.pt", network.state_dict(), what)
    labels = {"labels": torch.tensor([1, 1])} if label else {}
    for number in (0, 7, 500, 999):
        wanted = step(network, states(), number, **labels)
        assert relative(ask(prior.denoiser, states(), number / 999), wanted) < EQUAL
        if 0 < number < 999:
            assert relative(ask(prior.denoiser, states(), (number + 1) / 999), wanted) > 10 * EQUAL


@pytest.mark.parametrize(("steps", "betas"), [(250, "linear"), (4000, "cosine")])
def test_other_tables(steps, betas, tmp_path):
    network = randomised(AdmNetwork())
    prior = imported(tmp_path / "model.pt", network.state_dict(), told(steps=steps, betas=betas))
    for number in (3, steps // 2):
        wanted = step(network, states(), number, steps=steps, cosine=betas == "cosine")
        assert relative(ask(prior.denoiser, states(), number / (steps - 1)), wanted) < EQUAL


def test_rescaled_times(tmp_path):
    network = randomised(AdmNetwork())
    prior = imported(tmp_path / "model.pt", network.state_dict(), told(steps=4000, times=0.25))

    def quartered(x, times):
        return network(x, 0.25 * times)

    wanted = step(quartered, states(), 1234, steps=4000)
    assert relative(ask(prior.denoiser, states(), 1234 / 3999), wanted) < EQUAL


@pytest.mark.parametrize("change", [{"heads": 1}, {"heads": 4}, {"qkv": "new"}, {"head_width": 16}])
def test_attention_cut_otherwise_is_another_network(change, tmp_path):
    network = randomised(AdmNetwork(), seed=4)
    # Attention has to matter: its weights are drawn large.
    for name, weight in network.named_parameters():
        if "qkv.weight" in name:
            weight.data *= 6
    wanted = step(network, states(), 300)
    right = imported(tmp_path / "right.pt", network.state_dict(), told())
    assert relative(ask(right.denoiser, states(), 300 / 999), wanted) < EQUAL
    wrong = imported(tmp_path / "wrong.pt", network.state_dict(), told(**change))
    assert relative(ask(wrong.denoiser, states(), 300 / 999), wanted) > 10 * EQUAL


def test_a_head_width_is_heads_by_level(tmp_path):
    network = randomised(AdmNetwork(heads=lambda c: c // 16, attention=(True, True)))
    prior = imported(tmp_path / "model.pt", network.state_dict(), told(heads=None, head_width=16))
    wanted = step(network, states(), 300)
    assert relative(ask(prior.denoiser, states(), 300 / 999), wanted) < EQUAL


def test_colour(tmp_path):
    network = randomised(AdmNetwork(channels=3, out=6))
    prior = imported(tmp_path / "model.pt", network.state_dict(), told())
    assert prior.card.fit.channels == "rgb"
    x_t = states(3)
    found = ask(prior.denoiser.inner, x_t, 300 / 999)
    assert relative(found, step(network, x_t, 300)) < EQUAL
    assert ask(prior.denoiser, states(), 0.3).shape == states().shape


def test_wrapped_and_half_precision(tmp_path):
    network = randomised(AdmNetwork())
    state = {f"module.{key}": value.half() for key, value in network.state_dict().items()}
    other = {f"module.{key}": torch.zeros_like(value) for key, value in network.state_dict().items()}
    prior = imported(tmp_path / "model.pt", {"model": other, "ema": state, "step": 5}, told())
    network.load_state_dict({key: value.half().float() for key, value in network.state_dict().items()})
    assert relative(ask(prior.denoiser, states(), 300 / 999), step(network, states(), 300)) < EQUAL
    assert "weights from 'ema'" in prior.card.source.notes


def test_what_it_cannot_be(tmp_path):
    def line(state, **more) -> str:
        with pytest.raises(InputError) as caught:
            imported(tmp_path / "model.pt", state, told(**more))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    state = randomised(AdmNetwork()).state_dict()
    assert "must be told: heads= or head_width=" in line(state, heads=None)
    assert "cannot be cut into 3 heads" in line(state, heads=3)
    assert "label: found None, this prior knows the classes 0 to 2" in line(
        randomised(AdmNetwork(classes=3)).state_dict()
    )
    assert "conditioned on an image" in line(randomised(AdmNetwork(channels=3, out=1)).state_dict())
    assert "takes 2 channels" in line(randomised(AdmNetwork(channels=2, out=1)).state_dict())
    assert "must be told: size=" in line(state, size=None)
    changed = {**state, "input_blocks.0.0.weight": state["input_blocks.0.0.weight"][:16]}
    assert "only a factor of 1 converts" in line(changed)
    volume = {**state, "input_blocks.0.0.weight": state["input_blocks.0.0.weight"][..., None]}
    assert "expected 2: a prior of slices" in line(volume)
    assert "which no network of guided-diffusion has" in line({**state, "extra.weight": torch.zeros(2)})
    fewer = {key: value for key, value in state.items() if not key.startswith("output_blocks.3")}
    assert "fit no such network" in line(fewer)
    assert "NaN" in line({**state, "out.2.bias": torch.full((1,), float("nan"))})
    short = {key: value for key, value in state.items() if key != "middle_block.0.in_layers.0.bias"}
    assert "1 tensors missing" in line(short)
