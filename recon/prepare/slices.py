"""From CT slices on disk to the prepared arrays that training reads.

Sources are ``NAME.npy`` or ``NAME.npy.xz`` arrays of HU, (slice, y, x), in folders named after their split, with a
``MANIFEST.csv`` that gives each one's ``pixel_mm``. Procedural thorax slices can be mixed in; their seeds stay below
`DEMO_SEEDS`, so that demonstrations and tests use phantoms no prior has seen.
"""

import csv
import io
import lzma
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from priors.runtime.errors import InputError
from priors.runtime.files import atomic
from recon.simulate.phantom.thorax import thorax

DEMO_SEEDS = 10_000
SLICES_PER_PHANTOM = 8
PHANTOM_SPACING_MM = 1.5


def _read_slices(path: Path) -> np.ndarray:
    try:
        raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        array: np.ndarray = np.load(io.BytesIO(raw), allow_pickle=False)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise InputError(f"{path}: cannot be read as NumPy slices ({error})") from error
    if array.ndim != 3 or array.dtype != np.int16 or array.min() < -3100 or array.max() < 100:
        raise InputError(f"{path}: expected int16 HU (slice, y, x), found {array.dtype} {array.shape}")
    return array


def _phantom_slices(count: int) -> np.ndarray:
    """Return ``count`` slices, each few of another phantom, thick steps apart so that they differ."""
    blocks = []
    for seed in range(-(-count // SLICES_PER_PHANTOM)):
        volume = thorax(
            seed,
            shape=(SLICES_PER_PHANTOM, 256, 256),
            voxel_mm=(20.0, PHANTOM_SPACING_MM, PHANTOM_SPACING_MM),
        )
        blocks.append(np.round(volume).astype(np.int16))
    return np.concatenate(blocks)[:count]


def _check_row(manifest: Path, row: dict[str, Any]) -> None:
    lacking = [key for key in ("path", "split", "pixel_mm") if not row.get(key)]
    if lacking:
        raise InputError(f"{manifest}: a row has no {lacking[0]}; expected path, split and pixel_mm")
    try:
        spacing = float(row["pixel_mm"])
    except ValueError:
        spacing = -1.0
    if row["split"] not in ("train", "validation") or not spacing > 0:
        raise InputError(
            f"{manifest}: {row['path']}: found split {row['split']!r} and pixel_mm {row['pixel_mm']!r}, "
            "expected train or validation, and a positive number"
        )


def _save(out: Path, name: str, array: np.ndarray) -> None:
    with atomic(out / name) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)


def prepare_slices(source: Path, out: Path, *, phantoms: int, licence: str) -> list[dict[str, Any]]:
    """Write a prepared folder and return its series.

    Args:
        source: folder with ``MANIFEST.csv``, ``train/`` and ``validation/``.
        out: folder to write.
        phantoms: number of procedural thorax slices to add to the training split.
        licence: licence of the real slices, kept with them.

    Raises:
        InputError: a missing manifest, or a file that is not int16 HU.
    """
    manifest = source / "MANIFEST.csv"
    if not manifest.is_file():
        raise InputError(f"{manifest}: not found; expected a table with path, split and pixel_mm")
    series: list[dict[str, Any]] = []
    with manifest.open(newline="") as stream:
        for row in csv.DictReader(stream):
            _check_row(manifest, row)
            name = Path(row["path"]).name.split(".")[0] + ".npy"
            _save(out, name, _read_slices(source / row["path"]))
            series.append(
                {
                    "file": name,
                    "split": row["split"],
                    "source": name.removesuffix(".npy"),
                    "licence": licence,
                    "pixel_mm": float(row["pixel_mm"]),
                }
            )
    if phantoms:
        _save(out, "phantoms.npy", _phantom_slices(phantoms))
        own = {
            "source": "recon.simulate.phantom.thorax.thorax",
            "licence": "Apache-2.0",
            "pixel_mm": PHANTOM_SPACING_MM,
        }
        series.append({"file": "phantoms.npy", "split": "train", **own})
    with atomic(out / "manifest.yaml") as temporary:
        OmegaConf.save(OmegaConf.create({"unit": "HU", "series": series}), temporary)
    return series
