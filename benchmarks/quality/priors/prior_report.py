"""How well a prior denoises held-out slices, beside TV denoising tuned by an oracle, and a page of its samples.

    python benchmarks/quality/priors/prior_report.py ct-chest-256 --page docs/images/recon/ct-chest-256.png

Slices of the validation patient, white noise at each level of the card, PSNR in dB on network values clipped to
[-1, 1]. TV is scikit-image's ``denoise_tv_chambolle`` with the weight that is best on these very slices, level by
level, which is more than any real method may know. Prints a Markdown table.
"""

import argparse
import io
import lzma
import math
from pathlib import Path

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle

from benchmarks.support.real_data import real_data
from priors.card import Prior, load_prior
from priors.diffusion.samplers.sampler import Multistep
from priors.training.slices.gallery import draw_samples, save_page
from priors.training.slices.task import denoising_psnr

VALIDATION = "ct/slices256/validation/covidctmd_cap002.npy.xz"
# Weights of TV relative to the noise; the best one lies inside at every level.
WEIGHTS = np.geomspace(0.5, 11.3, 10)


def psnr(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Return the PSNR in dB of values clipped to [-1, 1]."""
    squared = np.mean((estimate.clip(-1, 1) - truth.clip(-1, 1)) ** 2)
    return float(10 * math.log10(4 / squared))


def best_tv(fields: torch.Tensor, level: float) -> tuple[float, float]:
    """Return (PSNR, relative weight) of TV denoising with the best weight of the list."""
    # The same draws as denoising_psnr: batches of four from one generator.
    generator = torch.Generator().manual_seed(0)
    noisy = torch.cat([x + level * torch.randn(x.shape, generator=generator) for x in fields.split(4)])
    truth = fields[:, 0].numpy()
    found = []
    for weight in WEIGHTS:
        estimate = np.stack(
            [
                denoise_tv_chambolle(field, weight=weight * level, max_num_iter=200)
                for field in noisy[:, 0].numpy()
            ]
        )
        found.append((psnr(estimate, truth), float(weight)))
    return max(found)


def held_out(prior: Prior, path: Path, count: int) -> torch.Tensor:
    """Return evenly spread held-out slices in network units, (slice, 1, y, x)."""
    raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    slices = np.load(io.BytesIO(raw), allow_pickle=False)
    chosen = np.linspace(0, len(slices) - 1, count).round().astype(int)
    fields = torch.from_numpy(slices[chosen].astype(np.float32))[:, None]
    return prior.codec.encode(fields.clamp(prior.codec.low, prior.codec.high))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prior", nargs="?", default="ct-chest-256")
    parser.add_argument("--slices", type=Path, help="NumPy slices in HU; the validation patient by default")
    parser.add_argument("--count", type=int, default=8, help="slices to measure on")
    parser.add_argument("--page", type=Path, help="PNG of samples beside real slices to write")
    parser.add_argument("--samples", type=int, default=12)
    chosen = parser.parse_args()
    prior = load_prior(chosen.prior)
    fields = held_out(prior, chosen.slices or real_data(VALIDATION), chosen.count)
    levels = tuple(prior.card.held_out_psnr) or (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    own = denoising_psnr(prior.denoiser, fields, levels)
    unit = prior.card.unit
    print(f"| noise level | in {unit} | noisy | TV, best weight | {prior.card.name} | on its card |")
    print("|---|---|---|---|---|---|")
    for level in levels:
        noise = torch.randn(fields.shape, generator=torch.Generator().manual_seed(1))
        noisy = psnr((fields + level * noise).numpy(), fields.numpy())
        tv, weight = best_tv(fields, level)
        card = prior.card.held_out_psnr.get(level, math.nan)
        print(
            f"| {level:g} | {level * prior.codec.scale:g} | {noisy:.1f} | {tv:.1f} ({weight:.2g}) | "
            f"{own[level]:.1f} | {card:.1f} |",
            flush=True,
        )
    if chosen.page is not None:
        samples = draw_samples(prior, Multistep(steps=40), count=chosen.samples, seed=0)
        real = prior.codec.decode(held_out(prior, chosen.slices or real_data(VALIDATION), chosen.samples))
        save_page(samples, real[:, 0].numpy(), chosen.page, window=(-1000.0, 500.0))


if __name__ == "__main__":
    main()
