"""MONAI bundles and state dicts: E[x | x_t] is what MONAI's own schedulers step with; code in a bundle is never run."""

import json

import pytest
import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

from priors.adapters.foreign import Told
from priors.adapters.importing import assembled
from priors.adapters.registry import read_checkpoint
from priors.runtime.errors import InputError
from tests.support.priors.foreign import ask, randomised, relative

EQUAL = 1e-5
NETWORK = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [8, 16],
    "num_res_blocks": 1,
    "attention_levels": [False, True],
    "norm_num_groups": 4,
    "num_head_channels": 8,
}
SCHEDULER = {
    "_target_": "monai.networks.schedulers.DDPMScheduler",
    "num_train_timesteps": 1000,
    "schedule": "scaled_linear_beta",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "clip_sample": False,
}


def told(**more) -> Told:
    return Told(**{"offset": 0.0, "scale": 1000.0, "unit": "HU", "size": 16, **more})


def network(**changes) -> torch.nn.Module:
    return randomised(DiffusionModelUNet(**{**NETWORK, **changes}))


def bundle(folder, module, *, definition=NETWORK, scheduler=SCHEDULER, **more):
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    tree = {"network_def": {"_target_": "monai.networks.nets.DiffusionModelUNet", **definition}, **more}
    (folder / "configs" / "inference.json").write_text(json.dumps({**tree, "noise_scheduler": scheduler}))
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "0.1"}))
    torch.save(module.state_dict(), folder / "models" / "model.pt")
    return folder


def imported(source, **more):
    return assembled(read_checkpoint(source, told(**more)), told(**more), source)


def states() -> torch.Tensor:
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(3))


def output(module, x_t, number: float) -> torch.Tensor:
    with torch.no_grad():
        return module(x_t, timesteps=torch.full((len(x_t),), float(number)))


SCHEDULES = [
    ({}, {}),
    ({"schedule": "linear_beta"}, {"prediction_type": "sample"}),
    ({"schedule": "cosine", "drop": True}, {"prediction_type": "v_prediction"}),
    ({"schedule": "sigmoid_beta"}, {}),
]


@pytest.mark.parametrize(("schedule", "meaning"), SCHEDULES)
def test_a_bundle_with_betas(schedule, meaning, tmp_path):
    module = network()
    definition = {**SCHEDULER, **schedule, **meaning}
    if definition.pop("drop", False):
        del definition["beta_start"], definition["beta_end"]
    prior = imported(bundle(tmp_path / "b", module, scheduler=definition))
    arguments = {key: value for key, value in definition.items() if key != "_target_"}
    own = DDPMScheduler(**arguments)
    for number in (0, 7, 500, 998):
        wanted = own.step(output(module, states(), number), number, states())[1]
        assert relative(ask(prior.denoiser, states(), number / 999), wanted) < EQUAL
        assert relative(ask(prior.denoiser, states(), (number + 1) / 999), wanted) > 10 * EQUAL


def test_a_bundle_with_rectified_flow(tmp_path):
    module = network()
    definition = {"_target_": "monai.networks.schedulers.RFlowScheduler", "num_train_timesteps": 1000}
    prior = imported(bundle(tmp_path / "b", module, scheduler=definition))
    own = RFlowScheduler(num_train_timesteps=1000)
    own.set_timesteps(10)
    for number in (100, 500, 900):
        wanted = own.step(output(module, states(), number), number, states(), next_timestep=0)[1]
        t = prior.denoiser.schedule.inverse(torch.tensor(number / (1000 - number), dtype=torch.float64))
        assert relative(ask(prior.denoiser, states(), float(t)), wanted) < EQUAL


def test_a_state_dict_tells_all_but_heads_and_levels(tmp_path):
    module = network(num_res_blocks=[1, 2], num_class_embeds=4, resblock_updown=True)
    # Attention has to matter: its weights are drawn large.
    for name, weight in module.named_parameters():
        if ".to_q.weight" in name or ".to_k.weight" in name:
            weight.data *= 6
    torch.save({"unet_state_dict": module.state_dict()}, tmp_path / "model.pt")
    options = {
        "head_width": 8,
        "groups": 4,
        "label": 2,
        "betas": "scaled_linear",
        "start": 0.0015,
        "stop": 0.0195,
    }
    prior = imported(tmp_path / "model.pt", **options)
    own = DDIMScheduler(1000, "scaled_linear_beta", beta_start=0.0015, beta_end=0.0195, clip_sample=False)
    own.set_timesteps(1000)
    with torch.no_grad():
        noise = module(states(), timesteps=torch.tensor([300, 300]), class_labels=torch.tensor([2, 2]))
    wanted = own.step(noise, 300, states())[1]
    assert relative(ask(prior.denoiser, states(), 300 / 999), wanted) < EQUAL
    with pytest.raises(InputError, match="must be told: head_width="):
        imported(tmp_path / "model.pt", groups=4, label=2)
    wrong = imported(tmp_path / "model.pt", **{**options, "head_width": 16})
    assert relative(ask(wrong.denoiser, states(), 300 / 999), wanted) > 10 * EQUAL


