"""Quality on real CT: few-view scans of the held-out patient, every method, through the command line.

    python benchmarks/quality/recon/chest.py --views 16 30 --out runs/chest            # all 48 slices
    python benchmarks/quality/recon/chest.py --views 16 --slices 9:25 --out runs/quick # the 16-slice comparison

The scan is simulated from the 512x512 DICOM slices (I0 = 1e5, parallel beam, 384 columns) and reconstructed on the
256x256 grid; scores are against the DICOM series resampled to that grid, in HU on [-1000, 1000]. Prints a Markdown
table and writes ``chest.json``; ``chest_picture.py`` draws the volumes.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.support.real_data import real_data

METHODS = ("fbp", "tv", "nerd-fast", "nerd-admm", "nerd-pdhg")
COLUMNS = ("psnr_hu", "ssim_axial", "ssim_coronal", "ssim_sagittal", "chi2_per_ray", "seconds")
TOMOCAST = [sys.executable, "-m", "tomocast"]


def command(*arguments: str) -> str:
    """Run tomocast and return its standard output; stop here if it fails."""
    return subprocess.run([*TOMOCAST, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(scan: Path, reference: Path, run: Path, *, method: str, extra: list[str]) -> dict[str, float]:
    """Reconstruct and score; a finished run is only scored again."""
    if not (run / "volume.nii.gz").is_file():
        command("reconstruct", str(scan), "--method", method, "--out", str(run), "--overwrite", *extra)
    scores = json.loads(command("score", "volume", str(run), str(reference), "--json", "-"))
    metrics = json.loads((run / "metrics.json").read_text())
    return {name: {**metrics, **scores}[name] for name in COLUMNS}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| run | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[key]:.4g}" for key in COLUMNS) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--views", type=int, nargs="+", default=[16, 30])
    parser.add_argument("--slices", help="START:STOP of the series; all by default")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument(
        "--label", default="", help="suffix of the run's name, for runs with settings of their own"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/chest"))
    parser.add_argument("settings", nargs="*", help="key=value for every reconstruction")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    reference = real_data("ct/covidctmd_cap002.zip")
    record = chosen.out / "chest.json"
    rows: dict[str, dict[str, float]] = json.loads(record.read_text()) if record.is_file() else {}
    for views in chosen.views:
        scan = chosen.out / f"scan-{views}.h5"
        if not scan.is_file():
            part = ["--slices", chosen.slices] if chosen.slices else []
            command(
                "simulate",
                str(reference),
                "--views",
                str(views),
                "--i0",
                "1e5",
                "--grid",
                "256",
                *part,
                "--out",
                str(scan),
            )
        for method in chosen.methods:
            name = f"{views} views {method}{chosen.label}"
            run = chosen.out / name.replace(" ", "-")
            rows[name] = measure(scan, reference, run, method=method, extra=chosen.settings)
            record.write_text(json.dumps(rows, indent=1))
            print(table({name: rows[name]}).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
