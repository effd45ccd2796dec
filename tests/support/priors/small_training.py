"""A training run small enough for a test: fields of random discs, a network of some thousand weights."""

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

SIZE = 40
STEPS = 80


def discs(seed: int, count: int) -> np.ndarray:
    """Return int16 fields of HU: air with a few discs of soft tissue, fat, lung or bone."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    fields = np.full((count, SIZE, SIZE), -1024, np.int16)
    for field in fields:
        for radius in (14, 6, 4):
            row, column = generator.uniform(10, SIZE - 10, 2)
            inside = (y - row) ** 2 + (x - column) ** 2 < (radius * generator.uniform(0.7, 1.1)) ** 2
            field[inside] = generator.choice([0, 0, 40, -100, -850, 700])
    return fields


def write_data(folder: Path) -> Path:
    """Write a prepared folder: two training series and one of validation."""
    folder.mkdir(parents=True, exist_ok=True)
    series = []
    for seed, (name, split) in enumerate((("a", "train"), ("b", "train"), ("held_out", "validation"))):
        np.save(folder / f"{name}.npy", discs(seed, 24))
        series.append(
            {"file": f"{name}.npy", "split": split, "source": "discs", "licence": "CC0-1.0", "pixel_mm": 2.0}
        )
    OmegaConf.save(OmegaConf.create({"unit": "HU", "series": series}), folder / "manifest.yaml")
    return folder


def settings(data: Path, *, steps: int) -> dict:
    """Return the configuration of a run as plain data, ready for YAML."""
    return {
        "name": "discs",
        "data": str(data),
        "network": {"name": "monai-unet", "channels": [16, 16], "norm_groups": 4, "unshuffle": 1},
        "schedule": {"name": "cosine"},
        # A velocity network sees x_t itself, so a wrong schedule shows; with EDM's preconditioning it does not.
        "parametrisation": {"name": "velocity"},
        "codec": {"offset": 0.0, "scale": 1000.0, "low": -1024.0, "high": 1500.0},
        "description": {
            "trained_on": "random discs",
            "licence": "CC0-1.0",
            "citation": "none",
            "pixel_mm": [2.0, 2.0],
        },
        "crops": [{"size": 32, "batch": 4, "share": 0.7}, {"size": 24, "batch": 4, "share": 0.3}],
        "optimisation": {"steps": steps, "learning_rate": 1e-2, "warmup": 10, "ema": 0.95},
        "validate_every": 10,
        "save_every": 5,
        # Samples of every validation would take longer than these runs.
        "memorisation": {"samples": 0},
        "validation_fields": 3,
        "validation_levels": [0.1, 0.5, 1.0],
    }
