"""Training that starts from an imported prior: its network and levels, and the ancestry on the card."""

import pytest
import torch
from omegaconf import OmegaConf

from priors.adapters.foreign import Told
from priors.adapters.importing import import_prior
from priors.card import load_prior
from priors.training.configuration.config import load_training
from tests.support.command_line import inside, mistake
from tests.support.priors.adm_network import AdmNetwork
from tests.support.priors.foreign import randomised, save_diffusers, small_unet
from tests.support.priors.small_training import settings

diffusers = pytest.importorskip("diffusers", reason="the extra tomocast[diffusers] is not installed")
CODEC = {"offset": 0.0, "scale": 1000.0, "unit": "HU", "low": -1024.0, "high": 1500.0, "licence": "X-1.0"}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent")
    unet = small_unet(
        add_attention=False, down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2
    )
    source = save_diffusers(folder / "checkpoint", unet, diffusers.DDPMScheduler(clip_sample=False))
    import_prior(source, Told(name="parent", trained_on="noise", **CODEC), out=folder / "prior")
    return folder / "prior"


def configuration(path, data, prior, **changes):
    plain = settings(data, steps=12)
    for key in ("network", "schedule", "parametrisation", "codec"):
        del plain[key]
    plain = {**plain, "initial": str(prior), "levels": {"low": 0.02, "high": 20.0}, **changes}
    OmegaConf.save(OmegaConf.create(plain), path)
    return path


def test_it_takes_network_levels_and_codec_and_tells_its_parents(parent, small_data, tmp_path):
    file = configuration(tmp_path / "c.yaml", small_data, parent)
    chosen = load_training([file])
    card = load_prior(parent).card
    assert chosen.network == card.network
    assert chosen.conditioning == card.conditioning
    inside("train", file, "--out", tmp_path / "run")
    made = load_prior(tmp_path / "run" / "prior")
    (told,) = made.card.parents
    assert (told.name, told.sha256, told.licence, told.trained_on) == (
        "parent",
        card.sha256,
        "X-1.0",
        "noise",
    )
    assert not told.unchanged
    assert made.card.source == card.source
    assert made.card.mirrored  # training flips
    before, after = (prior.network.state_dict() for prior in (load_prior(parent), made))
    assert any(not torch.equal(before[key], after[key]) for key in before)
    # A child of the child names both.
    child = configuration(tmp_path / "d.yaml", small_data, tmp_path / "run" / "prior", name="child")
    inside("train", child, "--out", tmp_path / "second")
    names = [each.name for each in load_prior(tmp_path / "second" / "prior").card.parents]
    assert names == ["discs", "parent"]


def test_an_export_of_the_unchanged_parent_says_so(parent, small_data, tmp_path):
    # A rate that destroys the weights: the first validation, before any step, stays the best.
    ruin = {"steps": 3, "learning_rate": 0.3, "warmup": 1, "ema": 0.1}
    file = configuration(tmp_path / "c.yaml", small_data, parent, optimisation=ruin, validate_every=3)
    done = inside("train", file, "--out", tmp_path / "run")
    assert "unchanged" in done.stderr
    assert load_prior(tmp_path / "run" / "prior").card.parents[0].unchanged


def test_a_colour_prior_is_trained_on_grey_slices(small_data, tmp_path):
    torch.save(randomised(AdmNetwork(channels=3, out=6)).state_dict(), tmp_path / "m.pt")
    import_prior(tmp_path / "m.pt", Told(size=32, heads=2, **CODEC), out=tmp_path / "prior")
    crops = [{"size": 32, "batch": 2, "share": 1.0}]
    file = configuration(
        tmp_path / "c.yaml", small_data, tmp_path / "prior", crops=crops, optimisation={"steps": 2}
    )
    inside("train", file, "--out", tmp_path / "run")
    made = load_prior(tmp_path / "run" / "prior")
    assert made.card.fit.channels == "rgb"
    assert made.denoiser(torch.zeros(1, 1, 32, 32), torch.tensor([0.5])).shape == (1, 1, 32, 32)


def test_another_network_than_the_parents_is_refused(parent, small_data, tmp_path):
    network = settings(small_data, steps=1)["network"]
    file = configuration(
        tmp_path / "c.yaml", small_data, parent, network=network, codec=settings(small_data, steps=1)["codec"]
    )
    assert "initial: prior 'parent' has the network" in mistake("train", file, "--out", tmp_path / "run")
    file = configuration(tmp_path / "d.yaml", small_data, "ns-vorticity-64")
    assert "is one of trajectories" in mistake("train", file, "--out", tmp_path / "run")
