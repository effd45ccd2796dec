"""Codec: physical units <-> network units. The only place, with the card, where values are rescaled.

    network = (physical - offset) / scale        physical = scale * network + offset

The map is affine, so a linear operator can absorb it: A(physical) = scale * A(network) + offset * A(1).
States of several variables have one map each, affine in the value or in its logarithm, for rain:

    network = (T(physical) - offset) / scale          T(r) = r   or   log(1 + r / r0)
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, WrapValidator, model_validator
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


class VariableCodec(BaseModel):
    """One variable's map, affine in the physical value or in its logarithm.

    Attributes:
        name: of the variable.
        unit: physical unit.
        standard_name: CF standard name, if there is one.
        offset: transformed value at network value zero.
        scale: transformed units per network unit.
        low: smallest physical value seen in training (smaller ones were clipped to it).
        high: largest physical value seen in training.
        minimum: smallest physically possible value, if there is one.
        transform: ``log1p`` is T(r) = log(1 + r / reference), ``none`` is T(r) = r.
        reference: physical value at which the logarithm begins to bend.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str
    standard_name: str = ""
    offset: float
    scale: float = Field(gt=0)
    low: float
    high: float
    minimum: float | None = None
    transform: Literal["none", "log1p"] = "none"
    reference: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _range_is_ordered(self) -> "VariableCodec":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.transform == "log1p" and self.low < 0:
            raise ValueError(f"low ({self.low}) must not be negative under log1p")
        return self

    def encode(self, physical: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return network units; under log1p negative values count as zero."""
        if self.transform == "log1p":
            physical = torch.log1p(physical.clamp(min=0) / self.reference)
        return (physical - self.offset) / self.scale

    def decode(self, network: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return physical units, not clipped: values a little below ``minimum`` keep their gradient."""
        transformed = network * self.scale + self.offset
        return self.reference * torch.expm1(transformed) if self.transform == "log1p" else transformed


class FieldCodec(BaseModel):
    """Maps of the variables of a state, which lie on axis -3: (..., k, y, x). NaN stays NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variables: tuple[VariableCodec, ...] = Field(min_length=1)

    def encode(self, physical: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b k y x"]:
        """Return network units."""
        return torch.stack([v.encode(x) for v, x in self._each(physical)], dim=-3)

    def decode(self, network: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b k y x"]:
        """Return physical units; differentiable."""
        return torch.stack([v.decode(x) for v, x in self._each(network)], dim=-3)

    def clip(self, physical: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b k y x"]:
        """Return physical values cut to the range seen in training."""
        return torch.stack([x.clamp(v.low, v.high) for v, x in self._each(physical)], dim=-3)

    def clip_to_physical(self, physical: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b k y x"]:
        """Return physical values no lower than possible and, under log1p, no higher than seen in training.

        The exponential would turn a small excess of the network's value into any number.
        """
        highest = [v.high if v.transform == "log1p" else None for v in self.variables]
        pairs = zip(self._each(physical), highest, strict=True)
        cut = [
            x if v.minimum is None and high is None else x.clamp(v.minimum, high) for (v, x), high in pairs
        ]
        return torch.stack(cut, dim=-3)

    def _each(self, state: Float[Tensor, "*b k y x"]) -> Iterator[tuple[VariableCodec, Tensor]]:
        return zip(self.variables, state.unbind(-3), strict=True)


def _by_kind(data: Any, _: Any) -> "Codec | FieldCodec":
    """Validate as the kind the keys show, so that an error names the user's key and not a member."""
    if isinstance(data, Codec | FieldCodec):
        return data
    kind = FieldCodec if isinstance(data, Mapping) and "variables" in data else Codec
    return kind.model_validate(data)


AnyCodec = Annotated[Codec | FieldCodec, WrapValidator(_by_kind)]
