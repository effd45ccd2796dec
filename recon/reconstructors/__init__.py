"""Reconstruction methods; YAML picks one by ``name``."""

from typing import Annotated

from pydantic import Field

from recon.reconstructors.cgls import CGLS
from recon.reconstructors.diffusion.nerd import NerdAdmm, NerdFast, NerdPdhg
from recon.reconstructors.fbp.fbp import FBP
from recon.reconstructors.sirt import SIRT
from recon.reconstructors.tv import TV

Method = Annotated[FBP | CGLS | SIRT | TV | NerdFast | NerdAdmm | NerdPdhg, Field(discriminator="name")]

__all__ = ["CGLS", "FBP", "SIRT", "TV", "Method", "NerdAdmm", "NerdFast", "NerdPdhg"]
