"""How many network calls a sample takes: samplers, and a start in closed form, against the exact probability flow.

    python benchmarks/quality/priors/samplers.py --page docs/images/samplers.png

Two priors. A Gaussian process on 64 x 64 pixels with a known spectrum, whose flow is known in closed form; and
``ct-chest-256`` on fields of 96 x 96, compared with Heun's rule in 256 calls from the same noise. The error is the root
mean square of the difference of final samples, network units (times 1000 HU for the chest). The start solves the levels
above one as the Gaussian process with the moments of data: of 32 draws, and of a training patient's slices.

Prints a Markdown table per prior; ``--page`` draws them.
"""

import argparse
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.support.real_data import real_data
from priors.card import load_prior
from priors.diffusion.denoiser import Denoiser, NetworkDenoiser
from priors.diffusion.samplers.gaussian_start import gaussian_path, sample_from
from priors.diffusion.samplers.sampler import DDIM, Heun, Multistep, Sampler
from priors.diffusion.samplers.second_order import VarianceOptimised
from priors.diffusion.schedule import EDM
from priors.gaussian.spectrum import Spectrum, at_wavenumbers, measured_spectrum, mixed_waves

CALLS = (5, 7, 9, 13, 17, 25, 33)
"""Odd, so that Heun's two calls a step and the last answer fit."""
STARTS = (3.0, 5.0, 10.0)
TRAINING = "ct/slices256/train"
Moments = tuple[Spectrum, float]
Curves = dict[str, dict[int, float]]


class Process(Denoiser):
    """The exact denoiser of fields with a spectrum and no mean."""

    def __init__(self, spectrum: Spectrum, schedule: EDM) -> None:
        super().__init__()
        self.spectrum, self.schedule = spectrum, schedule
        self.table = torch.tensor(spectrum.covariance, dtype=torch.float64)[:, :1, None]

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """See `Denoiser`; all samples at one level."""
        variance = at_wavenumbers(self.table, x_t.shape[-2:])
        ratio = float(self.schedule.ratio(t).flatten()[0])
        return mixed_waves(x_t, (variance / (variance + ratio**2)).to(x_t.dtype))


