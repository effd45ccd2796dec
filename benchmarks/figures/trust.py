"""The picture of docs/guides/trust.md: a reconstruction hatched where unsure, deviation, error, failed intervals.

    python benchmarks/figures/trust.py RUN REFERENCE --out docs/images/recon/trust-intervals.png

RUN is a folder of ``tomocast reconstruct ... --draws M``, REFERENCE the volume its scan was simulated from.
"""

import argparse
from pathlib import Path

import numpy as np

from recon.data.resample import resample
from recon.io.volumes.registry import read_volume
from recon.run.trust.draws import UNSURE_HU
from recon.score.metrics import body_mask


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--slice", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    names = ("volume", "deviation", "lower", "upper")
    volumes = {name: read_volume(chosen.run / f"{name}.nii.gz") for name in names}
    truth = resample(read_volume(chosen.reference), volumes["volume"])[chosen.slice]
    mean, deviation, lower, upper = (volumes[name].values[chosen.slice] for name in names)
    body = body_mask(np.nan_to_num(truth, nan=-1000.0)[None])[0]
    outside = body & ((truth < lower) | (truth > upper))
    figure, axes = pyplot.subplots(1, 4, figsize=(15, 4.2), layout="constrained")
    axes[0].imshow(mean, cmap="gray", vmin=-1000, vmax=600)
    y, x = np.mgrid[: mean.shape[0], : mean.shape[1]]
    hatch = np.ma.masked_where(~((deviation > UNSURE_HU) & ((x + y) % 5 == 0)), np.ones_like(mean))
    axes[0].imshow(hatch, cmap="autumn", vmin=0, vmax=2, interpolation="nearest")
    axes[0].set_title(f"mean of the draws, hatched above {UNSURE_HU:g} HU")
    for axis, values, title in (
        (axes[1], deviation, "deviation (HU)"),
        (axes[2], abs(mean - truth), "|error| (HU)"),
    ):
        shown = axis.imshow(values, cmap="magma", vmin=0, vmax=200)
        axis.set_title(title)
    figure.colorbar(shown, ax=axes[1:3], shrink=0.8)
    axes[3].imshow(mean, cmap="gray", vmin=-1000, vmax=600)
    axes[3].imshow(np.ma.masked_where(~outside, outside), cmap="autumn", alpha=0.9, interpolation="nearest")
    axes[3].set_title(f"outside the interval: {100 * outside[body].mean():.0f} % of the body")
    for axis in axes:
        axis.axis("off")
    figure.savefig(chosen.out, dpi=80)


if __name__ == "__main__":
    main()
