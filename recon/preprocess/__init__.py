"""Steps between reading a scan and reconstructing it; YAML picks each one by ``name``."""

from typing import Annotated

from pydantic import Field

from recon.preprocess.bad_pixels import BadPixels
from recon.preprocess.base import Step
from recon.preprocess.centre import Centre
from recon.preprocess.hardening import BeamHardening
from recon.preprocess.metal import Metal
from recon.preprocess.rings import RingsSorting, RingsWavelet

Preprocess = Annotated[
    BadPixels | RingsSorting | RingsWavelet | BeamHardening | Metal | Centre, Field(discriminator="name")
]

__all__ = [
    "BadPixels",
    "BeamHardening",
    "Centre",
    "Metal",
    "Preprocess",
    "RingsSorting",
    "RingsWavelet",
    "Step",
]
