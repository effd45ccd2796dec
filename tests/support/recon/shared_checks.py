"""What ``test_processes`` runs under ``torchrun``: one process's results first, then those of all together."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from priors.runtime.system import processes
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, DetectorOrbit, FanFlat, Parallel
from recon.operators.projector import Projector
from recon.reconstructors import FBP, TV
from recon.reconstructors.base import Measurement, RunContext

CASES: dict[str, tuple[Grid, DetectorOrbit]] = {
    "whole bundles": (Grid((128, 12, 12), (1.0, 1.0, 1.0)), Parallel(views=3)),
    "odd shares": (Grid((7, 20, 18), (1.0, 1.0, 1.0)), FanFlat(views=5, sod_mm=60, sdd_mm=100)),
    "cone": (Grid((6, 20, 18), (1.0, 1.0, 1.0)), CircularCone(views=5, sod_mm=60, sdd_mm=100)),
}


def results() -> dict[str, torch.Tensor]:
    found = {}
    for name, (volume, orbit) in CASES.items():
        A = Projector(orbit.fit(volume).geometry(), volume)
        draw = torch.Generator().manual_seed(1)
        x, y = torch.randn(A.domain, generator=draw), torch.randn(A.range, generator=draw)
        found |= {f"{name} forward": A(x), f"{name} adjoint": A.adjoint(y)}
        if name == "odd shares":
            measurement = Measurement(A(x.abs()), torch.ones(A.range), 0.02)
            found["fbp"] = FBP()(measurement, A, RunContext(seed=0))
            found["tv"] = TV(iterations=20)(measurement, A, RunContext(seed=0))
    return found


def main(out: Path) -> None:
    alone = results()
    with processes.process_group():
        together = results()
        figures: dict[str, Any] = {"processes": processes.count()}
        for name, value in together.items():
            figures[name] = float((value - alone[name]).norm() / alone[name].norm())
        sums = torch.stack([value.double().sum() for value in together.values()])
        everywhere = processes.all_gather(sums[None], 0, processes.count())
        figures["same bits everywhere"] = bool((everywhere == sums).all())
        if processes.rank() == 0:
            out.write_text(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
