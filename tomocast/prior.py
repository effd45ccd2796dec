"""Priors of the public face."""

from priors.card import Prior, load_prior
from priors.diffusion.denoiser import Denoiser

__all__ = ["Denoiser", "Prior", "load_prior"]