def samplers(calls: int) -> dict[str, Sampler]:
    """Return what makes a sample in so many calls."""
    return {
        "ddim": DDIM(steps=calls - 1),
        "heun": Heun(steps=(calls - 1) // 2),
        "multistep": Multistep(steps=calls - 1),
        "variance-optimised": VarianceOptimised(steps=calls - 1),
    }


@torch.no_grad()
def curves(
    draw: Callable[[Sampler, float | None], torch.Tensor], reference: torch.Tensor, calls: tuple[int, ...]
) -> Curves:
    """Return the error of every sampler by the number of calls, without a start and with each of `STARTS`."""
    found: Curves = {}
    for count in calls:
        for name, sampler in samplers(count).items():
            starts = (None, *STARTS) if name in ("multistep", "variance-optimised") else (None,)
            for start in starts:
                key = name if start is None else f"{name}, start {start:g}"
                error = float((draw(sampler, start) - reference).square().mean().sqrt())
                found.setdefault(key, {})[count] = error
    return found


def of_the_process(calls: tuple[int, ...]) -> Curves:
    """Return the curves of the Gaussian process."""
    rows = 25
    spectrum = Spectrum(covariance=tuple((100.0 / (1 + (16 * k / rows) ** 3),) for k in range(rows)))
    prior = Process(spectrum, EDM(sigma_min=0.005, sigma_max=20.0))
    generator = torch.Generator().manual_seed(0)
    noise = 20.0 * torch.randn(4, 1, 1, 64, 64, generator=generator, dtype=torch.float64)
    path = gaussian_path(noise, 20.0, 0.005, spectrum=spectrum)
    exact = prior(path, torch.zeros(4, dtype=torch.float64))
    draws = torch.randn(32, 1, 1, 64, 64, generator=generator, dtype=torch.float64)
    root = at_wavenumbers(prior.table, (64, 64)).sqrt()
    moments = (measured_spectrum(mixed_waves(draws, root), lags=1, periodic=(True, True)), 0.0)

    def draw(sampler: Sampler, start: float | None) -> torch.Tensor:
        if start is None:
            return sampler.sample(prior, noise, generator=generator)
        return sample_from(prior, noise, sampler=sampler, level=start, moments=moments, generator=generator)

    return curves(draw, exact, calls)


class OneFrame(Denoiser):
    """A prior of slices asked in the shape of trajectories of one frame."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner, self.schedule = inner, inner.schedule

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """See `Denoiser`."""
        answer: torch.Tensor = self.inner(x_t[:, 0], t)
        return answer[:, None]


def of_the_chest(calls: tuple[int, ...], size: int, count: int) -> Curves:
    """Return the curves of ``ct-chest-256``."""
    prior = load_prior("ct-chest-256")
    assert isinstance(prior.denoiser, NetworkDenoiser)
    denoiser = OneFrame(prior.denoiser.with_settings(reduced=False))
    moments = chest_moments(size)
    generator = torch.Generator().manual_seed(0)
    highest = float(denoiser.schedule.ratio(torch.ones(1, dtype=torch.float64)))
    noise = highest * torch.randn(count, 1, 1, size, size, generator=generator)
    with torch.no_grad():
        reference = Heun(steps=128).sample(denoiser, noise, generator=generator)

    def draw(sampler: Sampler, start: float | None) -> torch.Tensor:
        if start is None:
            return sampler.sample(denoiser, noise, generator=generator)
        return sample_from(
            denoiser, noise, sampler=sampler, level=start, moments=moments, generator=generator
        )

    return curves(draw, reference, calls)


def chest_moments(size: int) -> Moments:
    """Return spectrum and mean of squares from the middle of a training patient's slices, network units."""
    codec = load_prior("ct-chest-256").slices
    path = sorted(real_data(TRAINING).glob("*cap001*"))[0]
    raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    slices = np.load(io.BytesIO(raw), allow_pickle=False)[::4]
    top, left = ((n - size) // 2 for n in slices.shape[1:])
    cut = torch.from_numpy(slices[:, top : top + size, left : left + size].astype(np.float32))
    fields = codec.encode(cut.clamp(codec.low, codec.high))
    mean = float(fields.mean())
    windows = (fields - mean)[:, None, None]
    return measured_spectrum(windows, lags=1, periodic=(False, False)), mean


def table(found: Curves) -> str:
    """Return the errors as a Markdown table."""
    counts = list(next(iter(found.values())))
    head = "| sampler | " + " | ".join(f"{n} calls" for n in counts) + " |"
    rows = [
        f"| {name} | " + " | ".join(f"{e:.3g}" for e in errors.values()) + " |"
        for name, errors in found.items()
    ]
    return "\n".join([head, "|---" * (len(counts) + 1) + "|", *rows])


def draw_page(results: dict[str, Curves], path: Path) -> None:
    """Draw one panel per prior."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(5.5 * len(results), 4.2), layout="tight")
    colours = {
        "ddim": "tab:gray",
        "heun": "tab:green",
        "multistep": "tab:blue",
        "variance-optimised": "tab:red",
    }
    dashes = dict(zip((None, *STARTS), ("-", ":", "--", "-."), strict=True))
    for axis, (title, found) in zip(np.atleast_1d(axes), results.items(), strict=True):
        for name, errors in found.items():
            kind, _, start = name.partition(", start ")
            line = dashes[float(start) if start else None]
            axis.loglog(
                list(errors), list(errors.values()), line, color=colours[kind], label=name, marker="."
            )
        axis.set(title=title, xlabel="network calls per sample", ylabel="RMS difference from the exact flow")
        axis.set_xticks(list(CALLS), [str(n) for n in CALLS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    np.atleast_1d(axes)[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", type=Path, help="PNG of the curves")
    parser.add_argument("--size", type=int, default=96, help="pixels of a chest sample")
    parser.add_argument("--count", type=int, default=6, help="chest samples")
    parser.add_argument("--only", choices=("process", "chest"), help="one prior only")
    given = parser.parse_args()
    results = {}
    if given.only != "chest":
        results["Gaussian process, 64 x 64"] = of_the_process(CALLS)
    if given.only != "process":
        results["ct-chest-256"] = of_the_chest(CALLS, given.size, given.count)
    for title, found in results.items():
        print(f"\n{title}\n\n{table(found)}")
    if given.page is not None:
        draw_page(results, given.page)


if __name__ == "__main__":
    main()
