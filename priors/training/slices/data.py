"""Training batches from prepared arrays.

A prepared folder holds ``manifest.yaml`` and one int16 or float32 ``.npy`` per series, slices first:

    unit: HU
    series:
      - {file: patient.npy, split: train, source: ..., licence: ..., pixel_mm: 1.27}

A sample is a pure function of (seed, step, its number): nothing is shuffled, nothing is remembered, so a resumed run
sees the same batches, and several processes see those of one. Augmentation moves pixels (flips, small rotations and
scales) and never changes their values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from priors.codec import Codec
from priors.runtime.config import read_yaml, validate
from priors.runtime.errors import InputError
from priors.training.engine.arrays import load_array

Split = Literal["train", "validation"]
SPACING = 0.01
"""Pixel spacings may lie this far outside the card's range, relative: it is written with few digits."""


class Series(BaseModel):
    """One array of a prepared folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    split: Split
    source: str
    licence: str
    pixel_mm: float = Field(gt=0)
    dz_mm: float | None = Field(None, gt=0, description="distance between slices, where they are neighbours")
    label: str | None = Field(None, description="class of its slices, for priors that are told it")
    share: float = Field(1.0, gt=0, description="draws per slice relative to the other series")


class PreparedManifest(BaseModel):
    """Contents of ``manifest.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str
    series: tuple[Series, ...] = Field(min_length=1)


class Augmentation(BaseModel):
    """Geometric variation of a training field; values are interpolated, never rescaled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: bool = True
    probability: float = Field(0.5, ge=0, le=1, description="share of samples that are rotated and scaled")
    rotation_deg: float = Field(12.0, ge=0)
    scale: float = Field(1.15, ge=1, description="largest magnification and reduction")


class Crop(BaseModel):
    """One batch shape: fields of ``size`` pixels, ``batch`` of them, used in ``share`` of the steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=8)
    batch: int = Field(ge=1)
    share: float = Field(1.0, gt=0)