def test_a_network_over_volumes_answers_blocks(tmp_path):
    definition = {**NETWORK, "spatial_dims": 3, "channels": [4, 8], "num_head_channels": 4}
    module = network(**definition)
    source = bundle(tmp_path / "b", module, definition=definition)
    prior = imported(source, slices=4)
    assert (prior.card.fit.channels, prior.card.fit.slices) == ("block", 4)
    own = DDPMScheduler(**{key: value for key, value in SCHEDULER.items() if key != "_target_"})
    x_t = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    for number in (7, 500):
        wanted = own.step(output(module, x_t[:, None], number), number, x_t[:, None])[1][:, 0]
        assert relative(ask(prior.denoiser, x_t, number / 999), wanted) < EQUAL
        assert relative(ask(prior.denoiser, x_t, (number + 1) / 999), wanted) > 10 * EQUAL
    with pytest.raises(InputError, match="expected a multiple of 2"):
        imported(source, slices=3)


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_channels_that_are_neighbouring_slices(outputs, tmp_path):
    module = network(in_channels=5, out_channels=outputs)
    torch.save(module.state_dict(), tmp_path / "model.pt")
    options = {"head_width": 8, "groups": 4, "betas": "scaled_linear", "start": 0.0015, "stop": 0.0195}
    with pytest.raises(InputError, match="channels=neighbours"):
        imported(tmp_path / "model.pt", **options)
    prior = imported(tmp_path / "model.pt", channels="neighbours", **options)
    assert (prior.card.fit.channels, prior.card.fit.slices) == ("neighbours", 5)
    own = DDPMScheduler(**{key: value for key, value in SCHEDULER.items() if key != "_target_"})
    x_t = torch.randn(2, 5, 16, 16, generator=torch.Generator().manual_seed(3))
    # Of one output (and a learned variance) the first, of five the middle one is about the middle slice.
    noise = output(module, x_t, 500)[:, 2:3] if outputs == 5 else output(module, x_t, 500)[:, :1]
    wanted = own.step(noise, 500, x_t[:, 2:3])[1]
    assert relative(ask(prior.denoiser, x_t, 500 / 999), wanted) < EQUAL


def test_names_of_monai_generative(tmp_path):
    module = network()
    old = {
        key.replace(".attn.to_", ".to_")
        .replace(".attn.out_proj.", ".proj_attn.")
        .replace("upsampler.postconv.", "upsampler.conv."): value
        for key, value in module.state_dict().items()
    }
    assert old.keys() != module.state_dict().keys()
    torch.save(old, tmp_path / "model.pt")
    prior = imported(tmp_path / "model.pt", head_width=8, groups=4)
    found, wanted = prior.network(states(), torch.tensor([5.0, 5.0])), output(module, states(), 5)
    assert relative(found, wanted) < EQUAL


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"definition": {**NETWORK, "in_channels": "$__import__('os').system('touch /tmp/x')"}},
            "is not run",
        ),
        ({"definition": {**NETWORK, "in_channels": "@nothing"}}, "refers to nothing"),
        ({"definition": {**NETWORK, "spatial_dims": 1}}, "over 1 dimensions"),
        ({"definition": {**NETWORK, "spatial_dims": 3}}, "must be told: slices="),
        ({"definition": {**NETWORK, "out_channels": 3}}, "conditioned on an image"),
        ({"definition": {**NETWORK, "_target_": "os.system"}}, "expected a DiffusionModelUNet"),
        ({"definition": {**NETWORK, "channels": [8, 24]}}, "expected"),
        ({"definition": {**NETWORK, "mystery": 1}}, "takes no argument 'mystery'"),
        ({"autoencoder_def": {}}, "not affine"),
        ({"scheduler": {"_target_": "mine.Scheduler"}}, "found 'Scheduler'"),
    ],
)
def test_a_bundle_that_cannot_be_a_prior(change, line, tmp_path):
    with pytest.raises(InputError, match=line) as caught:
        imported(bundle(tmp_path / "b", network(), **change))
    assert "\n" not in str(caught.value)


def test_references_to_values_are_followed(tmp_path):
    definition = {**NETWORK, "in_channels": "@image_channels"}
    imported(bundle(tmp_path / "b", network(), definition=definition, image_channels=1))
