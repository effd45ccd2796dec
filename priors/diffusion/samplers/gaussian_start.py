r"""The high noise levels of a sample in closed form, from the second moments of the data.

For Gaussian data with mean m and covariance C the path of the probability flow from level s to a smaller level r is

    u_r = m + (C + r^2)^(1/2) (C + s^2)^(-1/2) (u_s - m)

Under much noise every prior is nearly the Gaussian of its moments: there the network need not be asked. C is a
spectrum, as cards of trajectories carry it, or measured from slices; m is a field or zero.
"""

import torch
from jaxtyping import Float
from pydantic import InstanceOf
from torch import Tensor

from priors.diffusion.denoiser import Denoiser
from priors.diffusion.samplers.sampler import Sampler, Source
from priors.diffusion.schedule import Schedule
from priors.gaussian.modes import in_time
from priors.gaussian.spectrum import Spectrum, at_wavenumbers, mixed_waves

States = Float[Tensor, "b f k y x"]


def gaussian_path(
    u: States, s: float, r: float, *, spectrum: Spectrum, mean: Float[Tensor, "..."] | float = 0.0
) -> States:
    """Return the state at level ``r`` on the flow of the Gaussian process, of frames that share one level.

    Args:
        u: state in u-coordinates at level ``s``; slices are (b, 1, 1, y, x).
        s: level where it is.
        r: level to go to.
        spectrum: second moments about the mean.
        mean: field that broadcasts over ``u``.
    """
    table = torch.tensor(spectrum.covariance, dtype=torch.float64, device=u.device)
    # The process has the interpolated covariance; its roots are taken wave by wave.
    values, vectors = torch.linalg.eigh(at_wavenumbers(in_time(table, u.shape[1]), u.shape[-2:]))
    values = values.clamp(min=0)
    gain = torch.sqrt((values + r**2) / (values + s**2))
    factor = vectors @ (gain[..., None] * vectors.transpose(-1, -2))
    return mean + mixed_waves(u - mean, factor.to(u.dtype))


class From(Schedule):
    """The part of another schedule up to a time: what is sampled when the levels above are solved."""

    inner: InstanceOf[Schedule]
    last: float

    def __call__(self, t: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """See `Schedule`."""
        return self.inner(self.last * t)

    def inverse(self, ratio: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """See `Schedule`."""
        return (self.inner.inverse(ratio) / self.last).clamp(0, 1)


class Below(Denoiser):
    """A denoiser that is only asked up to a noise level.

    Args:
        inner: the prior.
        level: sigma / alpha of its new time 1.
    """

    def __init__(self, inner: Denoiser, level: float) -> None:
        super().__init__()
        self.inner = inner
        last = float(inner.schedule.inverse(torch.tensor(level, dtype=torch.float64)))
        self.last, self.schedule = last, From(inner=inner.schedule, last=last)

    def forward(self, x_t: Float[Tensor, "b ..."], t: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """See `Denoiser`."""
        answer: Tensor = self.inner(x_t, self.last * t)
        return answer


def sample_from(
    denoiser: Denoiser,
    x_1: States,
    *,
    sampler: Sampler,
    level: float,
    moments: tuple[Spectrum, Float[Tensor, "..."] | float],
    generator: Source,
) -> States:
    """Return a sample whose levels above ``level`` are those of the Gaussian process.

    Args:
        denoiser: the prior.
        x_1: noise at time 1, as for `Sampler.sample`; slices are (b, 1, 1, y, x).
        sampler: of the levels below; its steps are spread over them.
        level: where the prior takes over.
        moments: spectrum and mean of the data.
        generator: source of every draw.
    """
    one = torch.ones(1, dtype=torch.float64)
    highest, alpha = float(denoiser.schedule.ratio(one)), float(denoiser.schedule(one)[0])
    spectrum, mean = moments
    u = gaussian_path(x_1 / alpha, highest, level, spectrum=spectrum, mean=mean)
    rest = Below(denoiser, level)
    return sampler.sample(rest, float(rest.schedule(one)[0]) * u, generator=generator)
