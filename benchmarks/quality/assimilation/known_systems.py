"""Facts about the known systems at equilibrium: deviation, correlation between frames, enstrophy balance, cost.

.venv/bin/python benchmarks/quality/assimilation/known_systems.py --trajectories 32 --steps 40 --seed 1
"""

import argparse
import time

import numpy as np

from assimilation.systems import Kolmogorov, LinearGaussian, Lorenz96, NavierStokes
from assimilation.systems.base import System, simulate


def correlation(values: np.ndarray, lag: int) -> float:
    """Correlation of states ``lag`` frames apart, about the mean over everything."""
    held = values - values.mean(axis=(0, 1, 3, 4), keepdims=True)
    return float((held[:, lag:] * held[:, :-lag]).mean() / (held**2).mean())


def enstrophy_balance(system: NavierStokes, values: np.ndarray) -> dict[str, float]:
    """Enstrophy put in by the forcing and taken out by drag and viscosity, per unit of time."""
    w = values[:, :, 0].astype(np.float64)
    k = np.fft.fftfreq(system.size, 1 / system.size)
    power = np.abs(np.fft.fft2(w)) ** 2 / system.size**4
    gradient = (power * (k[:, None] ** 2 + k**2)).sum((-2, -1)).mean()
    return {
        "forcing": system.input_rate(),
        "drag": system.drag * float((w**2).mean()),
        "viscosity": system.viscosity * float(gradient),
    }


def spectrum(system: NavierStokes, values: np.ndarray) -> np.ndarray:
    """Mean square of vorticity per unit of wavenumber."""
    k = np.fft.fftfreq(system.size, 1 / system.size)
    shell = np.rint(np.hypot(k[:, None], k)).astype(int)
    power = (np.abs(np.fft.fft2(values[:, :, 0])) ** 2).mean((0, 1)) / system.size**4
    return np.bincount(shell.ravel(), power.ravel())


def main() -> None:
    """Print one block per system."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trajectories", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    systems: tuple[System, ...] = (NavierStokes(), Kolmogorov(), Lorenz96(), LinearGaussian())
    for system in systems:
        begin = time.process_time()
        values = simulate(
            system, trajectories=options.trajectories, frames=options.steps, seed=options.seed
        ).values
        seconds = time.process_time() - begin
        told = ", ".join(f"{lag}: {correlation(values, lag):.2f}" for lag in (1, 2, 3, 5, 10))
        print(f"{system!r}\n  {seconds:.0f} s of one core, deviation {values.std():.3f}, correlation {told}")
        if isinstance(system, NavierStokes):
            rates = enstrophy_balance(system, values)
            balance = ", ".join(f"{name} {rate:.3f}" for name, rate in rates.items())
            print(f"  enstrophy per unit of time: {balance}")
    print("spectrum of vorticity at wavenumbers 15, 18, 21:")
    for viscosity in (1e-3, 2e-3):
        flow = NavierStokes(viscosity=viscosity)
        values = simulate(flow, trajectories=8, frames=20, seed=options.seed).values
        shown = ", ".join(f"{value:.1e}" for value in spectrum(flow, values)[[15, 18, 21]])
        print(f"  viscosity {viscosity:g}: {shown}")


if __name__ == "__main__":
    main()
