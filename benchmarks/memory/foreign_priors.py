"""What ``--plan`` says of a run with an imported prior, against the peak of the run: small networks of foreign shapes.

    python benchmarks/memory/foreign_priors.py [--only rgb 512]

Two priors with random weights are saved as diffusers saves them and imported: a colour network in the shape of
guided-diffusion for 64 x 64, and a grey one for 512 x 512. Two noise levels reach the peak. Each run is a process of
its own; planned is ``total_bytes`` of ``--plan``, taken ``peak_memory_bytes`` of the run. What the card measured of the
network is printed beside it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from priors.card import read_card

TOMOCAST = [sys.executable, "-m", "tomocast"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
LEVELS = [
    "method.fast.levels=2", "method.refine.levels=1", "method.refine.refine.iterations=1", "method.warm_start=fbp",
]  # fmt: skip
# What distinguishes the two: channels, base width, the side of their slices, slices and chunks to run.
PRIORS = {"rgb": (3, 64, 64, 8), "512": (1, 32, 512, 4)}


def tomocast(*words: object) -> str:
    done = subprocess.run(
        [*TOMOCAST, *map(str, words)], env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def imported(folder: Path, name: str) -> Path:
    """Save a network with random weights and import it."""
    from diffusers import DDPMScheduler, UNet2DModel

    channels, width, side, _ = PRIORS[name]
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(width, width, 2 * width, 2 * width),
        down_block_types=(*("ResnetDownsampleBlock2D",) * 3, "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", *("ResnetUpsampleBlock2D",) * 3),
        resnet_time_scale_shift="scale_shift",
        attention_head_dim=width,
    )
    network.save_pretrained(folder / name / "unet")
    DDPMScheduler(clip_sample=False).save_pretrained(folder / name / "scheduler")
    prior = folder / f"{name}-prior"
    tomocast("import-prior", folder / name, "--offset", 0, "--scale", 1000, "--unit", "HU", "--out", prior)
    return prior


def scan_of(folder: Path, side: int, slices: int) -> Path:
    volume, scan = folder / f"{side}.nii.gz", folder / f"{side}.h5"
    tomocast("phantom", "--slices", slices, "--grid", side, f"pixel_mm={384 / side}", "--out", volume)
    tomocast("simulate", "scan", volume, "--views", 16, "--grid", side, "--out", scan)
    return scan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[*PRIORS], default=[*PRIORS])
    chosen = parser.parse_args()
    print(
        "| prior | method | slices a call | planned MiB | peak MiB | planned / peak |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for prior in chosen.only:
            _, _, side, slices = PRIORS[prior]
            source, scan = imported(folder, prior), scan_of(folder, side, slices)
            print(f"{prior}: {read_card(source).memory}", file=sys.stderr)
            for method, chunk in (("nerd-fast", 1), ("nerd-fast", 4), ("nerd-admm", 1)):
                out = folder / f"{prior}-{method}-{chunk}"
                levels = LEVELS if method == "nerd-admm" else [LEVELS[0], LEVELS[3]]
                job = (
                    "reconstruct",
                    scan,
                    "--method",
                    method,
                    "--prior",
                    source,
                    f"method.chunk={chunk}",
                    *levels,
                )
                plan = json.loads(tomocast(*job, "--plan", "--json", "-"))
                print(f"{out.name}: {plan['bytes']}", file=sys.stderr)
                # Networks with random weights explain no scan: the result is refused unless forced.
                tomocast(*job, "--out", out, "--force")
                taken = json.loads((out / "metrics.json").read_text())["peak_memory_bytes"] / 2**20
                planned = plan["total_bytes"] / 2**20
                row = (
                    f"| {prior} | {method} | {chunk} | {planned:.0f} | {taken:.0f} | {planned / taken:.2f} |"
                )
                print(row, flush=True)


if __name__ == "__main__":
    main()
