r"""From observations in physical units to the likelihood of a window in network units.

    H(window) = (H_first(c(x_first)), H_first+1(c(x_first+1)), ...),    c the codec's decoding

over the frames of a window that have observations. The codec may be nonlinear (rain rates): guidance linearises
the whole of H at its current estimate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from assimilation.observation.base import Observation, ObservationStream
from priors.codec import FieldCodec
from priors.diffusion.guidance import Likelihood


@dataclass(frozen=True, eq=False)
class WindowOperator:
    """H of a window: what is seen of each frame, one after the other.

    Observation operators live on the CPU, wherever the prior is.
    """

    codec: FieldCodec
    observed: tuple[tuple[int, Observation], ...]

    def __call__(self, x: Float[Tensor, "b f k y x"]) -> Float[Tensor, "b n"]:
        """Return the observations of every sample."""
        seen = [
            observation.operator(self.codec.decode(x[:, frame]).cpu()) for frame, observation in self.observed
        ]
        return torch.cat(seen, dim=1).to(x.device)


@dataclass(frozen=True, eq=False)
class FrameObservations:
    """The observations of one trajectory, by frame of the run.

    Attributes:
        stream: where they come from.
        codec: of the prior.
        trajectory: which one.
        stream_index: index in the stream of every frame of the run, -1 where the stream has no such time.
        device: where the prior is.
        dtype: what it computes in.
    """

    stream: ObservationStream
    codec: FieldCodec
    trajectory: int
    stream_index: Sequence[int]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    _read: dict[int, Observation | None] = field(default_factory=dict)

    def likelihood(self, first: int, count: int) -> Likelihood | None:
        """Return the likelihood of the frames from ``first`` on, None where none of them was observed."""
        for frame in [old for old in self._read if old < first]:
            del self._read[frame]
        frames = [(offset, self._at(first + offset)) for offset in range(count)]
        observed = tuple((offset, observation) for offset, observation in frames if observation is not None)
        if not observed:
            return None
        values, variance = (
            torch.cat(rows).to(self.device, self.dtype)
            for rows in zip(
                *((observation.values, observation.variance) for _, observation in observed), strict=True
            )
        )
        return Likelihood(values[None], variance[None], WindowOperator(self.codec, observed))

    def _at(self, frame: int) -> Observation | None:
        if frame not in self._read:
            index = self.stream_index[frame]
            self._read[frame] = None if index < 0 else self.stream.at(self.trajectory, index)
        return self._read[frame]