@dataclass(frozen=True)
class PreparedArrays:
    """Slices of one split of a prepared folder, in memory, in physical units."""

    manifest: PreparedManifest
    arrays: tuple[np.ndarray, ...]
    series: tuple[Series, ...]

    @classmethod
    def load(cls, folder: Path, split: Split) -> "PreparedArrays":
        """Read one split.

        Raises:
            InputError: a missing or malformed manifest, or an array that does not match it.
        """
        path = Path(folder) / "manifest.yaml"
        if not path.is_file():
            raise InputError(
                f"{path}: not found; expected a prepared folder (see `tomocast prepare slices --help`)"
            )
        manifest = validate(PreparedManifest, read_yaml(path), source=str(path))
        series = tuple(entry for entry in manifest.series if entry.split == split)
        if not series:
            raise InputError(f"{path}: holds no series of the split {split!r}")
        return cls(manifest, tuple(_read_array(path.parent / s.file, manifest.unit) for s in series), series)

    def require(self, crops: Iterable[Crop], codec: Codec) -> None:
        """Check that every crop fits into every slice, and the values into the codec's range.

        Raises:
            InputError: a crop does not, most values would be clipped, or all look alike to the network.
        """
        for array, series in zip(self.arrays, self.series, strict=True):
            few = array[:: max(1, len(array) // 8)].astype(np.float32)
            if np.mean((few < codec.low) | (few > codec.high)) > 0.5 or few.std() < 1e-3 * codec.scale:
                raise InputError(
                    f"{series.file}: most values lie from {np.percentile(few, 1):.4g} to "
                    f"{np.percentile(few, 99):.4g} {self.manifest.unit}, which does not fit the codec "
                    f"(low {codec.low:g}, high {codec.high:g}, scale {codec.scale:g})"
                )
            for crop in crops:
                if min(array.shape[1:]) < crop.size:
                    raise InputError(
                        f"crops: size {crop.size} is larger than the slices of {series.file} "
                        f"({array.shape[1]} x {array.shape[2]} pixels)"
                    )

    def require_spacing(self, pixel_mm: tuple[float, float]) -> None:
        """Check that the card will tell the pixel spacings the network has seen.

        Raises:
            InputError: a series lies outside the range.
        """
        low, high = pixel_mm
        for series in self.series:
            if not low * (1 - SPACING) <= series.pixel_mm <= high * (1 + SPACING):
                raise InputError(
                    f"description.pixel_mm: found {low:g} to {high:g} mm, but {series.file} has pixels of "
                    f"{series.pixel_mm:g} mm; widen the range, or leave the series out"
                )

    def require_classes(self, classes: Sequence[str]) -> None:
        """Check that every class of a series is known, and that each class has a series.

        Raises:
            InputError: one is not, or has none.
        """
        self.require_known(classes)
        found = {series.label for series in self.series}
        for name in classes:
            if name not in found:
                raise InputError(f"condition.classes: no series of the training data is labelled {name!r}")

    def require_known(self, classes: Sequence[str]) -> None:
        """Check that every label is one of ``classes``; a series without one belongs to none.

        Raises:
            InputError: one is not.
        """
        for series in self.series:
            if series.label is not None and series.label not in classes:
                raise InputError(
                    f"condition.classes: found {', '.join(classes)}, but {series.file} is labelled {series.label!r}"
                )

    def require_neighbours(self) -> None:
        """Check that the slices of every series are neighbours.

        Raises:
            InputError: a series does not say how far apart they are.
        """
        for series in self.series:
            if series.dz_mm is None:
                raise InputError(
                    f"slab: {series.file} has no dz_mm in manifest.yaml, expected the distance of its slices"
                )

    def draw(self, generator: np.random.Generator, count: int) -> list[np.ndarray]:
        """Return ``count`` whole fields, series weighted by slices times share."""
        return [self.arrays[k][place] for k, place in self.places(generator, count)]

    def places(self, generator: np.random.Generator, count: int) -> list[tuple[int, int]]:
        """Return ``count`` places, series and slice, series weighted by slices times share."""
        weights = np.array([len(a) * s.share for a, s in zip(self.arrays, self.series, strict=True)])
        indices = generator.choice(len(self.arrays), size=count, p=weights / weights.sum())
        return [(int(k), int(generator.integers(len(self.arrays[k])))) for k in indices]


def class_numbers(labels: Sequence[str | None], classes: Sequence[str]) -> Int[Tensor, "b"]:
    """Return the places of labels in the list of classes; none of them is one beyond its end."""
    return torch.tensor([len(classes) if label is None else classes.index(label) for label in labels])


def _read_array(path: Path, unit: str) -> np.ndarray:
    array = load_array(path)
    if array.ndim != 3 or array.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
        raise InputError(
            f"{path}: expected int16 or float32 (slice, y, x), found {array.dtype} {array.shape}"
        )
    if array.size == 0:
        raise InputError(f"{path}: holds no values, its shape is {array.shape}")
    # Slice by slice: an array on disk is not taken into memory as a whole.
    count = sum(int((~np.isfinite(field)).sum()) for field in array) if array.dtype == np.float32 else 0
    if count:
        raise InputError(f"{path}: {count} values are NaN or infinite, expected finite {unit}")
    return array


def _affine_crop(
    slab: np.ndarray, size: int, augmentation: Augmentation, generator: np.random.Generator
) -> Float[Tensor, "slices y x"]:
    """Rotate and scale about a random centre, bicubic, and cut a square of ``size``."""
    height, width = slab.shape[1:]
    angle = np.deg2rad(generator.uniform(-augmentation.rotation_deg, augmentation.rotation_deg))
    reach = np.log(augmentation.scale)
    zoom = np.exp(generator.uniform(-reach, reach))
    span = np.array([size / width, size / height])
    centre = generator.uniform(-1, 1, 2) * np.maximum(1 - span, 0.05)
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    theta = torch.tensor(
        [[[cosine * span[0], -sine * span[1], centre[0]], [sine * span[0], cosine * span[1], centre[1]]]],
        dtype=torch.float32,
    )
    grid = functional.affine_grid(theta, [1, 1, size, size], align_corners=False)
    source = torch.from_numpy(slab.astype(np.float32))[None]
    return functional.grid_sample(source, grid, mode="bicubic", padding_mode="border", align_corners=False)[0]


def _plain_crop(slab: np.ndarray, size: int, generator: np.random.Generator) -> Float[Tensor, "slices y x"]:
    """Cut a square of ``size`` at a random whole-pixel place."""
    top = generator.integers(slab.shape[1] - size + 1)
    left = generator.integers(slab.shape[2] - size + 1)
    return torch.from_numpy(slab[:, top : top + size, left : left + size].astype(np.float32))


def sample_at(
    data: PreparedArrays,
    size: int,
    *,
    augmentation: Augmentation,
    codec: Codec,
    generator: np.random.Generator,
    slices: int = 1,
) -> Float[Tensor, "slices y x"]:
    """Return one augmented field of ``size`` pixels in network units, or a few neighbouring ones moved alike."""
    ((series, place),) = data.places(generator, 1)
    slab = neighbouring(data.arrays[series], place, slices)
    if generator.random() < augmentation.probability:
        cut = _affine_crop(slab, size, augmentation, generator)
    else:
        cut = _plain_crop(slab, size, generator)
    cut = cut.flip(-1) if augmentation.flip and generator.random() < 0.5 else cut
    return codec.encode(cut.clamp(codec.low, codec.high)).contiguous()


def neighbouring(array: np.ndarray, place: int, slices: int) -> np.ndarray:
    """Return slices around one, the ends repeated."""
    around = np.arange(slices) - slices // 2 + place
    found: np.ndarray = array[around.clip(0, len(array) - 1)]
    return found
