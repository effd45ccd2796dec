"""What one slice costs with networks of the published shapes and random weights.

    python benchmarks/speed/prior_costs.py [--only ct-chest-256 ...] [--no-vjp]

Each network runs in a process of its own, in float32 on one thread: weights, operations counted by torch's
FlopCounterMode (on tensors without memory), processor seconds of one call, and the rise of the peak of the resident
memory during it, without a graph and with a vector-Jacobian product. Processor seconds on a machine that others use are
upper bounds. A vector-Jacobian product is left out where it would need more than 10 GB.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from priors.adapters.families.adm import Architecture, configuration
from priors.adapters.foreign import Told
from priors.card import find_prior, read_card
from priors.networks import DiffusersUNet
from priors.runtime.system.peak import peak_bytes, reset_peak, resident_bytes

# Width, channels in and out of the two published guided-diffusion networks: six levels, attention at 16 x 16.
LEVELS = (1, 1, 2, 2, 4, 4)
DM4CT = {
    "sample_size": 512, "in_channels": 1, "out_channels": 1, "layers_per_block": 2,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
}  # fmt: skip


def adm(width: int, channels: int, outputs: int) -> Any:
    """Return the entry of a guided-diffusion network with one block a level and heads of 64 channels."""
    found = Architecture(
        channels=channels,
        outputs=outputs,
        widths=tuple(width * factor for factor in LEVELS),
        blocks=1,
        attention=(False, False, False, False, True, False),
        resampling="resnet",
        scale_shift=True,
        classes=None,
    )
    return DiffusersUNet(config=configuration(found, Told(size=256, head_width=64)))


# Name, entry, side of a slice, whether a vector-Jacobian product fits into 10 GB.
SHAPES: dict[str, tuple[Callable[[], Any], int, bool]] = {
    "ct-chest-256": (lambda: read_card(find_prior("ct-chest-256")).network, 256, True),
    "guided-diffusion, width 128 (DPS)": (lambda: adm(128, 3, 6), 256, True),
    "DDS AAPM256": (lambda: adm(256, 1, 2), 256, True),
    "DM4CT pixel": (lambda: DiffusersUNet(config=DM4CT), 512, False),
}


def states(entry: Any, side: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(1, entry.field_channels, side, side), torch.tensor([100.0])


def operations(entry: Any, side: int) -> float:
    """Return the floating-point operations of one call, on tensors without memory."""
    with torch.device("meta"):
        network, given = entry.build(), states(entry, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*given)
    return float(counter.get_total_flops())


def call(network: nn.Module, x: Tensor, told: Tensor, *, vjp: bool) -> None:
    if not vjp:
        with torch.no_grad():
            network(x, told)
        return
    leaf = x.requires_grad_()
    torch.autograd.grad(network(leaf, told).sum(), leaf)


def measured(name: str, *, vjp: bool) -> dict[str, Any]:
    """Return what one network costs, measured in this process."""
    torch.set_num_threads(1)
    make, side, fits = SHAPES[name]
    entry = make()
    figures: dict[str, Any] = {"gflop": operations(entry, side) / 1e9}
    network = entry.build().eval().requires_grad_(False)
    figures["weights_mb"] = sum(4 * weight.numel() for weight in network.parameters()) / 1e6
    for kind in ("forward", "vjp") if vjp and fits else ("forward",):
        # A small call first: the convolution library's own start is not the network's.
        call(network, *states(entry, 64), vjp=kind == "vjp")
        gc.collect()
        before = resident_bytes()
        reset_peak()
        begin = time.process_time()
        call(network, *states(entry, side), vjp=kind == "vjp")
        figures[f"{kind}_cpu_s"] = time.process_time() - begin
        figures[f"{kind}_mib"] = (peak_bytes() - before) / 2**20
    return figures


def row(name: str, figures: dict[str, Any]) -> str:
    def pair(kind: str) -> str:
        if f"{kind}_cpu_s" not in figures:
            return "not measured"
        return f"{figures[f'{kind}_cpu_s']:.1f} s, {figures[f'{kind}_mib']:.0f} MiB"

    side = SHAPES[name][1]
    size = f"{name}, {side} x {side}"
    weights, gflop = f"{figures['weights_mb']:.0f} MB", f"{figures['gflop']:.0f}"
    return f"| {size} | {weights} | {gflop} | {pair('forward')} | {pair('vjp')} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=list(SHAPES), help="some of: " + "; ".join(SHAPES))
    parser.add_argument("--no-vjp", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child is not None:
        print(json.dumps(measured(chosen.child, vjp=not chosen.no_vjp)))
        return
    print("| network | weights | GFLOP | forward | gradient |\n|---|---|---|---|---|")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in chosen.only:
        command = [sys.executable, __file__, "--child", name, *(["--no-vjp"] if chosen.no_vjp else [])]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        print(row(name, json.loads(done.stdout)), flush=True)


if __name__ == "__main__":
    main()
