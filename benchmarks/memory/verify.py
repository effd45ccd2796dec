"""Peak memory of ``tomocast score ensemble`` against the size of the archive, each in a process of its own.

    python benchmarks/memory/verify.py                        # 0.1, 0.2, 0.4 and 0.8 GB
    python benchmarks/memory/verify.py --gigabytes 0.1 10     # other sizes

Eight members of one variable on 256 x 256 points and a truth, both Zarr folders with one field per chunk, so the
sizes differ in the number of times only. The slope is that of a straight line through the peaks. The archives are
written to the folder for temporary files (TMPDIR).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from assimilation.fields.grid import Grid, Variable
from assimilation.io.archive import EnsembleWriter

MEMBERS, SIDE = 8, 256
CHILD = "import resource, sys; from tomocast.cli import main\ntry:\n    main()\nfinally:\n" + (
    "    print('peak', 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
)


def write(path: Path, members: int, times: int, seed: int) -> None:
    """Write an archive of noise, one time after another."""
    generator = np.random.default_rng(seed)
    axis = np.arange(float(SIDE))
    grid, variables = Grid(axis, axis, "plane", "km"), (Variable("t", "K"),)
    with EnsembleWriter(path, variables=variables, grid=grid) as writer:
        for place in range(times):
            moment = np.datetime64("2000-01-01", "ns") + place * np.timedelta64(3600, "s")
            values = generator.normal(280, 5, (1, members, 1, SIDE, SIDE)).astype(np.float32)
            writer.append(moment, values)


def peak(archive: Path, truth: Path) -> float:
    """Return the peak resident memory of a verification in MB."""
    words = [
        "score",
        "ensemble",
        str(archive),
        str(truth),
        "--threshold",
        "285",
        "--json",
        str(archive) + ".json",
    ]
    done = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=True)
    return float(done.stderr.split("peak ")[-1]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.1, 0.2, 0.4, 0.8])
    sizes = parser.parse_args().gigabytes
    print("| archive GB | times | peak MB | seconds |\n|---|---|---|---|")
    peaks = []
    for size in sizes:
        times = round(size * 1e9 / (4 * MEMBERS * SIDE**2))
        with tempfile.TemporaryDirectory() as name:
            archive, truth = Path(name) / "analysis.zarr", Path(name) / "truth.zarr"
            write(archive, MEMBERS, times, seed=0)
            write(truth, 1, times, seed=1)
            begin = time.perf_counter()
            peaks.append(peak(archive, truth))
            print(f"| {size:g} | {times} | {peaks[-1]:.0f} | {time.perf_counter() - begin:.0f} |", flush=True)
    if len(sizes) > 1:
        slope, start = np.polyfit(1e3 * np.array(sizes), peaks, 1)
        print(f"\nslope: {slope:.4f} MB of memory per MB of archive, {start + 1e4 * slope:.0f} MB at 10 GB")


if __name__ == "__main__":
    main()
