"""A body of 40 HU in air with a lung and a bone, in four equal slices."""

import numpy as np


def phantom() -> np.ndarray:
    """Return HU, (4, 96, 96)."""
    y, x = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 96), indexing="ij")
    plane = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0)
    plane = np.where((x + 0.4) ** 2 + y**2 < 0.1, -800.0, plane)
    plane = np.where((x - 0.4) ** 2 + y**2 < 0.06, 600.0, plane)
    return np.repeat(plane[None], 4, axis=0).astype(np.float32)
