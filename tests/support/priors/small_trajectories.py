"""A trajectory run small enough for a test: waves that travel across a periodic square."""

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

SIZE = 16
STEPS = 100


def waves(seed: int, count: int, frames: int) -> np.ndarray:
    """Return float32 (count, frames, 1, y, x): three plane waves that move 2 places in x per frame."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] * (2 * np.pi / SIZE)
    fields = np.zeros((count, frames, 1, SIZE, SIZE), np.float32)
    for trajectory in fields:
        for a, b in ((1, 0), (0, 1), (1, 1)):
            phase = generator.uniform(0, 2 * np.pi)
            for frame in range(frames):
                moved = x - frame * 2 * (2 * np.pi / SIZE)
                trajectory[frame, 0] += 5 * np.sin(a * moved + b * y + phase)
    return fields


def write_data(folder: Path) -> Path:
    """Write a prepared folder; one training value in 50 is missing, and one whole frame."""
    folder.mkdir(parents=True, exist_ok=True)
    events = []
    for name, split, seed in (("train", "train", 0), ("held_out", "validation", 1)):
        fields = waves(seed, 12, 8)
        if split == "train":
            fields[np.random.default_rng(2).random(fields.shape) < 0.02] = np.nan
            fields[3, 4] = np.nan
        np.save(folder / f"{name}.npy", fields)
        events.append({"file": f"{name}.npy", "split": split, "source": "waves", "licence": "CC0-1.0"})
    tree = {
        "kind": "trajectories",
        "step_s": 60.0,
        "spacing": 0.5,
        "spacing_unit": "km",
        "periodic": [True, True],
        "variables": [{"name": "height", "unit": "m"}],
        "events": events,
    }
    OmegaConf.save(OmegaConf.create(tree), folder / "manifest.yaml")
    return folder


def settings(data: Path, *, steps: int) -> dict:
    """Return the configuration of a run as plain data, ready for YAML."""
    return {
        "kind": "trajectories",
        "name": "waves",
        "data": str(data),
        "network": {
            "name": "space-time-dit",
            "patch": 2,
            "stages": [16],
            "width": 32,
            "depth": 1,
            "head_width": 16,
            "features": 32,
            "reach": 3,
            "padding": ["periodic", "periodic"],
        },
        "codec": {
            "variables": [
                {"name": "height", "unit": "m", "offset": 0.0, "scale": 6.0, "low": -20.0, "high": 20.0}
            ]
        },
        "description": {"trained_on": "waves", "licence": "CC0-1.0", "citation": "none"},
        "frames": 5,
        "batch": 6,
        "moves": {"roll": "any"},
        "weighting": {"kind": "uniform"},
        "optimisation": {"steps": steps, "learning_rate": 1e-2, "warmup": 10, "ema": 0.9},
        "validate_every": 20,
        "save_every": 5,
        "validation_fields": 6,
        "validation_levels": [0.1, 0.3, 1.0],
    }
