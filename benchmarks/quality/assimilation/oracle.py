r"""Every schedule and guidance against the exact posterior of a linear-Gaussian system.

    .venv/bin/python benchmarks/quality/assimilation/oracle.py [--members 48] [--trajectories 24] [--steps 20]

A ring of 3 points, 10 frames, 1 point observed with sigma 0.3; the prior is the exact denoiser. Three figures,
averaged (as mean squares) over frames, variables and trajectories:

    mean error / floor    rms of (ensemble mean - exact mean), over what sampling alone leaves, exact spread / sqrt(M)
    spread ratio          rms of the ensemble's standard deviation over the exact one
    truth                 rms error of the ensemble mean against the truth, over that of the exact mean

The exact answers are the Kalman filter (lag 0), the fixed-lag smoother (lag 3) and the RTS smoother (infinite).
"""

import argparse
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from assimilation.inference.schedule import InferenceSchedule
from assimilation.inference.trajectory import Stepper, TrajectoryModel
from assimilation.systems.linear_gaussian import Gaussians, LinearGaussian, LinearGaussianChain
from priors.diffusion.denoiser import GaussianDenoiser
from priors.diffusion.guidance import Forcing, Guidance, Likelihood, Mmps, Sda
from priors.diffusion.samplers.sampler import DDIM, Multistep, Sampler
from priors.diffusion.schedule import Cosine

FRAMES, SIZE, SIGMA = 10, 3, 0.3
NAMES = {0: "Kalman filter", 3: "fixed-lag smoother", None: "RTS smoother"}


@dataclass(frozen=True)
class Figures:
    """How far an ensemble is from the exact posterior."""

    mean_error: float
    floor: float
    spread: float
    exact_spread: float
    truth: float

    @property
    def ratio(self) -> float:
        return self.mean_error / self.floor

    @property
    def spread_ratio(self) -> float:
        return self.spread / self.exact_spread


@dataclass(frozen=True, eq=False)
class Case:
    """A system with its exact denoiser."""

    system: LinearGaussianChain
    model: TrajectoryModel

    @staticmethod
    def of(system: LinearGaussianChain) -> "Case":
        """The denoiser knows as many frames as the chain, and (Markov) one finished frame suffices."""
        mean, covariance = system.covariance()
        shaped = mean.reshape(-1, 1, 1, system.A.shape[0])
        prior = GaussianDenoiser(shaped, covariance, schedule=Cosine())
        return Case(system, TrajectoryModel(prior, longest_past=1))

    def members(
        self, y: Tensor, schedule: InferenceSchedule, stepper: Stepper, *, members: int, seed: int
    ) -> Tensor:
        """Return (n, m, f, d) analyses of observations ``y`` (n, f), NaN for frames that have none."""
        count = len(y) * members
        draws = [torch.Generator().manual_seed(1_000_003 * seed + i) for i in range(count)]
        window = self.model.start(count, (1, 1, self.system.A.shape[0]))
        found = []
        for row in schedule.rows(y.shape[1]):
            seen = y[:, row.first : row.first + len(row.before)].repeat_interleave(members, 0)
            window, done = self.model.advance(window, row, stepper, likelihood=likelihood(seen), draws=draws)
            found.append(done)
        return torch.cat(found, 1)[:, :, 0, 0].unflatten(0, (len(y), members))


def likelihood(y: Tensor) -> Likelihood | None:
    """Return the likelihood of the frames (b, f) of a window whose observations are no NaN."""
    places = torch.nonzero(~y[0].isnan())[:, 0]
    if not len(places):
        return None
    variance = torch.full((1, len(places)), SIGMA**2, dtype=torch.float64)
    return Likelihood(y[:, places], variance, lambda x: x[:, places, 0, 0, 0])


def exact(system: LinearGaussianChain, y: Tensor, lag: int | None) -> Gaussians:
    """Return mean and covariance of every frame given the observations up to ``lag`` frames after it."""
    H = torch.zeros(1, system.A.shape[0], dtype=torch.float64)
    H[0, 0] = 1
    return system.fixed_lag(y[:, None], H, torch.full((1, 1), SIGMA**2, dtype=torch.float64), lag=lag)


def measure(
    schedule: InferenceSchedule,
    stepper: Stepper,
    *,
    members: int = 64,
    trajectories: int = 32,
    system: LinearGaussianChain | None = None,
) -> Figures:
    """Compare ensembles with the exact posterior over independent trajectories."""
    case = Case.of(system or LinearGaussian(size=SIZE).chain(FRAMES))
    truth = case.system.sample(trajectories, torch.Generator().manual_seed(0))
    noise = torch.randn(truth.shape[:2], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = truth[:, :, 0] + SIGMA * noise
    drawn = case.members(y, schedule, stepper, members=members, seed=1)
    answers = [exact(case.system, one, schedule.lag) for one in y]
    means = torch.stack([one.means for one in answers])
    variance = answers[0].covariances.diagonal(dim1=1, dim2=2).mean()
    mean = drawn.mean(1)
    return Figures(
        mean_error=_rms(mean - means),
        floor=math.sqrt(float(variance) / members),
        spread=math.sqrt(float(drawn.var(1).mean())),
        exact_spread=math.sqrt(float(variance)),
        truth=_rms(mean - truth) / _rms(means - truth),
    )


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def schedules(steps: int) -> list[InferenceSchedule]:
    """Return the schedules of the table."""
    return [
        InferenceSchedule(steps=steps, lag=0, overlap=4),
        InferenceSchedule(steps=steps, lag=3, overlap=4),
        InferenceSchedule(steps=steps, lag=None),
        InferenceSchedule(steps=steps, lag=0, overlap=2),
        InferenceSchedule(steps=steps, lag=0),
        InferenceSchedule(steps=steps, lag=3),
    ]


def methods() -> list[tuple[str, Guidance, Sampler]]:
    """Return the guidance of the table with the sampler each is meant for."""
    return [
        ("mmps, 1 iteration", Mmps(iterations=1), Multistep()),
        ("mmps, 2 iterations", Mmps(iterations=2), Multistep()),
        ("mmps, 3 iterations", Mmps(iterations=3), Multistep()),
        ("mmps, 4 iterations", Mmps(iterations=4), Multistep()),
        ("mmps, 3 iterations, no backprop", Mmps(iterations=3, backprop=False), Multistep()),
        ("sda", Sda(), Multistep()),
        ("forcing, zeta 0.1", Forcing(zeta=0.1), DDIM()),
        ("forcing, zeta 0.4", Forcing(zeta=0.4), DDIM()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--members", type=int, default=48)
    parser.add_argument("--trajectories", type=int, default=24)
    parser.add_argument("--steps", type=int, default=20)
    chosen = parser.parse_args()
    print("| schedule | exact answer | guidance | mean error / floor | spread ratio | truth |")
    print("|---|---|---|---|---|---|")
    for schedule in schedules(chosen.steps):
        lag = "infinite" if schedule.lag is None else schedule.lag
        overlap = (
            ""
            if schedule.lag is None
            else f", overlap {schedule.overlap}"
            if schedule.overlap
            else ", staircase"
        )
        for label, guidance, sampler in methods():
            if isinstance(guidance, Forcing):
                # It was made for 100 small steps.
                schedule = schedule.model_copy(update={"steps": 100})
            found = measure(
                schedule, Stepper(sampler, guidance), members=chosen.members, trajectories=chosen.trajectories
            )
            print(
                f"| lag {lag}{overlap} | {NAMES[schedule.lag]} | {label} | {found.ratio:.2f} "
                f"| {found.spread_ratio:.3f} | {found.truth:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
