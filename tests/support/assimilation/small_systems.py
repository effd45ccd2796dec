"""One small instance of every known system, quick to simulate."""

from assimilation.systems import Kolmogorov, LinearGaussian, Lorenz96, NavierStokes
from assimilation.systems.base import System


def small_systems() -> list[System]:
    return [
        NavierStokes(size=32, frame=5.0, time_step=0.1),
        Kolmogorov(size=32, frame=10.0, time_step=0.05),
        Lorenz96(frame=1.0),
        LinearGaussian(size=6),
    ]
