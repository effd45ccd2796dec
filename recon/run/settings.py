"""Settings of the jobs of ``recon``, in YAML or as ``key=value``; saved resolved beside every result."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from priors.runtime.errors import InputError
from priors.runtime.system.seeds import Seed
from recon.data.noise import Exposure
from recon.geometry.orbits import Orbit, Parallel
from recon.io.volumes.registry import writer
from recon.operators.backends import BackendName
from recon.preprocess import Preprocess
from recon.reconstructors import Method
from recon.reconstructors.diffusion.base import DiffusionReconstructor
from recon.reconstructors.fbp.fbp import FBP


def _check_span(text: str) -> str:
    """Accept what ``parse_span`` can read."""
    if not re.fullmatch(r"(-?\d+)?:(-?\d+)?(:[1-9]\d*)?", text):
        raise ValueError("expected START:STOP or START:STOP:STEP with either end left out at will")
    return text


Span = Annotated[str, AfterValidator(_check_span)]
"""A range of views or slices as text, Python's ``START:STOP:STEP``."""


def _check_format(name: str) -> str:
    """Accept the name of a format that can be written."""
    return writer(Path(name), name).name


Format = Annotated[str, AfterValidator(_check_format)]
"""The name of a file format of volumes, see ``recon.io.volumes.registry``."""


def parse_span(text: str | None, count: int, key: str) -> range:
    """Return the indices a span picks out of ``count``.

    Raises:
        InputError: it picks none.
    """
    if text is None:
        return range(count)
    picked = range(count)[slice(*(int(bound) if bound else None for bound in text.split(":")))]
    if not picked:
        raise InputError(f"{key}: found '{text}', expected a range that holds some of 0 to {count - 1}")
    return picked


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReconstructSettings(_Settings):
    """A reconstruction.

    Attributes:
        method: what turns line integrals into attenuation.
        preprocess: steps before it, in order, on all views of the slices chosen.
        seed: of every random draw.
        draws: reconstructions of a diffusion method whose mean, deviation and intervals are written; the seeds are
            seed, seed + 1, ...
        against: another diffusion prior that reconstructs the same scan as well; the difference of the two volumes is
            written, and what of it no ray sees. None has none.
        views: views to use; the others are held out and only their residual is reported.
        slices: slices to reconstruct.
        slab: slices in memory at a time, written slab by slab; None takes all of them where they fit, else as many as
            do.
        overlap: slices beside its own that a slab is computed with; None takes what the method's coupling needs.
        grid: pixels of the square slice over the same field of view; None keeps the scan's suggestion.
        prior_grid: reconstruct on pixels that the diffusion prior was trained on where the grid has others, and
            resample the finished volume; off, the grid is used as it is and a warning says so.
        backend: of the projector.
        formats: in which the volume is written, beside NIfTI.
        strict: make every warning about the scan or the result an error.
        checkpoint_s: seconds between two writes of the state from which ``--resume`` continues; 0 writes every one.
    """

    method: Method = FBP()
    preprocess: tuple[Preprocess, ...] = ()
    seed: Seed = 0
    draws: int = Field(1, ge=1, le=1000)
    against: str | None = None
    views: Span | None = None
    slices: Span | None = None
    slab: int | None = Field(None, ge=1)
    overlap: int | None = Field(None, ge=0)
    grid: int | None = Field(None, ge=1)
    prior_grid: bool = False
    backend: BackendName = "auto"
    formats: tuple[Format, ...] = ()
    strict: bool = False
    checkpoint_s: float = Field(30.0, ge=0)

    @property
    def runs(self) -> int:
        """How often the method runs: once per draw, and once more with another prior."""
        return self.draws + (self.against is not None)

    @model_validator(mode="after")
    def _one_volume_is_resampled(self) -> "ReconstructSettings":
        if self.prior_grid and self.draws > 1:
            raise ValueError(
                f"prior_grid: found true with {self.draws} draws, whose intervals hold for the voxels reconstructed "
                "and cannot be resampled; expected a grid of the prior's pixels (grid)"
            )
        return self

    @model_validator(mode="after")
    def _two_priors_make_one_pair(self) -> "ReconstructSettings":
        if self.against is None:
            return self
        if not isinstance(self.method, DiffusionReconstructor):
            raise ValueError(
                f"against: found {self.against!r} with method {self.method.name!r}, which has no prior; expected a "
                "method with a diffusion prior, such as nerd-fast"
            )
        if self.draws > 1:
            raise ValueError(
                f"against: found {self.against!r} with {self.draws} draws, expected one reconstruction"
            )
        return self

    @model_validator(mode="after")
    def _only_diffusion_draws(self) -> "ReconstructSettings":
        if self.draws > 1 and not isinstance(self.method, DiffusionReconstructor):
            raise ValueError(
                f"draws: found {self.draws} with method {self.method.name!r}, which returns the same volume every "
                "time; expected a method with a diffusion prior, such as nerd-fast"
            )
        return self


class SimulateSettings(_Settings):
    """A simulated scan.

    Attributes:
        orbit: where source and detector go; open fields are filled to cover the grid.
        i0: photons per ray without an object.
        background: photons that reach a pixel past the object.
        electronic_sd: standard deviation of the electronic noise, photons.
        grid: pixels of the reconstruction's square slice; None keeps the volume's own.
        slices: slices of the volume to scan.
        seed: of the noise.
    """

    orbit: Orbit = Parallel()
    i0: float = Field(1e5, gt=0, le=1e15, allow_inf_nan=False)
    background: float = Field(0.0, ge=0, le=1e15, allow_inf_nan=False)
    electronic_sd: float = Field(0.0, ge=0, le=1e15, allow_inf_nan=False)
    grid: int | None = Field(256, ge=1)
    slices: Span | None = None
    seed: Seed = 0

    def exposure(self) -> Exposure:
        """Return how the detector counts."""
        return Exposure(self.i0, self.background, self.electronic_sd)


class PhantomSettings(_Settings):
    """A procedural thorax.

    Attributes:
        seed: which patient.
        slices: number of slices.
        grid: pixels of a square slice.
        slice_mm: distance between slices.
        pixel_mm: size of a pixel.
    """

    seed: Seed = 10_000
    slices: int = Field(32, ge=1)
    grid: int = Field(512, ge=16)
    slice_mm: float = Field(2.0, ge=1e-3, le=1e3)
    pixel_mm: float = Field(0.75, ge=1e-3, le=1e3)


class DemoSettings(_Settings):
    """The demonstration: a phantom, its scan, and one reconstruction per entry of ``reconstructions``."""

    phantom: PhantomSettings = PhantomSettings()
    simulate: SimulateSettings = SimulateSettings()
    reconstructions: dict[str, ReconstructSettings] = Field(min_length=1)


JOBS: dict[str, type[BaseModel]] = {
    "reconstruct": ReconstructSettings,
    "simulate": SimulateSettings,
    "phantom": PhantomSettings,
    "demo": DemoSettings,
}


def schema(job: str) -> dict[str, Any]:
    """Return the JSON schema of a job's settings.

    Raises:
        InputError: there is no such job.
    """
    return kind_of(job).model_json_schema()


def kind_of(job: str) -> type[BaseModel]:
    """Return the settings model of a job.

    Raises:
        InputError: there is no such job.
    """
    if job not in JOBS:
        raise InputError(f"job: found '{job}', expected one of {', '.join(JOBS)}")
    return JOBS[job]
