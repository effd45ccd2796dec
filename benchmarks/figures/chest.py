"""A page of reconstructions beside the reference, from the runs of ``benchmarks/quality/recon/chest.py``.

    python benchmarks/figures/chest.py runs/chest16 --views 16 --out docs/images/recon/chest-16-views.png

Upper row: the middle axial slice; lower row: a coronal plane; window -1000 to 400 HU.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.support.real_data import real_data
from recon.data.resample import resample
from recon.io.volumes.registry import read_volume

matplotlib.use("Agg")
from matplotlib import pyplot as plt

METHODS = ("fbp", "tv", "nerd-fast", "nerd-admm")
WINDOW = {"vmin": -1000, "vmax": 400, "cmap": "gray", "interpolation": "nearest"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, help="--out of benchmarks/quality/recon/chest.py")
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--row", type=int, default=128, help="pixel row of the coronal plane")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    images = {
        method: read_volume(chosen.runs / f"{chosen.views}-views-{method}" / "volume.nii.gz")
        for method in chosen.methods
    }
    first = next(iter(images.values()))
    columns = {name: image.values for name, image in images.items()}
    columns["reference"] = resample(read_volume(real_data("ct/covidctmd_cap002.zip")), first)
    dz, dy, dx = np.linalg.norm(first.affine[:3, :3], axis=0)[::-1]
    slices, height, width = first.values.shape
    shares = [height * dy, max(slices * dz, 0.25 * height * dy)]
    figure, axes = plt.subplots(
        2, len(columns), figsize=(3 * len(columns), 3 * sum(shares) / shares[0]), height_ratios=shares
    )
    for column, (name, volume) in zip(axes.T, columns.items(), strict=True):
        column[0].imshow(volume[slices // 2], extent=(0, width * dx, height * dy, 0), **WINDOW)
        column[0].set_title(name)
        column[1].imshow(volume[::-1, chosen.row], extent=(0, width * dx, slices * dz, 0), **WINDOW)
        for axis in column:
            axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(chosen.out, dpi=90)


if __name__ == "__main__":
    main()
