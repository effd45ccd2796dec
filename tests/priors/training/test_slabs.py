"""Priors of neighbouring slices: trained here, begun as a prior of single ones, used through the card's fit."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from priors.card import load_prior
from priors.networks import MonaiUNet
from priors.runtime.config import read_yaml
from priors.runtime.errors import InputError
from priors.runtime.tensors import save_tensors
from priors.training.configuration.config import TrainConfig
from priors.training.engine.trainer import Trainer
from priors.training.initial import check_parent, start_from
from priors.training.loop import open_subject
from priors.training.slices.data import neighbouring
from tests.support.command_line import inside, mistake
from tests.support.priors.small_training import settings, write_data


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Prepared slices that say how far apart they are."""
    folder = write_data(tmp_path_factory.mktemp("stack"))
    manifest = read_yaml(folder / "manifest.yaml")
    manifest["series"] = [{**series, "dz_mm": 2.5} for series in manifest["series"]]
    OmegaConf.save(OmegaConf.create(manifest), folder / "manifest.yaml")
    return folder


def test_neighbours_are_moved_alike_and_the_ends_are_repeated(stack):
    array = np.arange(5)[:, None, None] * np.ones((5, 2, 2))
    assert neighbouring(array, 0, 3)[:, 0, 0].tolist() == [0, 0, 1]
    assert neighbouring(array, 3, 3)[:, 0, 0].tolist() == [2, 3, 4]
    config = TrainConfig.model_validate({**settings(stack, steps=5), "slab": 3})
    single = TrainConfig.model_validate(settings(stack, steps=5))
    for step in range(5):
        slab, alone = (open_subject(each).batch(step, range(4)) for each in (config, single))
        # The middle slice is the one a prior of single slices would have been shown.
        assert torch.equal(slab.x[:, 1:2], alone.x)
        assert slab.values == alone.values


def test_an_inflated_network_is_its_parent_before_the_first_step(small_prior):
    parent = load_prior(small_prior)
    entry = parent.card.network.model_copy(update={"neighbours": 3})
    check_parent(parent.card, entry)
    network = entry.build()
    start_from(network, str(small_prior))
    x, told = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    # The sum over channels has zeros in it: in another order, hence equal to rounding only.
    assert torch.allclose(network.eval()(x, told), parent.network(x[:, 1:2], told), atol=1e-5)


def test_a_slab_prior_is_trained_loaded_sampled_and_trained_on(stack, small_prior, tmp_path):
    plain = {**settings(stack, steps=6), "slab": 3, "initial": str(small_prior)}
    for key in ("network", "schedule", "parametrisation", "codec"):
        del plain[key]
    OmegaConf.save(OmegaConf.create(plain), tmp_path / "c.yaml")
    inside("train", tmp_path / "c.yaml", "--out", tmp_path / "run")
    prior = load_prior(tmp_path / "run" / "prior")
    assert (prior.card.fit.channels, prior.card.fit.slices) == ("neighbours", 3)
    assert len(prior.denoiser.slabs(5)) == 5
    x = torch.zeros(2, 3, 32, 32)
    assert prior.denoiser(x, torch.tensor([0.5, 0.5])).shape == (2, 1, 32, 32)
    inside(
        "sample",
        tmp_path / "run" / "prior",
        "--out",
        tmp_path / "s.npy",
        "--count",
        4,
        "--steps",
        2,
        "--size",
        32,
    )
    assert np.load(tmp_path / "s.npy").shape == (4, 32, 32)
    again = {**plain, "initial": str(tmp_path / "run" / "prior"), "name": "again"}
    OmegaConf.save(OmegaConf.create(again), tmp_path / "d.yaml")
    inside("train", tmp_path / "d.yaml", "--out", tmp_path / "second", "optimisation.steps=2")
    OmegaConf.save(OmegaConf.create({**again, "slab": 5}), tmp_path / "e.yaml")
    assert "expected slab: 3" in mistake("train", tmp_path / "e.yaml", "--out", tmp_path / "third")


def test_blocks_are_trained_with_a_network_of_three_dimensions(stack, tmp_path):
    network = {
        "name": "monai-diffusion-unet",
        "config": {
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 1,
            "channels": [8, 8],
            "num_res_blocks": 1,
            "attention_levels": [False, False],
            "norm_num_groups": 4,
        },
    }
    config = TrainConfig.model_validate({**settings(stack, steps=3), "slab": 4, "network": network})
    subject = open_subject(config)
    batch = subject.batch(0, range(2))
    assert batch.x.shape[1] == 4
    assert batch.counted is None
    assert config.fit.channels == "block"
    trained = settings(stack, steps=3)
    crops = [{"size": 16, "batch": 2}]
    OmegaConf.save(
        OmegaConf.create({**trained, "slab": 4, "network": network, "crops": crops}), tmp_path / "c.yaml"
    )
    printed = mistake("train", tmp_path / "c.yaml", "--out", tmp_path / "run")
    # Three steps of a random network: everything but the quality that the self-test asks for.
    assert "fails its self-test" in printed


def test_what_does_not_fit_together_is_refused(stack, small_data):
    with pytest.raises(InputError, match="dz_mm"):
        open_subject(TrainConfig.model_validate({**settings(small_data, steps=1), "slab": 3}))
    with pytest.raises(ValueError, match="odd number"):
        TrainConfig.model_validate({**settings(stack, steps=1), "slab": 4})
    plain = settings(stack, steps=1)
    other = {**plain, "slab": 3, "network": {**plain["network"], "neighbours": 5}}
    with pytest.raises(ValueError, match=r"network\.neighbours is 5"):
        TrainConfig.model_validate(other)
    assert MonaiUNet(channels=(16, 16)).neighbours == 1


def test_weights_that_are_not_trained_stay_to_the_bit(small_data, small_prior, tmp_path):
    plain = {
        **settings(small_data, steps=3),
        "initial": str(small_prior),
        "train_only": ["unet.out", "unet.up_blocks"],
    }
    plain["optimisation"] |= {"learning_rate": 1e-3}
    config = TrainConfig.model_validate(plain)
    trainer = Trainer.start(config, open_subject(config))
    before = {name: value.clone() for name, value in trainer.denoiser.network.state_dict().items()}
    for _ in range(3):
        trainer.advance()
    save_tensors(trainer.state(), tmp_path / "state.pt")
    for network in (trainer.denoiser.network, trainer.average.module):
        for name, value in network.state_dict().items():
            trained = name.startswith(("unet.out", "unet.up_blocks"))
            assert trained != torch.equal(value, before[name]), name
    again = Trainer.start(config, open_subject(config))
    again.restore(tmp_path / "state.pt")
    assert again.advance() == trainer.advance()
    with pytest.raises(InputError, match=r"expected beginnings such as .*unet\.conv_in"):
        Trainer.start(config.model_copy(update={"train_only": ("decoder",)}), open_subject(config))
    with pytest.raises(ValueError, match="expected initial"):
        TrainConfig.model_validate({**settings(small_data, steps=3), "train_only": ["unet.out"]})
