"""A trajectory prior trained for a few seconds, and fields of the system it knows: smooth noise that drifts."""

from pathlib import Path

import numpy as np
import torch

from assimilation.fields.fields import Fields
from assimilation.fields.grid import Grid, Variable
from priors.card import PriorCard, TrajectoryCard, file_sha256
from priors.card.weights import write_weights
from priors.codec import FieldCodec, VariableCodec
from priors.diffusion.denoiser import NetworkDenoiser, broadcast_scales
from priors.diffusion.parametrisation import Velocity
from priors.diffusion.schedule import Cosine
from priors.networks import SpaceTimeDiT
from priors.runtime.config import to_yaml

SIZE = 16
STEP_S = 60.0
CODEC = FieldCodec(
    variables=(VariableCodec(name="depth", unit="m", offset=10.0, scale=2.0, low=0.0, high=20.0),)
)
NETWORK = SpaceTimeDiT(
    patch=2,
    stages=(),
    width=32,
    depth=1,
    head_width=16,
    features=32,
    reach=3,
    padding=("periodic", "periodic"),
)


def grid() -> Grid:
    axis = np.arange(float(SIZE))
    return Grid(axis, axis, "plane", "km", (True, True))


def smooth(generator: torch.Generator, count: int) -> torch.Tensor:
    """Return (count, y, x) periodic fields of unit variance."""
    wave = torch.fft.fftfreq(SIZE, 1 / SIZE)
    filter_ = torch.exp(-(wave[:, None] ** 2 + wave[None] ** 2) / 3)
    noise = torch.fft.fft2(torch.randn(count, SIZE, SIZE, generator=generator))
    return torch.fft.ifft2(noise * filter_).real / filter_.square().mean().sqrt()


def trajectories(seed: int, count: int, frames: int) -> torch.Tensor:
    """Return (n, f, 1, y, x) in network units: x <- 0.9 (x one point to the right) + noise."""
    generator = torch.Generator().manual_seed(seed)
    found = [smooth(generator, count)]
    for _ in range(frames - 1):
        found.append(0.9 * found[-1].roll(1, -1) + (1 - 0.81) ** 0.5 * smooth(generator, count))
    return torch.stack(found, 1)[:, :, None]


def fields(seed: int, count: int, frames: int) -> Fields:
    """Return trajectories in metres, a frame every minute."""
    values = CODEC.decode(trajectories(seed, count, frames)).numpy()
    times = np.datetime64("2000-01-01T00:00", "ns") + np.arange(frames) * np.timedelta64(60, "s")
    return Fields(values, times.astype("datetime64[ns]"), (Variable("depth", "m"),), grid())


def make(folder: Path) -> Path:
    """Train the prior and write it as a folder with a card (once per session: the fixture ``drifting_noise``)."""
    steps = 400
    torch.manual_seed(0)
    network = NETWORK.build()
    denoiser = NetworkDenoiser(network, schedule=Cosine(), parametrisation=Velocity(), reduced=False)
    optimiser = torch.optim.Adam(network.parameters(), lr=6e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        x = trajectories(100 + step, 8, 5)
        z, t = torch.randn(x.shape, generator=generator), torch.rand(8, 5, generator=generator).double() ** 2
        t[:3, :2] = 0  # clean context
        alpha, sigma = broadcast_scales(denoiser.schedule, x, t)
        x_t = torch.where((t == 0)[:, :, None, None, None], alpha * x, alpha * x + sigma * z)
        target = denoiser.parametrisation.target(x, z, alpha, sigma)
        loss = ((denoiser.raw(x_t, t) - target) ** 2)[t > 0].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    folder.mkdir(parents=True)
    write_weights(network, folder / "model.safetensors", dtype=torch.float32)
    card = PriorCard(
        name="drifting-noise",
        sha256=file_sha256(folder / "model.safetensors"),
        network=NETWORK,
        schedule=denoiser.schedule,
        parametrisation=denoiser.parametrisation,
        codec=CODEC,
        unit="m",
        shape=(SIZE, SIZE),
        axes="time k y x",
        trajectory=TrajectoryCard(
            frames=5, step_s=STEP_S, spacing=(1.0, 1.0), spacing_unit="km", periodic=(True, True)
        ),
        trained_on="drifting smooth noise",
        licence="CC0-1.0",
        citation="none",
    )
    (folder / "card.yaml").write_text(to_yaml(card))
    return folder
