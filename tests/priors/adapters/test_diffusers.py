"""Folders of diffusers: E[x | x_t] is what their own schedulers step with, for every kind of levels and output."""

import json
import shutil

import pytest
import torch

from priors.adapters.foreign import Told
from priors.adapters.importing import assembled, import_prior
from priors.adapters.registry import read_checkpoint
from priors.card import load_prior, read_card
from priors.runtime.errors import InputError
from tests.support.priors.foreign import ask, relative, save_diffusers, small_unet

diffusers = pytest.importorskip("diffusers", reason="the extra tomocast[diffusers] is not installed")
TOLD = Told(offset=0.0, scale=1000.0, unit="HU")
# Networks compute in float32 and the families' tables are float32 too: a few parts in a million.
EQUAL = 1e-5


def states() -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def unet():
    return small_unet()


def imported(folder):
    return assembled(read_checkpoint(folder, TOLD), TOLD, folder)


TABLES = [
    ("DDPMScheduler", {"beta_schedule": "linear", "prediction_type": "epsilon"}),
    ("DDPMScheduler", {"beta_schedule": "sigmoid", "prediction_type": "sample"}),
    ("DDIMScheduler", {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}),
    ("DDIMScheduler", {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}),
    (
        "DDIMScheduler",
        {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    ),
    ("DDPMScheduler", {"beta_schedule": "laplace", "num_train_timesteps": 400}),
    ("DDPMScheduler", {"trained_betas": [0.001 * (k + 1) for k in range(40)], "num_train_timesteps": 40}),
]


@pytest.mark.parametrize(("name", "settings"), TABLES, ids=lambda value: str(value)[:60])
def test_tables_of_betas(unet, tmp_path, name, settings):
    scheduler = getattr(diffusers, name)(**{"clip_sample": False, **settings})
    prior = imported(save_diffusers(tmp_path, unet, scheduler))
    count = len(scheduler.betas)
    scheduler.set_timesteps(count)
    x_t, table = states(), prior.card.schedule.steps()
    for step in (0, 7, count // 2, count - 2):
        output = unet(x_t, step).sample
        wanted = scheduler.step(output, step, x_t, generator=torch.Generator()).pred_original_sample
        found = ask(prior.denoiser, x_t, step / (table - 1))
        assert relative(found, wanted) < EQUAL
        # The test sees a step told wrongly: random networks change by about a percent from one to the next.
        neighbour = ask(prior.denoiser, x_t, (step + 1) / (table - 1))
        assert relative(neighbour, wanted) > 10 * EQUAL


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_levels(unet, tmp_path, prediction):
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.01, sigma_max=50.0, prediction_type=prediction)
    prior = imported(save_diffusers(tmp_path, unet, scheduler))
    scheduler.set_timesteps(10)
    x_t = states()
    for number in (0, 4, 9):
        told, sigma = scheduler.timesteps[number], scheduler.sigmas[number]
        scaled = scheduler.precondition_inputs(x_t, sigma)
        wanted = scheduler.precondition_outputs(x_t, unet(scaled, told).sample, sigma)
        t = prior.denoiser.schedule.inverse(sigma.double())
        assert relative(ask(prior.denoiser, x_t, float(t)), wanted) < EQUAL


def test_flow_matching(unet, tmp_path):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    prior = imported(save_diffusers(tmp_path, unet, scheduler))
    scheduler.set_timesteps(10)
    x_t = states()
    for number in (1, 5, 8):
        told, sigma = scheduler.timesteps[number], scheduler.sigmas[number]
        # A step of Euler's method all the way to sigma = 0 ends at the estimate.
        wanted = x_t - sigma * unet(x_t, told).sample
        t = prior.denoiser.schedule.inverse(sigma.double() / (1 - sigma.double()))
        assert relative(ask(prior.denoiser, x_t, float(t)), wanted) < EQUAL


def test_variance_exploding(tmp_path):
    unet = small_unet(time_embedding_type="fourier", block_out_channels=[8, 16])
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_min=0.02, sigma_max=30.0)
    prior = imported(save_diffusers(tmp_path, unet, scheduler))
    x_t = states()
    for sigma in (0.05, 1.0, 20.0):
        score = unet(x_t, torch.full((2,), sigma)).sample
        t = prior.denoiser.schedule.inverse(torch.tensor(sigma, dtype=torch.float64))
        assert relative(ask(prior.denoiser, x_t, float(t)), x_t + sigma**2 * score) < EQUAL


