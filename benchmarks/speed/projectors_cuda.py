"""Speed of the triton projector on a GPU against ASTRA's CUDA code; run by ``projectors.py --device cuda``.

Wall time around a synchronised call, median of 30 after warming up, on one GPU, float32 (and bfloat16 storage for
ours). ASTRA works on torch's GPU memory in its own order (DLPack), so no copy between host and device is timed. Stacks
of parallel views run as ASTRA's ``parallel3d``, its fastest way; fans slice by slice, the only way it has.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, FanFlat, Parallel
from recon.geometry.scan import ScanGeometry
from recon.operators.backends.astra_toolbox import Astra, StackEngine, VolumeEngine
from recon.operators.backends.base import Traced
from recon.operators.projector import Projector

GPU = torch.device("cuda")
# Milliseconds for 64 slices of 256 x 256 pixels and 180 views, on an H200: design target.
TARGETS = {"forward": 0.8, "adjoint": 1.2}
Row = dict[str, Any]


def milliseconds(work: Callable[[], object], repeats: int = 30) -> float:
    times = []
    for _ in range(repeats + 5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[5:])


def cases() -> dict[str, tuple[Grid, ScanGeometry]]:
    found = {}
    for slices in (64, 16, 1):
        volume = Grid((slices, 256, 256), (1.0, 1.0, 1.0))
        found[f"parallel, {slices} slices of 256x256, 180 views"] = (
            volume,
            Parallel(views=180).fit(volume).geometry(),
        )
        fan = FanFlat(views=180, sod_mm=600, sdd_mm=1100)
        found[f"fan-flat, {slices} slices of 256x256, 180 views"] = volume, fan.fit(volume).geometry()
    cube, size = Grid((128, 128, 128), (1.0, 1.0, 1.0)), 1100 / 600
    detector = {"columns": 128, "rows": 128, "column_mm": size, "row_mm": size}
    cone = CircularCone(views=60, sod_mm=600, sdd_mm=1100, **detector)  # type: ignore[arg-type]
    found["cone, 128^3, 60 views of 128x128"] = cube, cone.geometry()
    return found


def peer_of(traced: Traced) -> StackEngine | VolumeEngine | None:
    """Return ASTRA's engine on the GPU, None without ASTRA or without its CUDA."""
    if importlib.util.find_spec("astra") is None:
        return None
    import astra

    if not astra.use_cuda() or Astra().refusal(traced):
        return None
    solid = traced.geometry.parallel or not traced.geometry.sliced
    return VolumeEngine(traced, GPU) if solid else StackEngine(traced, GPU)


def measure(name: str, grid: Grid, geometry: ScanGeometry) -> list[Row]:
    A = Projector(geometry, grid, backend="triton")
    draw = torch.Generator(GPU).manual_seed(0)
    x = torch.rand((*grid.shape[1:], grid.shape[0]), generator=draw, device=GPU).permute(2, 0, 1)
    y, halves = A(x), (x.bfloat16(), A(x).bfloat16())
    peer = peer_of(A._traced)
    columns = y.permute(0, 2, 1).contiguous()
    theirs: dict[str, Callable[[], object]] = {}
    if peer is not None:
        image = x.permute(1, 2, 0).contiguous()
        theirs = {"forward": lambda: peer.forward(image), "adjoint": lambda: peer.adjoint(columns)}
    gap = (y.double() ** 2).sum() - (x.double() * A.adjoint(y).double()).sum()
    rows = []
    for direction, ours, stored in (("forward", A, halves[0]), ("adjoint", A.adjoint, halves[1])):
        given = x if direction == "forward" else y
        row: Row = {"case": name, "direction": direction, "milliseconds": milliseconds(partial(ours, given))}
        row["bfloat16_milliseconds"] = milliseconds(partial(ours, stored))
        row["peer_milliseconds"] = milliseconds(theirs[direction], 10) if theirs else None
        row["adjoint_error"] = float(abs(gap) / (y.double() ** 2).sum())
        row["target_milliseconds"] = TARGETS[direction] if "64 slices" in name else None
        rows.append(row)
    return rows


def run() -> list[Row]:
    """Measure and print every row.

    Raises:
        InputError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise InputError(
            "--device cuda: torch finds no GPU here, expected one (and ASTRA with CUDA for the peer)"
        )
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print(
        "| case | direction | ms | bfloat16 storage, ms | ASTRA CUDA, ms | ratio | target, ms | adjoint error |"
    )
    print("|---|---|---|---|---|---|---|---|")
    done = []
    for name, (volume, scan) in cases().items():
        for row in measure(name, volume, scan):
            peer, target = row["peer_milliseconds"], row["target_milliseconds"]
            cells = [
                name,
                row["direction"],
                f"{row['milliseconds']:.3f}",
                f"{row['bfloat16_milliseconds']:.3f}",
            ]
            cells += [f"{peer:.2f}" if peer else "-", f"{peer / row['milliseconds']:.1f}" if peer else "-"]
            cells += [f"<= {target}" if target else "-", f"{row['adjoint_error']:.0e}"]
            print("| " + " | ".join(cells) + " |", flush=True)
            done.append(row)
    return done
