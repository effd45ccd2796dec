"""Windows of trajectories from prepared arrays.

A prepared folder holds ``manifest.yaml`` and one float32 ``.npy`` (n, time, k, y, x) per event, NaN where a
value is missing, all on one grid spacing and one time step:

    kind: trajectories
    step_s: 600.0
    spacing: 2.0
    spacing_unit: km
    periodic: [false, false]
    variables:
      - {name: rain_rate, unit: mm/h}
    events:
      - {file: event.npy, split: train, source: ..., licence: ...}

A batch is a pure function of (seed, step). Windows are moved only in ways that the config declares the
physics to allow; values are changed only by the constant that ``shift`` asks for.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from priors.codec import FieldCodec
from priors.runtime.config import read_yaml, validate
from priors.runtime.errors import InputError
from priors.training.engine.arrays import load_array
from priors.training.slices.data import Split

Window = Float[np.ndarray, "f k y x"]


class PreparedVariable(BaseModel):
    """One variable of the states."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str
    standard_name: str = ""


class Event(BaseModel):
    """One array of a prepared folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    split: Split
    source: str
    licence: str
    share: float = Field(1.0, gt=0, description="draws per window relative to the other events")


class TrajectoryManifest(BaseModel):
    """Contents of ``manifest.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["trajectories"]
    step_s: float = Field(gt=0)
    spacing: float | tuple[float, float]
    spacing_unit: str
    periodic: tuple[bool, bool]
    variables: tuple[PreparedVariable, ...] = Field(min_length=1)
    events: tuple[Event, ...] = Field(min_length=1)

    @property
    def spacings(self) -> tuple[float, float]:
        """Spacing along y and x."""
        return (self.spacing, self.spacing) if isinstance(self.spacing, float) else self.spacing


