"""Orbits: what a person writes in YAML, expanded to the vectors of a scan.

``name`` chooses the class, its fields are the rest of the file. ``fit`` fills what is left open to cover a volume.
Conventions are those of ``circular``, ``planar``, ``conical`` and ``spatial``.
"""

from typing import Annotated

from pydantic import Field

from recon.geometry.circular import CircularOrbit, DetectorOrbit
from recon.geometry.conical import CircularCone, HelicalCone
from recon.geometry.planar import FanCurved, FanFlat, Parallel
from recon.geometry.spatial import Parallel3D, Vectors

Orbit = Annotated[
    Parallel | FanFlat | FanCurved | CircularCone | HelicalCone | Parallel3D | Vectors,
    Field(discriminator="name"),
]

__all__ = [
    "CircularCone",
    "CircularOrbit",
    "DetectorOrbit",
    "FanCurved",
    "FanFlat",
    "HelicalCone",
    "Orbit",
    "Parallel",
    "Parallel3D",
    "Vectors",
]
