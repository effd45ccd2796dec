r"""What members differ by: noise with the texture of the rain, and motion with an error that grows.

    e = IFFT(|FFT(window f)| FFT(white))    the power spectrum of the last frame, anisotropy included (Seed et al. 2013)

Each band of the noise has variance 1. The error of the motion along and across the mean motion has the deviations of
Bowler et al. (2006), in km/h after t minutes:

    along 10.88 t^0.23 - 7.68       across 5.76 t^0.31 - 2.72       drawn once per member, Laplace distributed

What comes in from beyond the grid (see `assimilation.inference.lagrangian`) is the mirror image of the rain inside up
to a distance of 64 km on average, exponentially distributed over members, and the rain of another place further out.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from assimilation.inference.nowcast.cascade import Bands, Cascade, Plane

MIRRORED_KM = 64.0
TAPER = 0.2  # share of each axis over which the window falls to 0


@dataclass(frozen=True, eq=False)
class Texture:
    """Noise that looks like a field.

    Attributes:
        cascade: bands of the grid.
        amplitude: of the field's real FFT.
    """

    cascade: Cascade
    amplitude: np.ndarray

    @staticmethod
    def of(field: Plane, cascade: Cascade) -> "Texture":
        """Return the texture of a field in dB."""
        return Texture(cascade, np.abs(np.fft.rfft2((field - field.min()) * _window(field.shape))))

    def draw(self, generator: np.random.Generator) -> Bands:
        """Return noise, every band of mean 0 and variance 1."""
        spectrum = np.fft.rfft2(generator.standard_normal(self.cascade.shape)) * self.amplitude
        bands = self.cascade.bands(np.fft.irfft2(spectrum, s=self.cascade.shape))
        bands = bands - bands.mean(axis=(-2, -1), keepdims=True)
        deviation = bands.std(axis=(-2, -1), keepdims=True)
        return np.asarray(bands / np.maximum(deviation, 1e-12))


def drift(
    motion: Float[np.ndarray, "2"], minutes: float, draws: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "2"]:
    """Return how far (km; along y, x) a member has gone astray after a lead.

    Args:
        motion: mean motion along y and x, in any unit.
        minutes: the lead.
        draws: of variance 1, along and across the motion.
    """
    speed = float(np.hypot(*motion))
    along = motion / speed if speed > 0 else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    deviations = (10.88 * minutes**0.23 - 7.68, 5.76 * minutes**0.31 - 2.72)
    # Below a few minutes the fit is negative.
    hours = minutes / 60
    lengths = [max(each, 0.0) * hours * draw for each, draw in zip(deviations, draws, strict=True)]
    return np.asarray(lengths[0] * along + lengths[1] * across)


@dataclass(frozen=True, eq=False)
class Strays:
    """A member's draws, once for all its frames.

    Attributes:
        motion: for ``drift``: Laplace, of variance 1.
        offset: where far rain is taken from, in units of twice the grid (its mirror images repeat after that).
        reach_km: how far beyond the edge rain is mirrored.
    """

    motion: Float[np.ndarray, "2"]
    offset: Float[np.ndarray, "2"]
    reach_km: float

    @staticmethod
    def drawn(generator: np.random.Generator) -> "Strays":
        """Draw them."""
        motion = generator.laplace(scale=1 / np.sqrt(2), size=2)
        return Strays(motion, generator.uniform(size=2), float(generator.exponential(MIRRORED_KM)))


def _window(shape: tuple[int, ...]) -> Plane:
    """Return a Tukey window: 1 inside, falling to 0 at the edges, where the FFT would see a jump."""
    sides = []
    for count in shape:
        edge = max(1, int(TAPER * count / 2))
        rise = 0.5 * (1 - np.cos(np.pi * np.arange(edge) / edge))
        sides.append(np.concatenate([rise, np.ones(count - 2 * edge), rise[::-1]]))
    return np.asarray(np.outer(*sides))
