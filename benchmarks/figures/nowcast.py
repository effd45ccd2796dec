"""Members of a nowcast beside the truth, in the colours of weather services' rain maps.

    python benchmarks/figures/nowcast.py --event FOLDER --crop 96:224,112:240 --run runs/nowcast-bench/EVENT/start-9

The run folder is one that ``benchmarks/quality/assimilation/nowcast.py`` left.
Writes docs/images/assimilation/nowcast-members.png.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap

from assimilation.fields.times import places_of
from assimilation.io.archive import read_ensemble, read_fields
from assimilation.io.registry import read_any_fields
from assimilation.run.observe import ObserveSettings, observed_part

EDGES = [0.1, 0.5, 1, 2, 4, 8, 16, 32, 64, 128]
COLOURS = ["#c6dbef", "#9ecae1", "#4292c6", "#2171b5", "#41ab5d", "#fed976", "#fd8d3c", "#e31a1c", "#800026"]


def draw(chosen: argparse.Namespace) -> None:
    """Write the picture: truth, three members and the mean, by lead."""
    ensemble, start = read_ensemble(chosen.run), read_fields(chosen.run.with_suffix(".nc"))
    settings = ObserveSettings(spacing=2.0, step_s=600.0, crop=chosen.crop)
    truth = observed_part(read_any_fields(chosen.event), settings, source=str(chosen.event))
    seen = truth.values[0, places_of(ensemble.times, truth.times), 0]
    members = ensemble.members[0, :, :, 0]
    rows = {"truth": seen, **{f"member {m + 1}": members[m] for m in range(3)}, "mean": members.mean(axis=0)}
    colours = ListedColormap(COLOURS)
    colours.set_under("white")
    figure, axes = plt.subplots(
        len(rows), 1 + seen.shape[0], figsize=(2 * (1 + seen.shape[0]), 2.15 * len(rows))
    )
    for line, (name, frames) in zip(axes, rows.items(), strict=True):
        images = [start.values[0, -1, 0], *frames]
        titles = ["last seen", *(f"{name}, +{10 * (lead + 1)} min" for lead in range(len(frames)))]
        for axis, image, title in zip(line, images, titles, strict=True):
            axis.imshow(image, origin="lower", cmap=colours, norm=BoundaryNorm(EDGES, len(COLOURS)))
            axis.set_title(f"{title}, max {np.nanmax(image):.0f} mm/h", fontsize=6)
            axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(chosen.out, dpi=70)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--event", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--crop")
    parser.add_argument("--out", type=Path, default=Path("docs/images/assimilation/nowcast-members.png"))
    draw(parser.parse_args())
