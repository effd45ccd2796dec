"""A reconstruction with its uncertainty: the mean of several draws, and per voxel how far the truth may be from it."""

from dataclasses import dataclass

from recon.data.volume import Volume


@dataclass(frozen=True, eq=False, repr=False)
class IntervalVolume(Volume):
    """The mean of draws, with three volumes on its grid.

    Attributes:
        deviation: of the mean's error, in the unit of the values.
        lower: lower end of the 90 % interval.
        upper: its upper end.
    """

    # The fields before them have defaults; whoever makes one gives all three.
    deviation: Volume = None  # type: ignore[assignment]
    lower: Volume = None  # type: ignore[assignment]
    upper: Volume = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"IntervalVolume(mean: {super().__repr__()}, with deviation, lower, upper)"
