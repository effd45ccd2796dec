"""What a network of trajectories offers, whoever designed it."""

from abc import ABC, abstractmethod

from jaxtyping import Bool, Float
from torch import Tensor, nn

from priors.networks.space_time_dit.attention import KeyValueCache

Trajectories = Float[Tensor, "b f k y x"]
Levels = Float[Tensor, "b f"]


class TrajectoryNetwork(nn.Module, ABC):
    """Interface of networks that see several frames at their own noise levels.

    Attributes:
        longest: most frames in one call; None where nothing limits them.
        caches: whether `remember` works, so that finished frames need not be given again.
    """

    longest: int | None = None
    caches: bool = False

    @abstractmethod
    def forward(
        self,
        x: Trajectories,
        noise_labels: Levels,
        *,
        causal: bool = False,
        finished: Bool[Tensor, "b f"] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Trajectories:
        """Return the network's output, same shape as ``x``.

        Args:
            x: frames in time order.
            noise_labels: the number that stands for each frame's noise level (see `Conditioning`).
            causal: no frame sees a later one, where the network can be asked for that.
            finished: frames that are clean.
            cache: finished frames directly before ``x``, from `remember`, of a network that caches.
        """

    def remember(
        self, x: Trajectories, noise_labels: Levels, cache: KeyValueCache | None = None
    ) -> KeyValueCache:
        """Return ``cache`` continued by the finished frames ``x``, of a network that caches."""
        raise NotImplementedError
