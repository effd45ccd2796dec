"""What cannot be a prior is refused with the reason in one line, by import-prior and by inspect."""

import json
import pickle

import pytest
import torch

from tests.priors.adapters import test_monai
from tests.support.command_line import mistake

OPTIONS = ("--offset", 0, "--scale", 1000, "--unit", "HU")


def ldm(folder):
    torch.save(
        {"state_dict": {"first_stage_model.encoder.conv_in.weight": torch.zeros(2)}}, folder / "m.ckpt"
    )
    return folder / "m.ckpt", "behind 'first_stage_model', whose code is not affine"


def sit(folder):
    torch.save({"ema": {"x_embedder.proj.weight": torch.zeros(8, 4, 2, 2)}}, folder / "SiT-XL-2-256.pt")
    return folder / "SiT-XL-2-256.pt", "latents of four channels"


def maisi(folder):
    return test_monai.bundle(folder / "b", test_monai.network(), autoencoder_def={}), "behind an autoencoder"


def edm2_latent(folder):
    (folder / "edm2-img512.pkl").write_bytes(pickle.dumps({"ema": None, "encoder": {}}))
    return folder / "edm2-img512.pkl", "keeps an encoder beside its network"


def latent_folder(folder):
    for name in ("vae", "unet", "scheduler"):
        (folder / "d" / name).mkdir(parents=True)
    (folder / "d" / "model_index.json").write_text("{}")
    return folder / "d", "behind 'vae', whose code is not affine"


def conditional(folder):
    (folder / "d" / "unet").mkdir(parents=True)
    (folder / "d" / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    return folder / "d", "found a UNet2DConditionModel"


def lcm(folder):
    (folder / "d" / "unet").mkdir(parents=True)
    (folder / "d" / "scheduler").mkdir()
    (folder / "d" / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    torch.save({"a": torch.zeros(1)}, folder / "d" / "unet" / "diffusion_pytorch_model.bin")
    (folder / "d" / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "LCMScheduler"})
    )
    return folder / "d", "consistency model, which has no conditional mean"


def consistency(folder):
    torch.save({"a": torch.zeros(1)}, folder / "cd_bedroom256_l2.pt")
    return folder / "cd_bedroom256_l2.pt", "consistency model, which has no conditional mean"


def flax_file(folder):
    (folder / "diffusion_flax_model.msgpack").write_bytes(b"\x81\xa6params\x80")
    return folder / "diffusion_flax_model.msgpack", "is a JAX checkpoint"


def flax_folder(folder):
    (folder / "d" / "unet").mkdir(parents=True)
    (folder / "d" / "unet" / "config.json").write_text(
        json.dumps({"_class_name": "FlaxUNet2DConditionModel"})
    )
    (folder / "d" / "unet" / "diffusion_flax_model.msgpack").write_bytes(b"\x80")
    return folder / "d", "is a JAX checkpoint"


def orbax(folder):
    (folder / "d").mkdir()
    (folder / "d" / "_CHECKPOINT_METADATA").write_text("{}")
    return folder / "d", "is a JAX checkpoint"


KINDS = [
    ldm, sit, maisi, edm2_latent, latent_folder, conditional, lcm, consistency, flax_file, flax_folder, orbax,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_refused_with_the_reason(kind, tmp_path):
    source, reason = kind(tmp_path)
    for command in (("import-prior", source, *OPTIONS, "--out", tmp_path / "prior"), ("inspect", source)):
        line = mistake(*command)
        assert reason in line, line
        assert "cannot be a prior" in line
    assert not (tmp_path / "prior").exists()
