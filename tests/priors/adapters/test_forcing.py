"""ForcingDAS checkpoints: E[x | x_t] frame by frame, finished frames as in training, and assimilation at both lags."""

import math

import numpy as np
import pytest
import torch

import tomocast as tc
from priors.adapters.foreign import Told
from priors.adapters.importing import assembled, import_prior
from priors.adapters.registry import read_checkpoint
from priors.card import load_prior
from priors.runtime.errors import InputError
from tests.support.command_line import inside
from tests.support.priors.forcing_network import PREFIX, network, small_state
from tests.support.priors.foreign import relative

VARIABLES = ({"name": "vorticity", "unit": "s-1", "offset": -20.0, "scale": 40.0},)
SPACE = {"step_s": 0.5, "spacing": (0.1, 0.1), "spacing_unit": "m", "frames": 4}
EQUAL = 1e-5


def told(**more) -> Told:
    return Told(**{"grid": (8, 8), "variables": VARIABLES, "trajectory": SPACE, "heads": 2, **more})


def saved(path, state):
    torch.save({"state_dict": state, "epoch": 3, "pytorch-lightning_version": "2.0"}, path)
    return path


def imported(path, state, **more):
    return assembled(read_checkpoint(saved(path, state), told(**more)), told(**more), path)


def wanted(state, x_t, steps, *, heads=2, causal=True):
    kept = torch.cumprod(1 - state["diffusion_model.betas"].double(), 0)[steps]
    alpha, sigma = (scale.sqrt().float().reshape(-1, 1, 1, 1) for scale in (kept, 1 - kept))
    return alpha * x_t - sigma * network(state, x_t, steps.float(), heads=heads, causal=causal)


@pytest.mark.parametrize(("full", "causal"), [(False, True), (False, False), (True, False)])
def test_every_frame_at_its_own_level(full, causal, tmp_path):
    state = small_state(full=full)
    prior = imported(tmp_path / "m.ckpt", state, causal=causal)
    steps = torch.tensor([40, 300, 301, 700, 998])
    x_t = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = prior.denoiser(x_t[None], (steps.double() / 999)[None])[0]
    assert relative(found, wanted(state, x_t, steps, causal=causal)) < EQUAL
    assert (
        relative(found, wanted(state, x_t, steps + torch.tensor([0, 1, 0, 0, 0]), causal=causal)) > 10 * EQUAL
    )
    assert relative(found, wanted(state, x_t, steps, heads=1, causal=causal)) > 10 * EQUAL
    assert relative(found, wanted(state, x_t, steps, causal=not causal)) > 10 * EQUAL or full


def test_finished_frames_are_told_the_step_of_training_without_noise(tmp_path):
    state = small_state()
    prior = imported(tmp_path / "m.ckpt", state)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    alpha = float(prior.denoiser.schedule(torch.zeros(1))[0])
    with torch.no_grad():
        found = prior.denoiser(
            torch.cat([alpha * x[:2], x[2:]])[None], torch.tensor([[0, 0, 0.5, 0.9]]).double()
        )[0]
    kept = torch.cumprod(1 - state["diffusion_model.betas"].double(), 0)
    steps = torch.tensor([14.0, 14.0, 999 * 0.5, 999 * 0.9])
    output = network(state, torch.cat([float(kept[14] ** 0.5) * x[:2], x[2:]]), steps, heads=2, causal=True)
    scales = prior.denoiser.schedule(torch.tensor([0.5, 0.9]))
    a, s = (scale.float().reshape(-1, 1, 1, 1) for scale in scales)
    assert relative(found[2:], a * x[2:] - s * output[2:]) < EQUAL


def test_the_codec_is_both_normalisations(tmp_path):
    prior = imported(tmp_path / "m.ckpt", small_state())
    (variable,) = prior.fields.variables
    # (x + 20) / 40 in [0, 1], then (y - 0.5) / 0.5: zero is -20 + 40 * 0.5, one unit 40 * 0.5.
    assert (variable.offset, variable.scale) == (0.0, 20.0)


def test_shuffled_weights_are_another_network(tmp_path):
    state = small_state()
    first, second = (f"{PREFIX}blocks.{n}.mlp.0.weight" for n in (0, 1))
    shuffled = {**state, first: state[second], second: state[first]}
    x_t = torch.randn(1, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.full((1, 3), 0.5, dtype=torch.float64)
    with torch.no_grad():
        own, other = (imported(tmp_path / "m.ckpt", each).denoiser(x_t, t) for each in (state, shuffled))
    assert relative(other, own) > 10 * EQUAL


def test_what_must_be_told_and_what_cannot_be(tmp_path):
    def line(state, **more) -> str:
        with pytest.raises(InputError) as caught:
            imported(tmp_path / "m.ckpt", state, **more)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    state = small_state()
    assert "must be told: grid=, variables=, trajectory=" in line(
        state, grid=None, variables=(), trajectory={}
    )
    assert "none of the published sizes" in line(state, heads=None)
    assert "are no whole number of such frames" in line(state, grid=(12, 20))
    assert "instead of the later ones" in line(small_state(full=True))
    assert "betas are missing" in line({k: v for k, v in state.items() if "betas" not in k})
    assert "trajectory.step_s: found nothing" in line(
        state, trajectory={"spacing": (1, 1), "spacing_unit": "m"}
    )
    assert "expected one per variable" in line(small_state(channels=2))


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("observed")
    inside("simulate", "system", "navier-stokes", "--steps", 8, "--seed", 7, "--out", folder / "truth.nc")
    inside("observe", folder / "truth.nc", "--fraction", 0.2, "--sigma", 0.1, "--out", folder / "observed.nc")
    return folder


@pytest.mark.parametrize("lag", ["0", "inf"])
def test_it_assimilates(observed, tmp_path, lag):
    state = small_state(patch=8, tokens=64, frames=6)
    space = {**SPACE, "spacing": (2 * math.pi / 64,) * 2, "periodic": (True, True)}
    # One network unit is the field's own deviation.
    what = told(grid=(64, 64), trajectory=space, variables=({**VARIABLES[0], "offset": -2.0, "scale": 4.0},))
    import_prior(saved(tmp_path / "m.ckpt", state), what, out=tmp_path / "prior")
    denoiser = load_prior(tmp_path / "prior").denoiser
    assert (denoiser.longest, denoiser.caches) == (6, False)
    # Eight frames: more than the network has positions for, so finished ones leave it.
    words = ["--prior", tmp_path / "prior", "--lag", lag, "--members", 2, "--steps", 3, "--seed", 1]
    inside("assimilate", observed / "observed.nc", *words, "--out", tmp_path / "run")
    members = tc.read_ensemble(tmp_path / "run").members
    assert members.shape[1] == 2
    assert members.shape[2] >= 8
    assert np.isfinite(members).all()
    # Random weights know nothing of the flow, but observations were used: chance alone gives 0.006.
    truth = tc.read_ensemble(observed / "truth.nc").members
    assert np.corrcoef(members.mean(1).ravel(), truth[:, 0].ravel())[0, 1] > 0.1
