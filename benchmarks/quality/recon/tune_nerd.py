"""Choose NERD's levels, overestimate and pull on a training patient: the tables of docs/results/methods.md.

    python benchmarks/quality/recon/tune_nerd.py                       # all rows: half an hour of one core
    python benchmarks/quality/recon/tune_nerd.py --views 8 --i0 1e5    # the rows of one scan

4 slices of a training patient (256 x 256 pixels of 1.18 mm, 2 mm apart), parallel beam over 180 degrees, 384 columns,
simulated on a grid of half the pixel size. PSNR in HU on [-1000, 1000]; 20 levels unless stated.
"""

import argparse
import io
import lzma
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.support.real_data import real_data
from recon.data.units import attenuation_to_hu
from recon.data.volume import Volume, grid_affine
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.projector import Projector
from recon.reconstructors import NerdFast
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.diffusion.nerd.evidence import expected_error_hu
from recon.reconstructors.diffusion.nerd.nerd import CgStage
from recon.reconstructors.diffusion.nerd.refine import CgRefinement
from recon.reconstructors.tv import TV
from recon.score.metrics import score
from recon.simulate.scan import simulate

PATIENT, SLICES = "ct/slices256/train/covidctmd_cap001.npy.xz", slice(60, 64)
VOXEL_MM = (2.0, 1.1796875, 1.1796875)


@dataclass(frozen=True)
class Settings:
    """A row: what is tried."""

    start: float = 500.0
    stop: float = 20.0
    overestimate: float = 3.0
    pull: float = 0.15
    levels: int = 20
    momentum: float = 0.6
    zeta: float = 0.3

    def method(self) -> NerdFast:
        """Return the method with these settings."""
        refine = CgRefinement(pull=self.pull, overestimate=self.overestimate)
        stage = CgStage(
            levels=self.levels,
            start_hu=self.start,
            stop_hu=self.stop,
            momentum=self.momentum,
            zeta=self.zeta,
            refine=refine,
        )
        return NerdFast(fast=stage, device="cpu")


BEFORE, NOW = Settings(overestimate=2.0), Settings()
FEW = replace(BEFORE, start=2000.0)
EIGHT = Settings(start=2000.0, stop=40.0)
# Told much more than the added noise, pulled less: what the defaults are now.
LATER = Settings(start=200.0, stop=15.0, overestimate=6.0, pull=0.05, momentum=0.75)
ROWS: dict[tuple[int, float], list[Settings]] = {
    (4, 1e5): [
        BEFORE,
        FEW,
        replace(FEW, start=4000.0),
        Settings(start=3000.0, stop=40.0),
        Settings(start=3000.0, stop=60.0),
        replace(LATER, start=900.0, stop=30.0),
        replace(LATER, start=600.0, stop=40.0),
        replace(LATER, start=1600.0, stop=70.0),
        replace(LATER, start=2500.0, stop=70.0),
        replace(LATER, start=1600.0, stop=110.0),
    ],
    (8, 1e5): [
        BEFORE,
        FEW,
        replace(FEW, start=4000.0),
        replace(FEW, levels=40),
        replace(FEW, pull=0.3),
        replace(FEW, momentum=0.4),
        replace(FEW, momentum=0.75),
        replace(FEW, overestimate=1.5),
        replace(FEW, zeta=0.6),
        replace(FEW, stop=40.0),
        replace(FEW, stop=80.0),
        replace(FEW, overestimate=3.0),
        replace(FEW, overestimate=4.0),
        EIGHT,
        replace(EIGHT, zeta=0.15),
        replace(EIGHT, pull=0.3),
        replace(EIGHT, start=1200.0),
        replace(EIGHT, stop=60.0),
        replace(LATER, start=500.0, stop=30.0, pull=0.04),
        replace(LATER, start=500.0, stop=40.0),
        replace(LATER, start=450.0, stop=55.0),
        replace(LATER, start=800.0, stop=50.0),
        replace(LATER, start=500.0, stop=30.0, levels=40),
    ],
    (16, 1e5): [
        BEFORE,
        replace(BEFORE, pull=0.3),
        replace(BEFORE, start=1000.0),
        replace(BEFORE, stop=40.0),
        NOW,
        replace(NOW, overestimate=4.0),
        replace(NOW, stop=40.0),
        replace(NOW, momentum=0.75),
        replace(NOW, levels=30, momentum=0.5),
        replace(NOW, levels=40),
        replace(LATER, pull=0.04),
        replace(LATER, pull=0.07),
        replace(LATER, overestimate=8.0, pull=0.03),
        replace(LATER, start=250.0, stop=22.0),
        replace(LATER, start=300.0, stop=30.0),
        replace(LATER, stop=12.0, levels=40),
        replace(NOW, levels=10),
        replace(LATER, start=130.0, stop=30.0, levels=10, momentum=0.8, pull=0.07),
        replace(LATER, start=250.0, stop=30.0, levels=10),
    ],
    (60, 1e5): [
        BEFORE,
        replace(BEFORE, pull=0.07),
        replace(BEFORE, overestimate=1.5),
        NOW,
        replace(NOW, overestimate=4.0),
        replace(LATER, start=150.0, stop=10.0),
        replace(LATER, start=250.0, stop=10.0),
        replace(LATER, start=150.0),
    ],
    (30, 1e4): [
        BEFORE,
        replace(BEFORE, pull=0.4),
        NOW,
        replace(NOW, pull=0.4),
        replace(LATER, stop=10.0, pull=0.3),
        replace(LATER, stop=10.0, pull=0.04),
        replace(LATER, stop=10.0, pull=0.07),
        LATER,
    ],
    (30, 3e3): [NOW, replace(NOW, pull=0.4)],
}


class Case:
    """A simulated scan, what was scanned (HU), and the volume that all rows start from."""

    def __init__(self, views: int, i0: float) -> None:
        with lzma.open(real_data(PATIENT)) as file:
            self.truth = np.load(io.BytesIO(file.read()))[SLICES].astype(np.float32)
        image = Volume(self.truth, grid_affine(Grid(self.truth.shape, VOXEL_MM)), "HU")
        data = simulate(image, Parallel(views=views, columns=384), i0=i0, grid=256, seed=0)
        self.measurement = Measurement(torch.from_numpy(data.sinogram), torch.from_numpy(data.weights))
        self.projector = Projector(data.geometry, data.grid)
        self.start = TV()(self.measurement, self.projector, RunContext())

    def psnr(self, volume: torch.Tensor) -> float:
        """Return the PSNR in dB."""
        return float(score(attenuation_to_hu(volume).numpy(), self.truth)["psnr_hu"])

    def row(self, tried: Settings) -> str:
        """Reconstruct and return a row of the table."""
        volume = tried.method()(self.measurement, self.projector, RunContext(initial=self.start))
        cells = [f"{value:g}" for value in vars(tried).values()]
        return "| " + " | ".join([*cells, f"{self.psnr(volume):.2f}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--views", type=int)
    parser.add_argument("--i0", type=float)
    chosen = parser.parse_args()
    for (views, i0), rows in ROWS.items():
        if chosen.views not in (None, views) or chosen.i0 not in (None, i0):
            continue
        case = Case(views, i0)
        error = expected_error_hu(case.measurement, case.projector, model_error=0.004)
        print(
            f"\n{views} views, {i0:g} photons: left open {error:.0f} HU, tv {case.psnr(case.start):.2f} dB\n"
        )
        names = [*vars(NOW), "PSNR dB"]
        print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")
        for tried in rows:
            print(case.row(tried), flush=True)


if __name__ == "__main__":
    main()
