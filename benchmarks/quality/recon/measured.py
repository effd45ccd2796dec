"""Real scans without a ground truth, through the command line: a tooth, and discs seen over limited arcs.

    python benchmarks/quality/recon/measured.py --out runs/measured             # everything
    python benchmarks/quality/recon/measured.py --out runs/measured --arcs 90   # one limited arc only

Eight files of the Helsinki challenge are arcs of one scan of disc tb. They are joined here into ``joined.h5``; an
arc is then a range of its views, and the views outside tell how well the arc's volume predicts them. Each arc is
also compared with the TV reconstruction of all joined views, inside the inscribed circle of the grid,

    RMSE % = 100 rmse / (median of the disc),      PSNR = 20 log10((max - min of the joined) / rmse).

Finished runs are kept. Writes ``measured.json`` in the output folder, pictures in docs/images/recon, and prints tables.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import nibabel
import numpy as np

from benchmarks.support.real_data import real_data
from recon.geometry.scan import ScanGeometry
from recon.io.scans.registry import Scan, read_scan, write_scan

matplotlib.use("Agg")
from matplotlib import pyplot as plt

IMAGES = Path(__file__).resolve().parents[3] / "docs" / "images" / "recon"
METHODS = ("fbp", "tv")
ARCS = {
    "first": "",
    "30": "_30",
    "40": "_40",
    "50": "_50",
    "60": "_60",
    "70": "_70",
    "80": "_80",
    "90": "_90",
}


@dataclass(frozen=True)
class Case:
    """A scan, and what the command line is told about it."""

    name: str
    scan: Path
    extra: tuple[str, ...] = ()

    def run(self, method: str, out: Path) -> dict[str, Any]:
        """Reconstruct unless it is done, and return the metrics."""
        folder = out / f"{self.name}-{method}"
        if not (folder / "metrics.json").is_file():
            extra = [*self.extra, *(["method.iterations=200"] if method == "tv" else [])]
            command = [
                sys.executable,
                "-m",
                "tomocast",
                "reconstruct",
                str(self.geometry),
                "--method",
                method,
            ]
            subprocess.run(
                [*command, "--out", str(folder), "--overwrite", *extra], check=True, stderr=subprocess.DEVNULL
            )
        metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
        return metrics


def arc_file(suffix: str) -> Path:
    return real_data(f"sinograms/htc2022/tb_subsample{suffix}.mat")


def degrees(geometry: ScanGeometry) -> np.ndarray:
    """Return the angle of every view as the challenge's files give it, in half degrees."""
    angle = np.degrees(np.arctan2(geometry.source_mm[:, 0], geometry.source_mm[:, 1])) % 360
    return np.round(2 * angle) / 2


def join(parts: list[Scan]) -> Scan:
    """Return all views of one scan by rising angle; views that several arcs share must be equal."""
    angle = np.concatenate([degrees(part.geometry) for part in parts])
    sinogram = np.concatenate([part.sinogram for part in parts])
    _, first, inverse = np.unique(angle, return_index=True, return_inverse=True)
    if not np.array_equal(sinogram[first][inverse], sinogram):
        raise SystemExit("the arcs differ where they overlap: they are not of one scan")
    poses = {
        key: np.concatenate([getattr(part.geometry, key) for part in parts])[first]
        for key in ("source_mm", "detector_mm", "u_mm", "v_mm")
    }
    weights = np.concatenate([part.weights for part in parts])[first]
    scan = replace(parts[0].geometry, **poses)
    return replace(parts[0], geometry=scan, sinogram=sinogram[first], weights=weights)


def cases(out: Path, arcs: list[str]) -> list[Case]:
    """Return the cases in the order of the tables; the joined scan is written."""
    tooth, fine = real_data("sinograms/tomopy_tooth.h5"), ("--slices", "0:1")
    scans = {arc: read_scan(arc_file(suffix)) for arc, suffix in ARCS.items()}
    whole, path = join(list(scans.values())), out / "joined.h5"
    if not path.is_file():
        write_scan(path, whole)
    angle, grid = degrees(whole.geometry), ("--grid", "256")
    limited = []
    for arc in arcs:
        own = degrees(scans[arc].geometry)
        start, stop = np.searchsorted(angle, own.min()), np.searchsorted(angle, own.max()) + 1
        limited.append(Case(f"tb_{arc}", path, ("--views", f"{start}:{stop}", *grid)))
    ta = real_data("sinograms/htc2022/ta_subsample73.mat")
    return [
        Case("tooth-181", tooth, fine),
        Case("tooth-31", tooth, (*fine, "--views-step", "6")),
        Case("ta", ta, grid),
        Case("joined", path, grid),
        *limited,
    ]


