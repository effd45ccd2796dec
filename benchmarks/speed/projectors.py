"""Speed of the projector against ASTRA's CPU projectors, core for core, and the cost of what is built on it.

Every round times ours and the peer one after the other with ``time.process_time`` (core time of all
threads), so a busy machine slows both; a figure is the median of the rounds. One thread each, float32, 256
x 256 pixels.

    python benchmarks/speed/projectors.py --quick --json projectors.json     # about a minute
    python benchmarks/speed/projectors.py --json projectors.json             # every row of the table, some minutes
    python benchmarks/speed/projectors.py --device cuda --json gpu.json      # on a GPU, against ASTRA CUDA
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from recon.geometry.grid import Grid
from recon.geometry.orbits import (
    CircularCone,
    CircularOrbit,
    DetectorOrbit,
    FanCurved,
    FanFlat,
    HelicalCone,
    Parallel,
)
from recon.operators.backends.reference.cone import pixel_rays
from recon.operators.projector import Projector
from recon.reconstructors.fbp import fbp, ramp

try:
    import astra
except ImportError:
    astra = None

SIZE = 256
FAN = {"sod_mm": 600.0, "sdd_mm": 1100.0}
ORBITS: dict[str, Callable[..., CircularOrbit]] = {
    "parallel": Parallel,
    "fan-flat": lambda **fields: FanFlat(**fields, **FAN),
    "fan-curved": lambda **fields: FanCurved(**fields, **FAN),
}
CONES = ("cone", "cone curved", "helical curved", "cone tilted")
PEERS = {"parallel": "linear", "fan-flat": "line_fanflat"}
# (slices, least core_ratio): design/projectors.
SPEED_TARGETS = {"parallel": {64: 20, 16: 8, 1: 1}, "fan-flat": {64: 25, 16: 8, 1: 1}}


class AstraPeer:
    """ASTRA's CPU projector and backprojector of one slice, prepared once, run slice by slice."""

    def __init__(self, orbit: CircularOrbit) -> None:
        grid = astra.create_vol_geom(SIZE, SIZE)
        if isinstance(orbit, Parallel):
            shape = astra.create_proj_geom("parallel", orbit.column_mm, orbit.columns, orbit.angles())
        else:
            # ASTRA's fan at angle 0 comes from -y, ours from +y.
            distances = (orbit.sod_mm, orbit.sdd_mm - orbit.sod_mm)
            angles = orbit.angles() + np.pi
            shape = astra.create_proj_geom("fanflat", orbit.column_mm, orbit.columns, angles, *distances)
        self.image = astra.data2d.create("-vol", grid)
        self.sinogram = astra.data2d.create("-sino", shape)
        self.name = PEERS[orbit.name]
        projector = astra.create_projector(self.name, shape, grid)
        self.forward = self._algorithm("FP", projector, "VolumeDataId")
        self.adjoint = self._algorithm("BP", projector, "ReconstructionDataId")

    def _algorithm(self, kind: str, projector: int, role: str) -> int:
        options = astra.astra_dict(kind)
        options |= {"ProjectorId": projector, "ProjectionDataId": self.sinogram, role: self.image}
        return int(astra.algorithm.create(options))

    def run(self, slices: np.ndarray) -> None:
        """Project and backproject every slice (slice, y, x)."""
        for values in slices:
            astra.data2d.store(self.image, values)
            astra.algorithm.run(self.forward)
            astra.algorithm.run(self.adjoint)


