"""Reconstruction methods; YAML picks one by ``name``."""

from recon.reconstructors.fbp import FBP

Method = FBP
