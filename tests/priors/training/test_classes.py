"""Classes: told in training, withheld for some samples, asked for by label, exaggerated by guidance."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from priors.card import load_prior
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.guidance.classifier_free import ClassifierFree
from priors.diffusion.parametrisation import Clean
from priors.diffusion.schedule import Cosine
from priors.networks import MonaiUNet, UnshuffledUNet
from priors.runtime.errors import InputError
from priors.training.configuration.config import TrainConfig
from priors.training.engine.trainer import Trainer
from priors.training.loop import open_subject
from tests.support.command_line import inside, mistake
from tests.support.priors.small_training import discs, settings

CLASSES = ("discs", "air")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A prepared folder of two classes that nobody could confuse: discs, and nothing but fat."""
    folder = tmp_path_factory.mktemp("labelled")
    series = []
    for seed, (split, label) in enumerate((s, c) for s in ("train", "validation") for c in CLASSES):
        fields = (
            discs(seed, 12)
            if label == "discs"
            else np.linspace(-120, -80, 12).astype(np.int16)[:, None, None] + np.zeros((12, 40, 40), np.int16)
        )
        np.save(folder / f"{seed}.npy", fields)
        series.append(
            {
                "file": f"{seed}.npy",
                "split": split,
                "source": "s",
                "licence": "CC0-1.0",
                "pixel_mm": 2.0,
                "label": label,
            }
        )
    OmegaConf.save(OmegaConf.create({"unit": "HU", "series": series}), folder / "manifest.yaml")
    return folder


def configuration(data, **changes):
    return {**settings(data, steps=60), "condition": {"classes": list(CLASSES), "dropout": 0.25}, **changes}


def test_a_class_is_withheld_as_often_as_asked_and_is_that_of_the_slice(labelled):
    subject = open_subject(TrainConfig.model_validate(configuration(labelled)))
    batches = [subject.batch(step, range(4)) for step in range(100)]
    labels = torch.cat([batch.labels for batch in batches])
    # 400 draws of probability 1/4: four deviations are 0.087.
    assert abs(float((labels == 2).double().mean()) - 0.25) < 0.087
    flat = torch.cat([batch.x.flatten(1).std(1) < 1e-6 for batch in batches])
    assert bool((flat[labels == 1]).all())
    assert not bool((flat[labels == 0]).all())


def test_the_network_learns_what_a_class_looks_like(labelled):
    # Under so much noise little but the class tells fat from discs, most of which are air.
    high = {"centre": 5.0, "width": 0.3, "low": 2.0, "high": 20.0}
    config = TrainConfig.model_validate(configuration(labelled, levels=high))
    subject = open_subject(config)
    trainer = Trainer.start(config, subject)
    for _ in range(60):
        trainer.advance()
    batch = subject.batch(1000, range(4))
    swapped = replace(batch, labels=torch.tensor([1, 0, 2])[batch.labels])
    right, wrong = (float(subject.loss_sum(trainer.denoiser, each).detach()) for each in (batch, swapped))
    assert right < wrong


def test_a_prior_with_classes_is_used_like_any_other(labelled, tmp_path):
    OmegaConf.save(OmegaConf.create(configuration(labelled)), tmp_path / "c.yaml")
    inside("train", tmp_path / "c.yaml", "--out", tmp_path / "run")
    folder = tmp_path / "run" / "prior"
    none, *classes = load_prior(folder), load_prior(folder, label=0), load_prior(folder, label=1)
    assert none.card.classes == CLASSES
    assert none.card.network.classes == 2
    x, t = torch.zeros(1, 1, 32, 32), torch.tensor([0.9])
    answers = [prior.denoiser(x, t) for prior in (none, *classes)]
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[1], answers[2])
    out = tmp_path / "samples.npy"
    asked = ("--count", 2, "--steps", 3, "--size", 32, "--label", 1, "--guidance", 1)
    asked = (*asked, "--sampler", "variance-optimised")
    inside("sample", folder, "--out", out, *asked)
    assert np.load(out).shape == (2, 32, 32)
    assert "knows the classes 0 to 1" in mistake("sample", folder, "--out", tmp_path / "x.npy", "--label", 2)
    assert "expected --label" in mistake("sample", folder, "--out", tmp_path / "x.npy", "--guidance", 1)


def test_guidance_of_gaussian_classes_is_the_stated_combination_of_their_exact_means():
    # Class c is N(m_c, 1), both together N(0, 1 + m^2) were it Gaussian: any three linear denoisers will do.
    class Classes(UnshuffledUNet):
        def forward(self, x, log_ratio, labels=None, jump=None):
            means = torch.tensor([-1.0, 2.0, 0.5], dtype=x.dtype)[labels].reshape(-1, 1, 1, 1)
            return means + 0.5 * (x - means)

    entry = MonaiUNet(channels=(16, 16), norm_groups=4, classes=2)
    network = Classes(torch.nn.Linear(1, 1), entry)
    inner = NetworkDenoiser(network, schedule=Cosine(), parametrisation=Clean(), reduced=False)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    means = {c: 0.5 * x + 0.5 * m for c, m in ((1, 2.0), ("none", 0.5))}
    for strength in (0.0, 1.5):
        expected = means["none"] + (1 + strength) * (means[1] - means["none"])
        assert torch.allclose(ClassifierFree(inner, label=1, strength=strength)(x, t), expected, atol=1e-12)


def test_a_network_that_learns_classes_starts_as_its_parent(labelled, small_prior):
    from priors.training.initial import check_parent, start_from

    parent = load_prior(small_prior)
    entry = parent.card.network.model_copy(update={"classes": 2, "label": 1})
    check_parent(parent.card, entry)
    network = entry.build()
    start_from(network, str(small_prior))
    x, told = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    assert torch.equal(network.eval()(x, told), parent.network(x, told))
    with pytest.raises(InputError, match="expected"):
        check_parent(parent.card, entry.model_copy(update={"channels": (32, 32)}))


def test_labels_and_classes_have_to_agree(labelled, small_data):
    with pytest.raises(ValueError, match=r"network\.classes"):
        TrainConfig.model_validate(
            {**configuration(labelled), "network": {**settings(labelled, steps=1)["network"], "classes": 5}}
        )
    wrong = configuration(labelled, condition={"classes": ["discs"]})
    with pytest.raises(InputError, match="is labelled 'air'"):
        open_subject(TrainConfig.model_validate(wrong))
    with pytest.raises(InputError, match="no series of the training data is labelled"):
        open_subject(TrainConfig.model_validate(configuration(small_data)))
    with pytest.raises(InputError, match="answer without a class"):
        ClassifierFree(load_prior("ct-chest-256").denoiser, label=0, strength=1.0)