def core_seconds(work: Callable[[], object], repeats: int = 1) -> float:
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def interleaved(works: list[Callable[[], object]], rounds: int, repeats: list[int]) -> list[float]:
    """Return the median core seconds of each work; one untimed run each comes first."""
    for work in works:
        work()
    times = [[core_seconds(work, n) for work, n in zip(works, repeats, strict=True)] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def case(name: str, slices: int, views: int, backend: str = "numba") -> tuple[CircularOrbit, Projector]:
    volume = Grid((slices, SIZE, SIZE), (1.0, 1.0, 1.0))
    orbit = ORBITS[name](views=views).fit(volume)
    return orbit, Projector(orbit.geometry(), volume, backend=backend)  # type: ignore[arg-type]


def draw(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    slice_last = torch.rand((*shape[1:], shape[0]), generator=generator, dtype=dtype)
    return slice_last.permute(2, 0, 1)


def adjoint_error(A: Projector, dtype: torch.dtype) -> float:
    x, y = draw(A.domain, dtype) - 0.5, draw(A.range, dtype) - 0.5
    ax, aty = A(x).double(), A.adjoint(y).double()
    gap = (ax * y.double()).sum() - (x.double() * aty).sum()
    return float(abs(gap) / (ax.norm() * y.double().norm()))


def row(name: str, slices: int, views: int, **fields: Any) -> dict[str, Any]:
    return {"geometry": name, "slices": slices, "views": views, "backend": "numba"} | fields


def speed(name: str, slices: int, views: int, rounds: int, backend: str = "numba") -> dict[str, Any]:
    """Time forward + adjoint against ASTRA (``core_ratio`` = peer / ours, None without a peer)."""
    orbit, A = case(name, slices, views, backend)
    x = draw(A.domain)
    forward: list[Callable[[], object]] = [lambda: A(x), lambda: A.adjoint(y)]
    y = A(x)
    repeats = max(1, 32 // slices)
    works, counts = forward, [repeats, repeats]
    if astra is not None and name in PEERS:
        peer, arrays = AstraPeer(orbit), np.ascontiguousarray(x.numpy()[:, ::-1])
        works, counts = [*works, lambda: peer.run(arrays)], [*counts, max(1, 4 // slices)]
    seconds = interleaved(works, rounds, counts)
    ours = seconds[0] + seconds[1]
    compared = len(seconds) == 3
    return row(
        name,
        slices,
        views,
        backend=backend,
        quantity="peer / ours, forward + adjoint",
        peer=f"astra {PEERS[name]}" if compared else None,
        core_ratio=seconds[2] / ours if compared else None,
        least=SPEED_TARGETS.get(name, {}).get(slices) if backend == "numba" else None,
        adjoint_error=adjoint_error(A, torch.float32),
        adjoint_error_float64=adjoint_error(A, torch.float64),
        seconds=ours,
        forward_seconds=seconds[0],
        adjoint_seconds=seconds[1],
        peer_seconds=seconds[2] if compared else None,
    )


def cone_case(name: str) -> Projector:
    """128^3 voxels seen by 60 views of 128 x 128, at the distances of a clinical scanner."""
    volume = Grid((128, 128, 128), (2.0, 2.0, 2.0))
    size = {"columns": 128, "rows": 128, "column_mm": 4.6, "row_mm": 4.6}
    place = {"sod_mm": 595.0, "sdd_mm": 1085.6, **size}
    kind = {"detector": "curved"} if name.endswith("curved") else {}
    if name.startswith("helical"):
        orbit: DetectorOrbit = HelicalCone(views_per_turn=30, turns=2, pitch_mm=64, **place, **kind)
    else:
        orbit = CircularCone(views=60, tilt_deg=1.0 if name.endswith("tilted") else 0.0, **place, **kind)
    return Projector(orbit.fit(volume).geometry(), volume)


def samples_of(A: Projector) -> int:
    """Return the number of places where rays are sampled: driving indices of every ray inside the volume."""
    rays, (slices, height, width), voxel = pixel_rays(A.geometry), A.domain, np.array(A.grid.voxel_mm[::-1])
    corner = np.array([A.grid.coordinates(axis)[0] for axis in (2, 1, 0)])
    at, to = (rays[0] - corner) / voxel, rays[1] / voxel
    size = np.array([width, height, slices])
    axis = abs(to).argmax(-1)[..., None]
    start, speed = (np.take_along_axis(x, axis, -1)[..., 0] for x in (at, to))
    total = 0
    for i in range(int(size.max())):
        travelled = (i - start) / speed
        inside = (i < size[axis[..., 0]]) & (travelled > 0)
        for k in range(3):
            place = at[..., k] + travelled * to[..., k]
            inside &= (axis[..., 0] == k) | ((place > -1) & (place < size[k]))
        total += int(inside.sum())
    return total


def cone_speed(name: str, rounds: int) -> dict[str, Any]:
    """Time forward + adjoint of rays that cross slices, in 10^9 samples per core second of both together."""
    A = cone_case(name)
    x = draw(A.domain)
    y = A(x)
    works: list[Callable[[], object]] = [lambda: A(x), lambda: A.adjoint(y)]
    forward, adjoint = interleaved(works, 1 if name.endswith("tilted") else rounds, [1, 1])
    samples = samples_of(A)
    return row(
        name,
        128,
        60,
        quantity="Gsample / core-s, forward + adjoint",
        peer=None,
        core_ratio=samples / (forward + adjoint) / 1e9,
        least=None if name.endswith("tilted") else 0.2,
        adjoint_error=adjoint_error(A, torch.float32),
        samples=samples,
        seconds=forward + adjoint,
        forward_seconds=forward,
        adjoint_seconds=adjoint,
        peer_seconds=None,
    )


def normal_overhead(name: str, slices: int, views: int, rounds: int) -> list[dict[str, Any]]:
    """Time A.T W (A x - y), with and without W, against A x and A.T y alone."""
    A = cone_case(name) if name == "cone" else case(name, slices, views)[1]
    x = draw(A.domain)
    y = A(x)
    weights = torch.rand_like(y)
    works: list[Callable[[], object]] = [
        lambda: (A(x), A.adjoint(y)),
        lambda: A.normal(x, y),
        lambda: A.normal(x, y, weights),
    ]
    alone, *together = interleaved(works, 4 * rounds, [2, 2, 2])
    return [
        row(
            name,
            slices,
            views,
            quantity=f"{formula} / (forward + adjoint)",
            peer="forward + adjoint alone",
            core_ratio=seconds / alone,
            most=1.15,
            adjoint_error=adjoint_error(A, torch.float32),
            seconds=seconds,
            peer_seconds=alone,
        )
        for formula, seconds in zip(("A.T(A x - y)", "A.T W (A x - y)"), together, strict=True)
    ]


def filtering(name: str, slices: int, views: int, rounds: int) -> dict[str, Any]:
    """Time the ramp filter of FBP against its backprojection."""
    _, A = case(name, slices, views)
    reach = A.geometry.shape[1]
    half = ramp.windowed_ramp(reach, "ramp", 1.0)
    taps = np.concatenate([half[:0:-1], half])
    fine = Projector(fbp.half_columns(A.geometry, (0, 0)), A.grid)
    line = A(draw(A.domain)).permute(0, 2, 1)
    filtered = ramp.filter_columns(line, taps).permute(0, 2, 1)
    works: list[Callable[[], object]] = [
        lambda: ramp.filter_columns(line, taps),
        lambda: fine.distance_weighted_adjoint(filtered),
    ]
    ours, backprojection = interleaved(works, 4 * rounds, [2, 2])
    return row(
        name,
        slices,
        views,
        quantity="FBP filter / backprojection",
        peer="backprojection",
        core_ratio=ours / backprojection,
        most=0.5,
        adjoint_error=adjoint_error(A, torch.float32),
        seconds=ours,
        peer_seconds=backprojection,
    )


def rows(quick: bool, rounds: int) -> list[dict[str, Any]]:
    views = (60,) if quick else (60, 180)
    plan: list[Callable[[], dict[str, Any] | list[dict[str, Any]]]] = [
        (lambda n=n, s=s, v=v: speed(n, s, v, rounds)) for n in PEERS for s in (64, 16, 1) for v in views
    ]
    if not quick:
        plan += [lambda s=s: speed("parallel", s, 60, rounds, "reference") for s in (1, 16)]
        plan += [lambda v=v: speed("fan-curved", 64, v, rounds) for v in views]
        plan += [lambda n=n: cone_speed(n, rounds) for n in CONES]
        plan += [lambda n=n, v=v: normal_overhead(n, 64, v, rounds) for n in PEERS for v in views]
        plan += [lambda: normal_overhead("cone", 128, 60, rounds)]
        plan += [lambda n=n, v=v: filtering(n, 64, v, rounds) for n in ORBITS for v in views]
    done: list[dict[str, Any]] = []
    for measure in plan:
        found = measure()
        new = found if isinstance(found, list) else [found]
        print("\n".join(line_of(one) for one in new), flush=True)
        done += new
    return done


def line_of(found: dict[str, Any]) -> str:
    limits = [f"{sign} {found[key]}" for key, sign in (("least", ">="), ("most", "<=")) if found.get(key)]
    ratio = "-" if found["core_ratio"] is None else f"{found['core_ratio']:.3g}"
    cells = [found["geometry"], found["slices"], found["views"], found["backend"], found["quantity"]]
    cells += [found["peer"] or "-", ratio, *(limits or ["-"])]
    cells += [f"{1e3 * found['seconds']:.1f} ms", f"{found['adjoint_error']:.0e}"]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def on_gpu(out: Path | None) -> None:
    from benchmarks.speed import projectors_cuda
    from priors.runtime.errors import InputError

    try:
        done = projectors_cuda.run()
    except InputError as mistake:
        sys.exit(f"error: {mistake}")
    if out:
        out.write_text(json.dumps(done, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the speed rows, at 60 views")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.device == "cuda":
        on_gpu(options.json)
        return
    torch.set_num_threads(1)
    if astra is None:
        print("ASTRA is not installed: no peer is measured (pip install astra-toolbox)", file=sys.stderr)
    titles = [
        "geometry",
        "slices",
        "views",
        "backend",
        "quantity",
        "peer",
        "ratio",
        "target",
        "core-time",
        "adjoint-error",
    ]
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    done = rows(options.quick, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
