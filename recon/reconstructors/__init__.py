"""Reconstruction methods; YAML picks one by ``name``."""

from typing import Annotated

from pydantic import Field

from recon.reconstructors.fbp import FBP
from recon.reconstructors.nerd import NerdAdmm, NerdFast, NerdPdhg
from recon.reconstructors.variational import TV

Method = Annotated[FBP | TV | NerdFast | NerdAdmm | NerdPdhg, Field(discriminator="name")]

__all__ = ["FBP", "TV", "Method", "NerdAdmm", "NerdFast", "NerdPdhg"]
