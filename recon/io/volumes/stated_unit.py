"""Stored values of unknown unit made an image: the unit is stated in the file, beside it, or plain to see.

In this order: the description beside the file (see ``recon.io.volumes.sidecar``), the unit the file states, and HU if
the values look like a CT in HU. Everything else is refused: a value range is never guessed.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from priors.runtime.errors import InputError
from recon.data.volume import Unit, Volume, check_affine
from recon.io.volumes.sidecar import read_sidecar, sidecar_path

DESCRIPTIONS: dict[Unit, str] = {"HU": "attenuation in HU", "1/mm": "attenuation in 1/mm"}
"""How a file written here states its unit in words."""


def described_unit(text: str) -> Unit | None:
    """Return the unit that a description written here states."""
    return next((unit for unit, words in DESCRIPTIONS.items() if text == words), None)


def with_unit(
    path: Path,
    values: Shaped[np.ndarray, "z y x"],
    affine: Float64[np.ndarray, "4 4"],
    stated: Unit | None = None,
    *,
    warnings: tuple[str, ...] = (),
) -> Volume:
    """Return the image of stored ``values`` (z, y, x), with what its reader has to say.

    Raises:
        InputError: the affine is not one, or the unit is not known.
    """
    check_affine(affine, f"{path}: affine")
    sidecar = read_sidecar(path)
    if sidecar is not None:
        return Volume(np.ascontiguousarray(sidecar.scaled(values)), affine, sidecar.unit, warnings=warnings)
    real = np.ascontiguousarray(values, dtype=np.float32)
    if stated is not None:
        return Volume(real, affine, stated, warnings=warnings)
    _check_looks_like_hu(path, real, values.dtype)
    return Volume(real, affine, "HU", warnings=warnings)


def self_described(path: Path, values: Shaped[np.ndarray, "z y x"], stated: Any) -> Volume:
    """Return the image of a file written here that carries ``{unit, affine}``.

    Raises:
        InputError: what it carries is damaged.
    """
    try:
        unit, affine = stated["unit"], np.array(stated["affine"], np.float64).reshape(4, 4)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its description of unit and affine is damaged") from error
    if unit not in DESCRIPTIONS:
        raise InputError(f"{path}: unit: found {str(unit)[:20]!r}, expected HU or 1/mm")
    check_affine(affine, f"{path}: affine")
    return Volume(np.ascontiguousarray(values, np.float32), affine, unit)


def _check_looks_like_hu(path: Path, values: Float32[np.ndarray, "z y x"], stored: np.dtype) -> None:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if stored.itemsize == 1 or low > -200 or high - low < 500 or low < -32768 or high > 65535:
        eight = " (8 bits make a picture)" if stored.itemsize == 1 else ""
        raise InputError(
            f"{path}: found {stored} values from {low:.5g} to {high:.5g}, which do not look like HU{eight}; say "
            f"what they are in {sidecar_path(path).name} beside it (keys unit, value_range, unit_range)"
        )


def numbers_3d(path: Path, values: np.ndarray) -> Shaped[np.ndarray, "z y x"]:
    """Return ``values`` as a volume: a plane becomes one slice.

    Raises:
        InputError: not numbers, empty, or of another dimension.
    """
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or 0 in values.shape or values.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: found {values.dtype} values of shape {values.shape}, "
            "expected numbers in the order (z, y, x)"
        )
    return values
