"""Steps between reading a scan and reconstructing it; YAML picks each one by ``name``."""

from typing import Annotated

from pydantic import Field

from recon.preprocessing.bad_pixels import BadPixels
from recon.preprocessing.base import Step
from recon.preprocessing.centre import Centre
from recon.preprocessing.hardening import BeamHardening
from recon.preprocessing.metal import Metal
from recon.preprocessing.rings import RingsSorting, RingsWavelet

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
