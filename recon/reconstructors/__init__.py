"""Reconstruction methods; YAML picks one by ``name``."""

from typing import Annotated

from pydantic import Field

from recon.reconstructors.cgls import CGLS
from recon.reconstructors.diffusion.dds import DDS, DDS3D
from recon.reconstructors.diffusion.diffpir import DiffPIR
from recon.reconstructors.diffusion.diffusion_mbir import DiffusionMBIR
from recon.reconstructors.diffusion.gradients import DPS, REDDiff
from recon.reconstructors.diffusion.nerd.nerd import NerdAdmm, NerdFast, NerdPdhg, NerdThorough
from recon.reconstructors.diffusion.plug_and_play import PnPADMM, PnPHQS
from recon.reconstructors.diffusion.sitcom import SITCOM
from recon.reconstructors.exact import Exact
from recon.reconstructors.fbp.fbp import FBP
from recon.reconstructors.sirt import SIRT
from recon.reconstructors.tv import TV

Method = Annotated[
    FBP
    | CGLS
    | SIRT
    | TV
    | Exact
    | NerdFast
    | NerdThorough
    | NerdAdmm
    | NerdPdhg
    | DDS
    | DDS3D
    | DiffPIR
    | DiffusionMBIR
    | DPS
    | REDDiff
    | SITCOM
    | PnPHQS
    | PnPADMM,
    Field(discriminator="name"),
]

__all__ = [
    "CGLS",
    "DDS",
    "DDS3D",
    "DPS",
    "FBP",
    "SIRT",
    "SITCOM",
    "TV",
    "DiffPIR",
    "DiffusionMBIR",
    "Exact",
    "Method",
    "NerdAdmm",
    "NerdFast",
    "NerdPdhg",
    "NerdThorough",
    "PnPADMM",
    "PnPHQS",
    "REDDiff",
]
