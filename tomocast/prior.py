"""Priors of the public face."""

from priors.card import Prior, load_prior

__all__ = ["Prior", "load_prior"]
