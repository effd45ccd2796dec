"""Few views of a cone beam, on a circle and on a helix, by every method: scores and a picture.

    python benchmarks/quality/recon/cone.py --out runs/cone    # 256 x 256 x 16, a quarter of an hour on one core
    python benchmarks/quality/recon/cone.py --slices 48 --out runs/large
    python benchmarks/quality/recon/cone.py --methods fbp tv --orbits cone-24 --out runs/quick

The object is a procedural thorax (seed 10003, reserved for demonstrations), drawn on a grid twice as fine in the plane
as the reconstruction's and projected on one twice as fine again along z, with 4 rays per detector cell and photon noise
(I0 = 1e5). Scores are in HU on [-1000, 1000] against the phantom resampled to the grid of the reconstruction, without
two slices at either end. Runs that are finished are only scored again. Prints a Markdown table, writes ``cone.json``
and ``cone.png``.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from priors.runtime.config import read_yaml
from recon.data.resample import resample
from recon.io.scans.registry import write_scan
from recon.io.volumes.registry import read_volume, write_nifti
from recon.run import jobs, outputs, simulation
from recon.run.scores.scoring import score_volumes
from recon.score.metrics import FULL_WINDOW_HU

ORBITS = ("cone-24", "helical-24")
METHODS = ("fbp", "cgls", "sirt", "tv", "nerd-fast")
COLUMNS = ("psnr_hu", "rmse_hu", "ssim_axial", "ssim_coronal", "ssim_3d", "chi2_per_ray", "seconds")
FIELD_MM = 384.0
# Slices at either end that are not scored: the phantom is cut off there, and rays of a helix that graze the cut cross
# a step that no grid of slices represents. A patient goes on.
MARGIN = 2


def prepare(out: Path, *, orbits: list[str], grid: int, slices: int) -> None:
    """Write the phantom and its scans unless they are there."""
    truth = out / "phantom.nii.gz"
    if not truth.is_file():
        pixel = FIELD_MM / (2 * grid)
        options = {"seed": 10003, "slices": slices, "grid": 2 * grid, "slice_mm": 2.5, "pixel_mm": pixel}
        write_nifti(truth, simulation.phantom_volume(jobs.settings("phantom", None, options, None)))
    for orbit in orbits:
        scan = out / f"{orbit}.h5"
        if not scan.is_file():
            layers = {"orbit": read_yaml(jobs.CONFIGS / "orbits" / f"{orbit}.yaml")}
            chosen = jobs.settings("simulate", None, {**layers, "i0": 1e5, "grid": grid}, None)
            write_scan(scan, simulation.scan_of(read_volume(truth), chosen))


def measure(out: Path, orbit: str, method: str, overrides: list[str]) -> dict[str, float]:
    """Reconstruct and score one scan."""
    run = out / f"{orbit}-{method}"
    if not (run / outputs.METRICS).is_file():
        chosen = jobs.settings("reconstruct", None, {"method.name": method}, overrides)
        jobs.reconstruct(out / f"{orbit}.h5", chosen, run, resume=False, overwrite=True)
    image, truth = read_volume(run / outputs.VOLUME), read_volume(out / "phantom.nii.gz")
    image = simulation.crop(image, f"{MARGIN}:{len(image.values) - MARGIN}")
    scores = score_volumes(image, truth, window_hu=FULL_WINDOW_HU, mask=None)
    metrics = json.loads((run / outputs.METRICS).read_text())
    return {name: {**metrics, **scores}[name] for name in COLUMNS}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| scan, method | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, row in rows.items():
        cells = ["n/a" if row[key] is None else f"{row[key]:.4g}" for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(out: Path, orbits: list[str], methods: list[str]) -> None:
    """Draw an axial and a coronal slice of the phantom and of every method, one block of rows per scan."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        2 * len(orbits),
        len(methods) + 1,
        figsize=(2.6 * (len(methods) + 1), 3.4 * len(orbits)),
        squeeze=False,
        gridspec_kw={"height_ratios": [1, 0.32] * len(orbits)},
    )
    for block, orbit in enumerate(orbits):
        images = {m: read_volume(out / f"{orbit}-{m}" / outputs.VOLUME) for m in methods}
        grid = next(iter(images.values()))
        shown = {"phantom": resample(read_volume(out / "phantom.nii.gz"), grid)}
        shown |= {method: image.values for method, image in images.items()}
        for column, (label, values) in enumerate(shown.items()):
            z, y, _ = values.shape
            dz, dy, dx = grid.voxel_mm
            views = ((values[z // 2], dy / dx), (values[::-1, y // 2], dz / dx))
            for row, (plane, aspect) in enumerate(views):
                axis = axes[2 * block + row, column]
                axis.imshow(np.nan_to_num(plane, nan=-1000), cmap="gray", vmin=-1000, vmax=400, aspect=aspect)
                axis.set_axis_off()
            axes[2 * block, column].set_title(
                f"{label}" + (f"\n{orbit}" if column == 0 else "\n"), fontsize=10
            )
    figure.tight_layout(pad=0.3)
    figure.savefig(out / "cone.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orbits", nargs="+", default=list(ORBITS), help="files of configs/orbits")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--grid", type=int, default=256)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/cone"))
    parser.add_argument("settings", nargs="*", help="method.key=value for every reconstruction")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    prepare(chosen.out, orbits=chosen.orbits, grid=chosen.grid, slices=chosen.slices)
    rows = {}
    for method in chosen.methods:
        for orbit in chosen.orbits:
            name = f"{orbit}, {method}"
            rows[name] = measure(chosen.out, orbit, method, chosen.settings)
            (chosen.out / "cone.json").write_text(json.dumps(rows, indent=1))
            print(table({name: rows[name]}).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))
    picture(chosen.out, chosen.orbits, chosen.methods)


if __name__ == "__main__":
    main()
