"""Parallel scans of discs in NXtomo and Data Exchange files, with an axis, flips and fields of one's choice."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

DISCS = ((0.0, 0.0, 40.0, 0.02), (18.0, 5.0, 9.0, 0.03), (-12.0, 16.0, 6.0, 0.04), (-8.0, -20.0, 4.0, -0.015))
HALF, FULL = np.arange(180.0), np.arange(360.0)


def lines(
    degrees: np.ndarray, columns: int, axis: float, discs: tuple[tuple[float, ...], ...] = DISCS
) -> np.ndarray:
    """Return line integrals (view, column) of discs (x, y, radius, attenuation), in columns."""
    angle, column, total = np.deg2rad(degrees), np.arange(columns), np.zeros((len(degrees), columns))
    for x, y, radius, mu in discs:
        away = (column - axis)[None] - (x * np.cos(angle) + y * np.sin(angle))[:, None]
        total += 2 * mu * np.sqrt(np.maximum(radius**2 - away**2, 0))
    return total


def counts(
    degrees: np.ndarray, columns: int, axis: float, *, rows: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return radiographs, dark and flat frames of 20,000 photons; lower rows see less."""
    generator = np.random.default_rng(seed)
    clean = lines(degrees, columns, axis)
    stack = np.stack([clean / (row + 1) for row in range(rows)], axis=1)
    raw = generator.poisson(2e4 * np.exp(-stack)) + 100
    flat = generator.poisson(2e4, (5, rows, columns)) + 100
    return raw.astype("u2"), np.full((3, rows, columns), 100, "u2"), flat.astype("u2")


def write_nx(
    path: Path,
    degrees: np.ndarray,
    *,
    columns: int = 128,
    axis: float = 63.5,
    flip: str = "",
    extra: dict[str, Any] | None = None,
) -> Path:
    """Write an NXtomo file; ``flip`` holds lr or ud, ``extra`` data sets of the entry, (value, units) or a value."""
    raw, dark, flat = counts(degrees, columns, axis)
    stack = np.concatenate([dark, flat, raw])
    if "lr" in flip:
        stack = stack[..., ::-1]
    if "ud" in flip:
        stack = stack[:, ::-1]
    fields = {
        "instrument/detector/data": stack,
        "instrument/detector/image_key": np.r_[[2] * 3, [1] * 5, [0] * len(degrees)],
        "sample/rotation_angle": np.r_[np.zeros(8), degrees],
        **(extra or {}),
    }
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        for name, given in fields.items():
            value, attributes = given if isinstance(given, tuple) else (given, {})
            entry[name] = value
            entry[name].attrs.update({"units": attributes} if isinstance(attributes, str) else attributes)
    return path


def write_exchange(
    path: Path,
    degrees: np.ndarray = HALF,
    *,
    rows: int = 2,
    extra: dict[str, Any] | None = None,
    **storage: Any,
) -> Path:
    """Write a Data Exchange file of 128 columns about column 63.5; ``extra`` as in `write_nx`."""
    raw, dark, flat = counts(degrees, 128, 63.5, rows=rows)
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", data=raw, chunks=(1, rows, 128), **storage)
        file["exchange/data_dark"], file["exchange/data_white"] = dark, flat
        file["exchange/theta"] = degrees
        for name, given in (extra or {}).items():
            value, units = given if isinstance(given, tuple) else (given, None)
            file[name] = value
            if units is not None:
                file[name].attrs["units"] = units
    return path