class Moves(BaseModel):
    """Symmetries of the physics, each used with even chances where it is declared.

    Attributes:
        flip_y: mirror along y.
        flip_x: mirror along x.
        half_turn: rotate by 180 degrees.
        transpose: exchange y and x, of windows as high as wide: for physics without a preferred direction.
        roll: shift along the periodic axes, by any number of places or by none or half the domain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip_y: bool = False
    flip_x: bool = False
    half_turn: bool = False
    transpose: bool = False
    roll: Literal["none", "half", "any"] = "none"

    def __call__(
        self, window: Window, *, periodic: tuple[bool, bool], generator: np.random.Generator
    ) -> Window:
        """Return the window after random moves."""
        # Drawn only where declared, so that the batches of other runs stay those they were.
        if self.transpose and window.shape[-2] == window.shape[-1] and generator.random() < 0.5:
            window = np.swapaxes(window, -2, -1)
        turn = self.half_turn and generator.random() < 0.5
        flips = [turn != (on and generator.random() < 0.5) for on in (self.flip_y, self.flip_x)]
        for axis, (flip, cyclic) in enumerate(zip(flips, periodic, strict=True), start=2):
            if flip:
                window = np.flip(window, axis)
                # On a periodic axis x -> -x keeps the origin's place; flipping alone would shift by one.
                window = np.roll(window, 1, axis) if cyclic else window
            if self.roll != "none" and cyclic:
                unit = window.shape[axis] // 2 if self.roll == "half" else 1
                window = np.roll(window, unit * int(generator.integers(window.shape[axis] // unit)), axis)
        return window


@dataclass(frozen=True)
class PreparedTrajectories:
    """Trajectories of one split of a prepared folder, in memory, in physical units."""

    manifest: TrajectoryManifest
    arrays: tuple[np.ndarray, ...]
    events: tuple[Event, ...]

    @classmethod
    def load(cls, folder: Path, split: Split) -> "PreparedTrajectories":
        """Read one split.

        Raises:
            InputError: a missing or malformed manifest, or an array that does not match it.
        """
        path = Path(folder) / "manifest.yaml"
        if not path.is_file():
            raise InputError(f"{path}: not found; expected a prepared folder (see `tomocast prepare --help`)")
        manifest = validate(TrajectoryManifest, read_yaml(path), source=str(path))
        events = tuple(event for event in manifest.events if event.split == split)
        if not events:
            raise InputError(f"{path}: holds no events of the split {split!r}")
        count = len(manifest.variables)
        return cls(manifest, tuple(_read(path.parent / e.file, count) for e in events), events)

    def require(self, *, frames: int, size: int | None, codec: FieldCodec) -> None:
        """Check that a window fits into every event, and the values into the codec's range.

        Raises:
            InputError: it does not, or most values would be clipped, or all look alike to the network.
        """
        names, wanted = [v.name for v in self.manifest.variables], [v.name for v in codec.variables]
        if names != wanted:
            raise InputError(f"codec.variables: found {wanted}, the prepared data holds {names}")
        for ours, theirs in zip(codec.variables, self.manifest.variables, strict=True):
            if ours.unit != theirs.unit:
                raise InputError(
                    f"codec.variables: {ours.name}: found the unit {ours.unit!r}, the prepared data is in "
                    f"{theirs.unit!r}"
                )
        shapes = {array.shape[-2:] for array in self.arrays}
        if size is None and len(shapes) > 1:
            raise InputError(f"size: found none, but the fields differ in size ({sorted(shapes)}); give one")
        for array, event in zip(self.arrays, self.events, strict=True):
            if array.shape[1] < frames:
                raise InputError(f"frames: found {frames}, {event.file} holds {array.shape[1]} only")
            if size is not None and min(array.shape[-2:]) < size:
                raise InputError(
                    f"size: crops of {size} are larger than the fields of {event.file} {array.shape[-2:]}"
                )
            _check_values(array, event, codec)

    def draw(self, generator: np.random.Generator, *, frames: int, size: int | None, moves: Moves) -> Window:
        """Return one window, events weighted by their number of windows times share."""
        counts = np.array([len(a) * (a.shape[1] - frames + 1) for a in self.arrays])
        weights = counts * np.array([event.share for event in self.events])
        array = self.arrays[generator.choice(len(self.arrays), p=weights / weights.sum())]
        begin = generator.integers(array.shape[1] - frames + 1)
        window = array[generator.integers(len(array)), begin : begin + frames]
        window = moves(window, periodic=self.manifest.periodic, generator=generator)
        if size is None:
            return window
        top, left = (int(generator.integers(n - size + 1)) for n in window.shape[-2:])
        return window[..., top : top + size, left : left + size]


def encode(
    windows: list[Window], codec: FieldCodec
) -> tuple[Float[Tensor, "b f k y x"], Bool[Tensor, "b f k y x"]]:
    """Return windows in network units, zero where a value is missing, and which are not."""
    physical = torch.from_numpy(np.stack(windows).astype(np.float32))
    valid = torch.isfinite(physical)
    return torch.where(valid, codec.encode(codec.clip(physical)), 0.0), valid


def spread_windows(data: PreparedTrajectories, count: int, *, frames: int, size: int | None) -> list[Window]:
    """Return evenly spread windows, with crops at reproducible places.

    A window whose values are nearly all missing or constant tells nothing; of four candidate crops the one
    with the largest variance is taken.
    """
    places = [
        (k, n, begin)
        for k, array in enumerate(data.arrays)
        for n in range(len(array))
        for begin in range(0, array.shape[1] - frames + 1)
    ]
    generator = np.random.default_rng(0)
    windows = []
    for index in np.linspace(0, len(places) - 1, count).round().astype(int):
        k, n, begin = places[index]
        window = data.arrays[k][n, begin : begin + frames]
        if size is None:
            windows.append(window)
            continue
        corners = [[int(generator.integers(m - size + 1)) for m in window.shape[-2:]] for _ in range(4)]
        crops = [window[..., y : y + size, x : x + size] for y, x in corners]
        windows.append(max(crops, key=lambda crop: float(np.nan_to_num(crop).var())))
    return windows


def _check_values(array: np.ndarray, event: Event, codec: FieldCodec) -> None:
    few = array[:, :: max(1, array.shape[1] // 8)]
    for index, variable in enumerate(codec.variables):
        values = few[:, :, index]
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        if np.mean((values < variable.low) | (values > variable.high)) > 0.5:
            raise InputError(
                f"{event.file}: most values of {variable.name} lie from {np.percentile(values, 1):.4g} to "
                f"{np.percentile(values, 99):.4g} {variable.unit}, outside the codec's range "
                f"({variable.low:g} to {variable.high:g})"
            )


def _read(path: Path, variables: int) -> np.ndarray:
    array = load_array(path)
    if array.ndim != 5 or array.dtype != np.float32:
        raise InputError(
            f"{path}: found {array.dtype} {array.shape}, expected float32 (trajectory, time, variable, y, x)"
        )
    if array.shape[2] != variables:
        raise InputError(f"{path}: found {array.shape[2]} variables, the manifest names {variables}")
    # Frame by frame: an array on disk is not taken into memory as a whole.
    frames = [array[index] for index in np.ndindex(array.shape[:2])]
    if any(np.isinf(frame).any() for frame in frames) or not any(
        np.isfinite(frame).any() for frame in frames
    ):
        raise InputError(f"{path}: holds infinite values or no finite one, expected numbers and NaN")
    return array
