"""Gaussian noise of volumes: drawn for the whole, or slice by slice where slabs of a volume are reconstructed.

In slabs, noise belongs to slices: one number is drawn for the volume, and with the number of a slice it seeds the noise
of that slice. Two slabs that both hold a slice give it the same noise, whatever else they hold.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.system.seeds import generator_of

Volumes = Float[Tensor, "z y x"]


class SliceGenerator(torch.Generator):
    """A generator that knows which slice of the whole volume is the first of those it draws for."""

    first_slice: int = 0


def generator_at(state: Tensor, first_slice: int | None) -> torch.Generator:
    """Return a generator in some state, of a slab where ``first_slice`` says so."""
    if first_slice is None:
        generator = torch.Generator()
    else:
        generator = SliceGenerator()
        generator.first_slice = first_slice
    generator.set_state(state)
    return generator


def noise_like(x: Volumes, generator: torch.Generator) -> Volumes:
    """Return unit Gaussian noise of the shape of ``x``, slice-last."""
    if isinstance(generator, SliceGenerator):
        key = int(torch.randint(2**40, (), generator=generator))
        # Seeds from 2^32 on are hashed: neighbouring slices have nothing in common.
        seeds = [((key + 2**40) << 20) + generator.first_slice + k for k in range(len(x))]
        noise = torch.stack([torch.randn(x.shape[1:], generator=generator_of(seed)) for seed in seeds])
    else:
        noise = torch.randn(x.shape, generator=generator)
    return noise.permute(1, 2, 0).contiguous().permute(2, 0, 1)