def test_a_class_is_asked_for_and_can_be_chosen_later(tmp_path):
    unet = small_unet(num_class_embeds=3)
    folder = save_diffusers(tmp_path / "checkpoint", unet, diffusers.DDPMScheduler())
    with pytest.raises(InputError, match="label: found None, this prior knows the classes 0 to 2"):
        imported(folder)
    import_prior(folder, TOLD.model_copy(update={"label": 1}), out=tmp_path / "prior")
    x_t, t = states(), 500 / 999
    own, other = load_prior(tmp_path / "prior"), load_prior(tmp_path / "prior", label=2)
    for prior, label in ((own, 1), (other, 2)):
        output = unet(x_t, 500, class_labels=torch.tensor([label, label])).sample
        wanted = diffusers.DDPMScheduler(clip_sample=False).step(output, 500, x_t).pred_original_sample
        assert relative(ask(prior.denoiser, x_t, t), wanted) < EQUAL
    assert relative(ask(own.denoiser, x_t, t), ask(other.denoiser, x_t, t)) > 10 * EQUAL


def test_averaged_weights_are_preferred(unet, tmp_path):
    folder = save_diffusers(tmp_path, unet, diffusers.DDPMScheduler())
    averaged = small_unet()
    averaged.conv_in.weight.data *= 2
    averaged.save_pretrained(folder / "unet_ema")
    own = imported(folder)
    assert torch.equal(own.network.module.conv_in.weight, averaged.conv_in.weight)
    told = Told(offset=0.0, scale=1000.0, unit="HU", weights="model")
    plain = assembled(read_checkpoint(folder, told), told, folder)
    assert torch.equal(plain.network.module.conv_in.weight, unet.conv_in.weight)


def test_the_folder_loads_like_any_prior(unet, tmp_path):
    folder = save_diffusers(tmp_path / "checkpoint", unet, diffusers.DDPMScheduler(clip_sample=False))
    card = import_prior(folder, TOLD, out=tmp_path / "prior")
    assert card == read_card(tmp_path / "prior")
    assert card.source.family == "diffusers"
    assert card.fit.size == (32, 32)  # it attends
    assert not card.mirrored
    assert not card.bfloat16
    if card.memory is not None:
        graph, plain = (card.memory.chunk(2, 32 * 32, vjp=vjp) for vjp in (True, False))
        assert graph > plain > 2 * 32 * 32 * 4  # at least the slices themselves
    x_t = states()
    assert torch.equal(
        ask(load_prior(tmp_path / "prior").denoiser, x_t, 0.5), ask(imported(folder).denoiser, x_t, 0.5)
    )
    with pytest.raises(InputError, match="exists already"):
        import_prior(folder, TOLD, out=tmp_path / "prior")


def test_what_nobody_said_is_asked_for(unet, tmp_path):
    folder = save_diffusers(tmp_path, unet, diffusers.DDPMScheduler())
    with pytest.raises(InputError, match="must be told: --offset, --scale, --unit"):
        assembled(read_checkpoint(folder, Told()), Told(), folder)
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(InputError, match="found no scheduler"):
        imported(folder)
    told = Told(offset=0.0, scale=1.0, unit="HU", steps=1000, target="noise")
    assert "betas linear taken as usual, not stated" in read_checkpoint(folder, told).notes


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, "consistency model"),
        ("scheduler/scheduler_config.json", {"_class_name": "Mine"}, "is not known"),
        ("scheduler/scheduler_config.json", {"prediction_type": "x"}, "prediction_type: found 'x'"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "x"}, "beta_schedule: found 'x'"),
        ("scheduler/scheduler_config.json", {"beta_start": 2}, "cannot be used"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "expected a UNet2DModel"),
        ("unet/config.json", {"block_out_channels": [8, 24]}, "expected"),
        ("unet/config.json", {"block_out_channels": [10**7, 10**7]}, "expected"),
        ("unet/config.json", {"down_block_types": ["Nothing", "Nothing"]}, "diffusers.UNet2DModel"),
        ("unet/config.json", {"own": 1}, "takes no argument 'own'"),
        ("unet/config.json", {"in_channels": 4, "out_channels": 4}, "expected"),
    ],
)
def test_a_folder_that_cannot_be_a_prior(unet, tmp_path, file, change, told):
    folder = save_diffusers(tmp_path, unet, diffusers.DDPMScheduler())
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=told) as caught:
        imported(folder)
    assert "\n" not in str(caught.value)


def test_a_latent_model_is_refused(unet, tmp_path):
    folder = save_diffusers(tmp_path, unet, diffusers.DDPMScheduler())
    (folder / "vqvae").mkdir()
    with pytest.raises(InputError, match="not affine"):
        imported(folder)


def test_without_the_extra_one_line_says_so(unet, tmp_path, monkeypatch):
    folder = save_diffusers(tmp_path, unet, diffusers.DDPMScheduler())
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(InputError, match=r"pip install 'tomocast\[diffusers\]'"):
        imported(folder)
