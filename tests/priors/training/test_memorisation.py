"""Training says when a network begins to copy: slices of noise have nothing to learn but themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from priors.training.configuration.config import TrainConfig
from priors.training.loop import train
from priors.training.memorisation.onset import Warner, complaint, onset, too_many, with_verdict
from priors.training.trajectories.watch import Watch
from tests.support.priors.small_training import settings

SIDE = 8


def noise_folder(folder: Path, *, slices: int) -> Path:
    """Write a prepared folder of four training series and a held-out one, all white noise of 500 HU."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    series = []
    for name in ("a", "b", "c", "d", "held_out"):
        count = 24 if name == "held_out" else slices
        values = 500 * generator.standard_normal((count, SIDE, SIDE))
        np.save(folder / f"{name}.npy", values.astype(np.int16))
        split = "validation" if name == "held_out" else "train"
        series.append(
            {"file": f"{name}.npy", "split": split, "source": name, "licence": "CC0-1.0", "pixel_mm": 2.0}
        )
    OmegaConf.save(OmegaConf.create({"unit": "HU", "series": series}), folder / "manifest.yaml")
    return folder


def test_a_run_warns_and_stops_when_it_begins_to_copy_four_slices(tmp_path):
    tree = settings(noise_folder(tmp_path / "data", slices=1), steps=200)
    tree |= {
        "crops": [{"size": SIDE, "batch": 8}],
        "augmentation": {"flip": False, "probability": 0.0},
        "memorisation": {"samples": 4, "levels": 4, "stop": True},
        "validate_every": 50,
        "validation_fields": 4,
    }
    said: list[str] = []
    warner = Warner(said.append)
    train(
        TrainConfig.model_validate(tree),
        tmp_path,
        resume=False,
        report=lambda step, total, figures: warner(step, figures),
    )
    log = tmp_path / "training.jsonl"
    rows = [json.loads(row) for row in log.read_text().splitlines()]
    assert [row["memorises"] for row in rows] == [0, 1]
    assert onset(log) == rows[-1]["step"] == 100
    assert {"copying_share", "copying_limit", "gap_0.1", "gap_0.5", "gap_1"} <= set(rows[-1])
    (sentence,) = said
    assert sentence.startswith("step 100: the network begins to memorise: held-out data is")


def test_a_run_on_many_slices_does_not(small_run):
    log = small_run[1] / "training.jsonl"
    assert onset(log) is None
    row = json.loads(log.read_text().splitlines()[-1])
    # Fields of random discs, 48 of them for 80 steps: nothing can be kept yet.
    assert max(abs(row[f"gap_{level}"]) for level in ("0.1", "0.5", "1")) < 0.2


@pytest.mark.parametrize(("near", "found"), [(5, False), (8, True)])
def test_few_samples_are_judged_with_their_chance(near: int, found: bool):
    # Of four series a good prior may have half of its samples below the least null distance.
    figures = {"copying_share": near / 8, "copying_limit": 0.527, "copying_samples": 8.0}
    assert too_many(figures) is found
    assert (complaint(with_verdict(figures)) is not None) is found
    assert with_verdict({}) == {}


def test_days_of_other_variability_are_no_gap():
    """An estimator that knows mean and deviation alone has no gap between windows of unlike deviation."""
    import torch

    generator = torch.Generator().manual_seed(0)
    base = torch.randn(8, 3, 1, 16, 16, generator=generator)
    whole = torch.ones_like(base, dtype=torch.bool)

    def measure(x, valid, levels):
        width = float(x.std())
        errors = {f"error_{s:g}": s * width / (s**2 + width**2) ** 0.5 for s in levels}
        return {**errors, "forecast": 0.7 * width, "persistence": width}

    watch = Watch((base, whole), (3 * base, whole), (0.1, 0.3, 1.0))
    gaps = watch.gaps(measure, measure(3 * base, whole, (0.1, 0.3, 1.0)))
    assert set(gaps) == {"gap_0.1", "gap_0.3", "gap_1", "gap_ahead"}
    np.testing.assert_allclose(list(gaps.values()), 0, atol=1e-6)
