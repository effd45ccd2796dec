"""Every method of reconstruction on the held-out patient, at 4 to 60 views, low dose, limited angle and a cone.

    python benchmarks/quality/recon/methods.py --out runs/methods                  # the whole table: hours
    python benchmarks/quality/recon/methods.py --columns "8 views" --methods tv nerd-fast --out runs/methods
    python benchmarks/quality/recon/methods.py --collect --out runs/methods           # table and curves of what ran

The scan is simulated from the 512 x 512 DICOM slices and reconstructed on the 256 grid; scores are against the series
resampled to that grid, in HU on [-1000, 1000]. A run that is finished is only scored again; one that was killed is
continued. Writes ``methods.json``, ``methods.md`` (PSNR of
every method in every column, then calls, gradients, core seconds and peak memory), ``methods.png`` (PSNR against
network calls) and ``COLUMN.png`` (the middle slice by every method).
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.real_data import real_data
from recon.data.resample import resample
from recon.io.scans.registry import write_scan
from recon.io.volumes.registry import read_volume
from recon.run import jobs, outputs, simulation
from recon.run.scores.scoring import score_volumes
from recon.score.metrics import FULL_WINDOW_HU

Row = dict[str, Any]
PARALLEL = {"name": "parallel", "columns": 384}
CONE = {"name": "cone", "views": 24, "sod_mm": 1000.0, "sdd_mm": 1536.0}
COLUMNS: dict[str, dict[str, Any]] = {
    **{f"{n} views": {"orbit": {**PARALLEL, "views": n}, "i0": 1e5} for n in (4, 8, 16, 30, 60)},
    "30 views 1e4": {"orbit": {**PARALLEL, "views": 30}, "i0": 1e4},
    "120 degrees": {"orbit": {**PARALLEL, "views": 60, "arc_deg": 120.0}, "i0": 1e5},
    "cone 24": {"orbit": CONE, "i0": 1e5},
}
# From the start and the levels of nerd-fast before its settings followed the scan, so that calls and start are equal.
TUNED = ("warm_start=tv", "ladder.name=geometric", "ladder.start_hu=500", "ladder.stop_hu=20")
METHODS: dict[str, tuple[str, tuple[str, ...]]] = {
    "fbp": ("fbp", ()),
    "tv": ("tv", ()),
    "dds": ("dds", ()),
    "dds-3d": ("dds-3d", ()),
    "dds-3d from tv, 20": ("dds-3d", (*TUNED, "ladder.levels=20")),
    "dds-3d from tv, 40": ("dds-3d", (*TUNED, "ladder.levels=40")),
    "diffpir": ("diffpir", ()),
    "diffpir, 20": ("diffpir", ("ladder.levels=20",)),
    "pnp-hqs, 20": ("pnp-hqs", ("ladder.levels=20",)),
    "pnp-hqs, 40": ("pnp-hqs", ("ladder.levels=40",)),
    "pnp-admm, 20": ("pnp-admm", ("ladder.levels=20",)),
    "sitcom, 10 levels of 5": ("sitcom", ("ladder.levels=10", "refine.iterations=5")),
    "red-diff, 100": ("red-diff", ("ladder.levels=100",)),
    "dps, 100": ("dps", ("ladder.levels=100",)),
    "diffusion-mbir, 100": ("diffusion-mbir", ("ladder.levels=100",)),
    "nerd-fast": ("nerd-fast", ()),
    "nerd-fast as before": (
        "nerd-fast",
        ("fast.levels=20", "fast.start_hu=500", "fast.stop_hu=20", "fast.refine.overestimate=2"),
    ),
    "nerd-thorough": ("nerd-thorough", ()),
    "nerd-admm": ("nerd-admm", ()),
    "nerd-pdhg": ("nerd-pdhg", ()),
}
FIGURES = ("psnr_hu", "ssim_axial", "ssim_coronal", "ssim_sagittal", "chi2_per_ray")
SPENT = ("network_calls", "network_gradients", "cpu_seconds", "peak_memory_bytes")


def scan_of(column: str, out: Path, slices: str) -> Path:
    """Return the scan of a column, simulated unless it is there."""
    path = out / "scans" / f"{_word(column)}.h5"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = jobs.settings("simulate", None, {**COLUMNS[column], "grid": 256, "slices": slices}, None)
        write_scan(path, simulation.scan_of(read_volume(_patient()), chosen))
    return path


def measure(column: str, method: str, out: Path, slices: str) -> Row:
    """Reconstruct, unless that has been done, and score."""
    run, scan = _run_folder(out, column, method), scan_of(column, out, slices)
    name, overrides = METHODS[method]
    if not (run / outputs.METRICS).is_file():
        keys = [f"method.{text}" for text in overrides]
        chosen = jobs.settings("reconstruct", None, {"method.name": name}, keys)
        jobs.reconstruct(scan, chosen, run, resume=run.exists(), overwrite=False)
    return row_of(column, method, out)


def row_of(column: str, method: str, out: Path) -> Row:
    """Return the figures of a finished run."""
    run = _run_folder(out, column, method)
    metrics = json.loads((run / outputs.METRICS).read_text(encoding="utf-8"))
    scores = score_volumes(
        read_volume(run / outputs.VOLUME), read_volume(_patient()), window_hu=FULL_WINDOW_HU, mask=None
    )
    figures = {**metrics, **scores}
    return {"column": column, "method": method, **{key: figures.get(key, 0) for key in (*FIGURES, *SPENT)}}


def _patient() -> Path:
    return real_data("ct/covidctmd_cap002.zip")


def _word(text: str) -> str:
    return text.replace(",", "").replace(" ", "-")


def _run_folder(out: Path, column: str, method: str) -> Path:
    return out / "runs" / f"{_word(column)}-{_word(method)}"


def tables(rows: Iterable[Row]) -> str:
    """Return PSNR by method and column, and under it what every method spent, as Markdown."""
    by = {(row["method"], row["column"]): row for row in rows}
    columns = [column for column in COLUMNS if any(column == c for _, c in by)]
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method in METHODS:
        cells = [by.get((method, column)) for column in columns]
        if any(cells):
            shown = ["" if cell is None else f"{cell['psnr_hu']:.2f}" for cell in cells]
            lines.append(f"| {method} | " + " | ".join(shown) + " |")
    spent = ["method", "calls", "gradients", "core seconds", "peak GiB"]
    lines += ["", "| " + " | ".join(spent) + " |", "|---" * len(spent) + "|"]
    for method in METHODS:
        cells = [row for (name, _), row in by.items() if name == method]
        if cells:
            lines.append(f"| {method} | " + " | ".join(_spans(cells)) + " |")
    return "\n".join(lines) + "\n"


def _spans(cells: list[Row]) -> list[str]:
    """Return the range over all columns of everything that was spent."""
    spans = []
    for key, unit, form in zip(SPENT, (1, 1, 1, 2**30), (".0f", ".0f", ".0f", ".2f"), strict=True):
        values = [row[key] / unit for row in cells]
        ends = dict.fromkeys(format(value, form) for value in (min(values), max(values)))
        spans.append(" to ".join(ends))
    return spans


def curves(rows: list[Row], path: Path) -> None:
    """Draw PSNR against network calls, a gradient counting as two more, one panel per column."""
    from matplotlib import pyplot

    columns = [column for column in COLUMNS if any(row["column"] == column for row in rows)]
    wide = min(4, len(columns))
    high = -(-len(columns) // wide)
    figure, axes = pyplot.subplots(high, wide, figsize=(4.2 * wide, 3.4 * high), squeeze=False)
    for axis in axes.flat[len(columns) :]:
        axis.set_axis_off()
    for column, axis in zip(columns, axes.flat, strict=False):
        for row in rows:
            if row["column"] == column and row["network_calls"]:
                calls, ours = row["network_calls"] + 2 * row["network_gradients"], "nerd" in row["method"]
                axis.scatter(calls, row["psnr_hu"], c="C3" if ours else "C0", s=18)
                axis.annotate(row["method"], (calls, row["psnr_hu"]), fontsize=6)
        axis.set(
            title=column, xscale="log", xlabel="network calls (a gradient counts as 2)", ylabel="PSNR dB"
        )
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def picture(column: str, methods: list[str], out: Path, *, crop: tuple[slice, slice]) -> None:
    """Draw the middle slice of a column by every method, and the reference."""
    from matplotlib import pyplot

    volumes = {m: read_volume(_run_folder(out, column, m) / outputs.VOLUME) for m in methods}
    reference = resample(read_volume(_patient()), next(iter(volumes.values())))
    images = {"reference": reference, **{m: volume.values for m, volume in volumes.items()}}
    wide = min(4, len(images))
    high = -(-len(images) // wide)
    figure, axes = pyplot.subplots(high, wide, figsize=(3 * wide, 3.1 * high), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for (label, values), axis in zip(images.items(), axes.flat, strict=False):
        plane = np.nan_to_num(values[len(values) // 2], nan=-1000.0)[crop]
        axis.imshow(plane, cmap="gray", vmin=-1000, vmax=400)
        axis.set_title(label, fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(out / f"{_word(column)}.png", dpi=80)
    pyplot.close(figure)


def collect(out: Path, crop: tuple[slice, slice]) -> None:
    """Write table and pictures of every finished run."""
    import matplotlib

    matplotlib.use("Agg")
    done = [(c, m) for c in COLUMNS for m in METHODS if (_run_folder(out, c, m) / outputs.METRICS).is_file()]
    rows = [row_of(column, method, out) for column, method in done]
    (out / "methods.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (out / "methods.md").write_text(tables(rows), encoding="utf-8")
    curves(rows, out / "methods.png")
    for column in dict(done):
        shown = [method for c, method in done if c == column]
        picture(column, shown, out, crop=crop)
    print(tables(rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--columns", nargs="+", default=list(COLUMNS), choices=list(COLUMNS), metavar="COLUMN"
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD"
    )
    parser.add_argument("--slices", default="20:28", help="START:STOP of the series")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--collect", action="store_true", help="only score and draw what has been run")
    parser.add_argument("--crop", default=":,:", help="Y0:Y1,X0:X1 of the slices drawn")
    chosen = parser.parse_args()
    if not chosen.collect:
        for method in chosen.methods:
            for column in chosen.columns:
                row = measure(column, method, chosen.out, chosen.slices)
                print(
                    f"{column}, {method}: {row['psnr_hu']:.2f} dB, {row['network_calls']} calls",
                    file=sys.stderr,
                    flush=True,
                )
    collect(chosen.out, _crop(chosen.crop))


def _crop(text: str) -> tuple[slice, slice]:
    rows, columns = (
        slice(*(int(end) if end else None for end in part.split(":"))) for part in text.split(",")
    )
    return rows, columns


if __name__ == "__main__":
    main()
