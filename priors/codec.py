"""Codec: physical units <-> network units. The only place, with the card, where values are rescaled.

    network = (physical - offset) / scale        physical = scale * network + offset

The map is affine, so a linear operator can absorb it: A(physical) = scale * A(network) + offset * A(1).
"""

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor


class Codec(BaseModel):
    """Affine map with the physical range the network was trained on.

    Attributes:
        offset: physical value at network value zero.
        scale: physical units per network unit.
        low: smallest physical value seen in training (smaller ones were clipped to it).
        high: largest physical value seen in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: float
    scale: float = Field(gt=0)
    low: float
    high: float

    @model_validator(mode="after")
    def _range_is_ordered(self) -> "Codec":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def encode(self, physical: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return network units."""
        return (physical - self.offset) / self.scale

    def decode(self, network: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return physical units."""
        return network * self.scale + self.offset