def image(out: Path, name: str, method: str) -> np.ndarray:
    """Return the slice (y, x) of a finished run."""
    return np.asarray(nibabel.load(out / f"{name}-{method}" / "volume.nii.gz").dataobj)[:, :, 0].T


def compare(values: np.ndarray, joined: np.ndarray) -> dict[str, float]:
    """Return the distance from the joined reconstruction, see the module."""
    y, x = np.indices(joined.shape) - (np.array(joined.shape)[:, None, None] - 1) / 2
    inside = np.hypot(x, y) < min(joined.shape) / 2
    rmse = float(np.sqrt(np.mean((values - joined)[inside] ** 2)))
    disc = float(np.median(joined[inside & (joined > joined.max() / 2)]))
    span = float(joined[inside].max() - joined[inside].min())
    return {"rmse_percent": 100 * rmse / disc, "psnr": 20 * float(np.log10(span / rmse))}


def row(metrics: dict[str, Any]) -> dict[str, float]:
    held = metrics.get("held_out", {})
    return {
        "views": metrics["views"],
        "relative_residual": metrics["relative_residual"],
        "chi2": metrics["chi2_per_ray"],
        "held_out_residual": held.get("relative_residual", float("nan")),
        "held_out_chi2": held.get("chi2_per_ray", float("nan")),
        "cpu_seconds": metrics["cpu_seconds"],
    }


def page(
    out: Path, grid: list[list[tuple[str, str]]], path: Path, windows: list[tuple[float, float]]
) -> None:
    """Draw runs in a grid, rows of one window each; y points down as in the image array."""
    shape = (len(grid), len(grid[0]))
    figure, axes = plt.subplots(
        *shape, figsize=(4 * shape[1] + 1, 4 * shape[0]), squeeze=False, layout="constrained"
    )
    for line, places, (low, high) in zip(grid, axes, windows, strict=True):
        for (name, method), axis in zip(line, places, strict=True):
            values = image(out, name, method)
            if name.startswith("tooth"):
                # The field of view is far wider than the tooth.
                values = values[140:460, 180:500]
            shown = axis.imshow(values, cmap="gray", vmin=low, vmax=high)
            axis.set_title(f"{name}, {method}")
            axis.set_axis_off()
        figure.colorbar(shown, ax=list(places), shrink=0.8, label="1/mm")
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def draw(out: Path, discs: list[str]) -> None:
    """Draw the two pages."""
    tooth = [[(name, method) for method in METHODS] for name in ("tooth-181", "tooth-31")]
    high = float(np.percentile(image(out, "tooth-181", "fbp"), 99.8))
    page(out, tooth, IMAGES / "tooth.png", [(-0.1 * high, high)] * 2)
    joined = image(out, "joined", "tv")
    high = 1.3 * float(np.median(joined[joined > joined.max() / 2]))
    rows = [[(name, method) for method in METHODS] for name in discs]
    page(out, rows, IMAGES / "htc.png", [(-0.1 * high, high)] * len(rows))


def table(rows: dict[str, dict[str, float]]) -> str:
    keys = (
        "views",
        "relative_residual",
        "chi2",
        "held_out_residual",
        "held_out_chi2",
        "rmse_percent",
        "psnr",
    )
    lines = ["| run | " + " | ".join((*keys, "cpu_seconds")) + " |", "|---" * (len(keys) + 2) + "|"]
    for name, figures in rows.items():
        values = (figures.get(key, float("nan")) for key in (*keys, "cpu_seconds"))
        cells = ("" if np.isnan(value) else f"{value:.4g}" for value in values)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/measured"))
    parser.add_argument("--arcs", nargs="+", choices=list(ARCS), default=list(ARCS))
    parser.add_argument("--jobs", type=int, default=1, help="reconstructions at a time")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    everything = [(case, method) for case in cases(chosen.out, chosen.arcs) for method in METHODS]
    # The longest first.
    order = sorted(everything, key=lambda job: (job[1] != "tv", job[0].name != "joined"))
    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(lambda job: job[0].run(job[1], chosen.out), order))
    joined = image(chosen.out, "joined", "tv")
    rows: dict[str, dict[str, float]] = {}
    for case, method in everything:
        rows[f"{case.name} {method}"] = row(case.run(method, chosen.out))
        if case.name.startswith("tb_") or (case.name, method) == ("joined", "fbp"):
            rows[f"{case.name} {method}"] |= compare(image(chosen.out, case.name, method), joined)
    (chosen.out / "measured.json").write_text(json.dumps(rows, indent=1))
    draw(chosen.out, ["ta", *(["tb_90"] if "90" in chosen.arcs else []), "joined"])
    print(table(rows))


if __name__ == "__main__":
    main()
