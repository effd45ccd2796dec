"""Peak memory of NERD against the number of slices and the chunk, each in a process of its own.

    python benchmarks/memory/nerd.py

A procedural thorax is scanned on 256 x 256; three noise levels are enough, since the peak is reached within a level.
``buffers`` is what 9 volume buffers and 5 sinograms take; ``rest`` (peak less buffers) should depend on the chunk and
not on the number of slices.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

TOMOCAST = [sys.executable, "-m", "tomocast"]
LEVELS = [
    "method.fast.levels=2",
    "method.refine.levels=1",
    "method.refine.refine.iterations=2",
    "method.warm_start=fbp",
]


def peak(folder: Path, slices: int, chunk: int) -> float:
    """Return the peak resident memory in MiB of one nerd-admm run."""
    run = folder / f"{slices}-{chunk}"
    command = [*TOMOCAST, "reconstruct", str(folder / "scan.h5"), "--method", "nerd-admm", "--out", str(run)]
    subprocess.run([*command, "--slices", f"0:{slices}", f"method.chunk={chunk}", *LEVELS], check=True)
    return float(json.loads((run / "metrics.json").read_text())["peak_memory_bytes"]) / 2**20


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume, scan = str(folder / "thorax.nii.gz"), str(folder / "scan.h5")
        subprocess.run([*TOMOCAST, "phantom", "--slices", "48", "--grid", "256", "--out", volume], check=True)
        subprocess.run([*TOMOCAST, "simulate", "scan", volume, "--views", "16", "--out", scan], check=True)
        print("| slices | chunk | peak MiB | buffers MiB | rest MiB |\n|---|---|---|---|---|")
        for chunk in (4, 8, 16):
            for slices in (16, 32, 48):
                found = peak(folder, slices, chunk)
                buffers = 4 * slices * (9 * 256 * 256 + 5 * 16 * 384) / 2**20
                print(
                    f"| {slices} | {chunk} | {found:.0f} | {buffers:.0f} | {found - buffers:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
