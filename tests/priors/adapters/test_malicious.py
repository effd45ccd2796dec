"""Fifty malicious checkpoints per family: nothing of them runs, and the command line says one line of each."""

import pickle

import pytest
import torch

from priors.adapters.layout import WEIGHTS
from tests.priors.adapters import test_monai
from tests.support.command_line import mistake
from tests.support.priors.adm_network import AdmNetwork
from tests.support.priors.forcing_network import small_state
from tests.support.priors.foreign import malicious, payloads, randomised, save_diffusers, small_unet

OPTIONS = ("--offset", 0, "--scale", 1000, "--unit", "HU", "size=16", "heads=2", "head_width=8", "groups=4")


def adm(folder):
    return folder / "model.pt", folder / "model.pt", randomised(AdmNetwork()).state_dict()


def monai(folder):
    source = test_monai.bundle(folder / "bundle", test_monai.network())
    return source, source / "models" / "model.pt", {}


def forcing(folder):
    return folder / "model.ckpt", folder / "model.ckpt", {"state_dict": small_state()}


def score_sde(folder):
    content = {"model": {"module.all_modules.0.W": torch.zeros(3)}, "ema": {"shadow_params": []}}
    return folder / "model.pth", folder / "model.pth", content


def diffusers(folder):
    found = pytest.importorskip("diffusers", reason="the extra tomocast[diffusers] is not installed")
    source = save_diffusers(folder / "checkpoint", small_unet(), found.DDPMScheduler())
    (source / "unet" / f"{WEIGHTS}.safetensors").unlink()
    return source, source / "unet" / f"{WEIGHTS}.bin", {}


@pytest.mark.parametrize("family", [adm, monai, forcing, score_sde, diffusers])
def test_fifty_malicious_checkpoints(family, tmp_path):
    mark = tmp_path / "ran"
    source, weights, content = family(tmp_path)
    files = malicious(content, mark)
    assert len(files) >= 50
    for data in files:
        weights.write_bytes(data)
        line = mistake("import-prior", source, *OPTIONS, "--out", tmp_path / "prior")
        assert line.startswith(f"error: {weights}"), line
        assert not mark.exists()
    assert not (tmp_path / "prior").exists()


def test_bare_pickles_run_nothing(tmp_path):
    mark = tmp_path / "ran"
    path = tmp_path / "network.pkl"
    for payload in payloads(mark):
        for content in (payload, {"ema": payload}, [1, {"a": (payload,)}]):
            path.write_bytes(pickle.dumps(content))
            line = mistake("import-prior", path, *OPTIONS, "--out", tmp_path / "prior")
            assert line.startswith(f"error: {path}: asks to call"), line
            assert not mark.exists()
