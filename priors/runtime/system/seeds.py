"""Seeds: every whole number up to 2^64 gives draws of its own.

torch's CPU generator is a Mersenne twister that takes 32 bits of its seed: 1 and 2^32 + 1 would be one seed. Larger
numbers are therefore mixed down to 32 bits by NumPy's ``SeedSequence``, which depends on all of them.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

Seed = Annotated[int, Field(ge=0, lt=2**64)]
"""A seed in settings."""


def generator_of(seed: int) -> torch.Generator:
    """Return a CPU generator for a seed; below 2^32 that of ``torch.Generator().manual_seed(seed)``."""
    return torch.Generator().manual_seed(mixed(seed))


def mixed(seed: int) -> int:
    """Return a seed of 32 bits that depends on all bits of one; itself below 2^32."""
    return seed if seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1, np.uint32)[0])
