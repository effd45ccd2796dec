"""Choose the defaults of total variation on a training patient: weight and slice coupling.

    python benchmarks/quality/recon/tune_tv.py        # prints the Markdown tables of docs/guides/tv.md, 10 CPU minutes
    python benchmarks/quality/recon/tune_tv.py --only weight

16 slices of a training patient (256 x 256 pixels of 1.18 mm, 2 mm apart), parallel beam over 180 degrees, 384
columns, simulated on a grid of half the pixel size. PSNR and SSIM in HU on [-1000, 1000]; time is CPU time.
"""

import argparse
import io
import lzma
import time
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.support.real_data import real_data
from recon.data.units import attenuation_to_hu
from recon.data.volume import Volume, grid_affine
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, RunContext, StepRecord
from recon.reconstructors.tv import TV
from recon.score.metrics import score
from recon.simulate.scan import simulate

PATIENT, SLICES = "ct/slices256/train/covidctmd_cap001.npy.xz", slice(60, 76)
VOXEL_MM = (2.0, 1.1796875, 1.1796875)
DOSES = ((16, 1e5), (30, 1e5), (90, 1e5), (30, 1e4), (90, 1e4))
WEIGHTS = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 2.0)
COUPLINGS = (0.0, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Case:
    """A simulated scan and what was scanned (HU)."""

    projector: Projector
    measurement: Measurement
    truth: np.ndarray

    @classmethod
    def of(cls, views: int, i0: float) -> "Case":
        with lzma.open(real_data(PATIENT)) as file:
            truth = np.load(io.BytesIO(file.read()))[SLICES].astype(np.float32)
        image = Volume(truth, grid_affine(Grid(truth.shape, VOXEL_MM)), "HU")
        data = simulate(image, Parallel(views=views, columns=384), i0=i0, grid=256, seed=0)
        measurement = Measurement(torch.from_numpy(data.sinogram), torch.from_numpy(data.weights))
        return cls(Projector(data.geometry, data.grid), measurement, truth)

    def row(self, method: TV) -> str:
        """Reconstruct and return a row of the table."""
        records: list[StepRecord] = []
        before = time.process_time()
        volume = method(self.measurement, self.projector, RunContext(on_step=records.append))
        seconds = time.process_time() - before
        figures = score(attenuation_to_hu(volume).numpy(), self.truth)
        return (
            f"{figures['psnr_hu']:.2f} | {figures['ssim_axial']:.3f} | {figures['ssim_coronal']:.3f} | "
            f"{records[-1].figures['chi2']:.2f} | {records[-1].iteration} | {seconds:.1f}"
        )


HEADER = "PSNR | SSIM axial | SSIM coronal | chi2 per ray | iterations | CPU s |"


def weights() -> None:
    print(f"\n| views | i0 | weight | {HEADER}\n|" + "---|" * 9)
    for views, i0 in DOSES:
        case = Case.of(views, i0)
        for weight in WEIGHTS:
            print(f"| {views} | {i0:.0e} | {weight} | {case.row(TV(weight=weight))} |", flush=True)


def couplings() -> None:
    print(f"\n| views | i0 | slice_coupling | {HEADER}\n|" + "---|" * 9)
    for views, i0 in DOSES[:2]:
        case = Case.of(views, i0)
        for coupling in COUPLINGS:
            row = case.row(TV(slice_coupling=coupling))
            print(f"| {views} | {i0:.0e} | {coupling} | {row} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("weight", "coupling"))
    chosen = parser.parse_args().only
    if chosen != "coupling":
        weights()
    if chosen != "weight":
        couplings()


if __name__ == "__main__":
    main()
