"""What this machine can do at best in one thread, beside what the projectors do: the roofline.

    python benchmarks/speed/ceilings.py

Ceilings are measured by compiled loops over float32 arrays that fit a cache or do not: bytes read per second, bytes
read and written per second, and multiply-adds per second from registers. The projectors are then counted: bytes moved
between registers and the first-level cache, and floating-point operations on voxels, per core second. Geometry (where
a ray crosses, and its weights) is work that neither count sees.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
import numpy as np
import torch

from benchmarks.speed.projectors import case, cone_case, core_seconds, draw, samples_of
from recon.operators.backends.numba_cpu.simd import add, fma, load, spread, store
from recon.operators.projector import Projector

WIDE = (0, 0, 0)
SIZES = {"16 KiB": 16 << 10, "256 KiB": 256 << 10, "8 MiB": 8 << 20, "128 MiB": 128 << 20}


@numba.njit(nogil=True)
def read(array, repeats):  # type: ignore[no-untyped-def]
    # Eight sums: one alone would wait for its own addition, not for memory.
    a = b = c = d = e = f = g = h = spread(array, 0.0, WIDE)
    for _ in range(repeats):
        for k in range(0, array.size, 64):
            a, b = add(a, load(array, k, WIDE)), add(b, load(array, k + 8, WIDE))
            c, d = add(c, load(array, k + 16, WIDE)), add(d, load(array, k + 24, WIDE))
            e, f = add(e, load(array, k + 32, WIDE)), add(f, load(array, k + 40, WIDE))
            g, h = add(g, load(array, k + 48, WIDE)), add(h, load(array, k + 56, WIDE))
    store(array, 0, add(add(add(a, b), add(c, d)), add(add(e, f), add(g, h))))


@numba.njit(nogil=True)
def update(array, repeats):  # type: ignore[no-untyped-def]
    one = spread(array, 1.0, WIDE)
    for _ in range(repeats):
        for k in range(0, array.size, 16):
            store(array, k, add(load(array, k, WIDE), one))
            store(array, k + 8, add(load(array, k + 8, WIDE), one))


@numba.njit(nogil=True)
def multiply_add(array, repeats):  # type: ignore[no-untyped-def]
    a, b, c, d, e, f, g, h = (
        load(array, 0, WIDE),
        load(array, 8, WIDE),
        load(array, 16, WIDE),
        load(array, 24, WIDE),
        load(array, 32, WIDE),
        load(array, 40, WIDE),
        load(array, 48, WIDE),
        load(array, 56, WIDE),
    )
    x = spread(array, 0.5, WIDE)
    for _ in range(repeats):
        a, b, c, d = fma(a, x, a), fma(b, x, b), fma(c, x, c), fma(d, x, d)
        e, f, g, h = fma(e, x, e), fma(f, x, f), fma(g, x, g), fma(h, x, h)
    store(array, 0, add(add(add(a, b), add(c, d)), add(add(e, f), add(g, h))))


def best(work: Callable[[], object]) -> float:
    work()
    return min(core_seconds(work) for _ in range(5))


def machine() -> None:
    print("| array | read GB/s | read and write GB/s |\n|---|---|---|")
    for label, size in SIZES.items():
        array = np.zeros(size // 4, np.float32)
        repeats = max(1, (256 << 20) // size)
        moved = size * repeats / 1e9
        reading, updating = (
            best(lambda a=array, n=repeats: read(a, n)),
            best(lambda a=array, n=repeats: update(a, n)),
        )
        print(f"| {label} | {moved / reading:.1f} | {2 * moved / updating:.1f} |")
    small = np.zeros(64, np.float32)
    count = 10_000_000
    print(
        f"\nmultiply-adds: {count * 8 * 8 * 2 / best(lambda: multiply_add(small, count)) / 1e9:.0f} GFLOP/s\n"
    )


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    work()
    return statistics.median(core_seconds(work) for _ in range(rounds))


def projector(label: str, A: Projector, crossings: int, *, per: tuple[float, float, float]) -> None:
    """Print the rates of both directions; ``per`` is bytes forward, bytes adjoint and FLOP per crossing."""
    x = draw(A.domain)
    y = A(x)
    for name, work, moved in (("forward", lambda: A(x), per[0]), ("adjoint", lambda: A.adjoint(y), per[1])):
        time_taken = seconds(work)
        rate = crossings / time_taken / 1e9
        print(
            f"| {label} {name} | {rate:.2f} | {moved * rate:.1f} | {per[2] * rate:.1f} | {1e3 * time_taken:.0f} ms |"
        )


def projectors() -> None:
    print(
        "| kernel | Gsample/s | GB/s, registers to cache | GFLOP/s on voxels | core time |\n|---|---|---|---|---|"
    )
    for slices in (64, 16, 1):
        _, A = case("parallel", slices, 60)
        table = A._traced.table
        crossings = int(np.maximum(table.stop - table.first, 0).sum()) * slices
        # Two pixels are read by the forward projector, read and written by the adjoint; two multiply-adds each.
        projector(f"parallel, {slices} slices,", A, crossings, per=(8, 16, 4))
    A = cone_case("cone")
    samples = samples_of(A)
    # Beside two pixels: the profile written and read in pairs, and the sums of rows; the adjoint has four profiles.
    projector("cone 128^3", A, samples, per=(8 + 4 + 8 + 8, 16 + 16 + 36 + 4, 7))


def main() -> None:
    torch.set_num_threads(1)
    started = time.process_time()
    machine()
    projectors()
    print(f"\n{time.process_time() - started:.0f} s of core time", file=sys.stderr)


if __name__ == "__main__":
    main()
