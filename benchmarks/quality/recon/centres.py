"""The rotation axis: ours beside algotom's methods, on real scans and 20 analytic ones.

    pip install --no-deps algotom
    python -m benchmarks.quality.recon.centres                # prints the table

algotom (Vo et al., Apache 2.0; github.com/algotom/algotom) is an oracle by other code: ``find_center_vo`` (double wedge
of a half turn) with its own range (a sixteenth of the detector to either side of the middle) and with the middle 60 %,
and ``find_center_360`` (overlap of the two halves of a full turn). Analytic scans are discs at 20,000 photons, seed 0;
what is known there is the truth. A fan beam has no mirrored views: HTC's axis is looked for as the column
about which opposite rays agree best, and compared with the middle that its file implies.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import h5py
import numpy as np
import tifffile

from benchmarks.quality.recon.measured import ARCS, arc_file, join
from benchmarks.support.real_data import real_data
from priors.runtime.errors import InputError
from recon.geometry.coverage import coverage
from recon.io.scans.ct_pd.centre import opposite_rays
from recon.io.scans.registry import read_scan
from recon.preprocess.centre_search import search_axis

HALF, FULL = np.arange(180.0), np.arange(360.0)
# Views, columns, axis, radius of the object in columns.
ANALYTIC = (
    *(
        (HALF, 256, axis, radius)
        for axis, radius in ((127.5, 82), (137.5, 82), (107.5, 90), (150.0, 70), (117.2, 77))
    ),
    *((HALF, 256, axis, 80) for axis in (141.3, 160.0)),
    *((HALF[::4], 256, axis, 80) for axis in (133.2, 115.0)),
    *((HALF, 200, axis, 140) for axis in (108.3, 92.0)),
    (HALF, 256, 140.2, 180),
    *((FULL, 256, axis, radius) for axis, radius in ((137.5, 82), (112.0, 90), (120.4, 170))),
    *((FULL, 100, axis, 40) for axis in (88.25, 85.0, 95.0, 11.5, 70.0)),
)


@dataclass(frozen=True)
class Case:
    """A sinogram (view, column), its angles, and the axis as far as it is known."""

    name: str
    sinogram: np.ndarray
    angles_deg: np.ndarray
    known: float | None


def analytic(degrees: np.ndarray, columns: int, axis: float, radius: float) -> np.ndarray:
    """Return the sinogram of four discs at 20,000 photons."""
    discs = (
        (0.05, -0.03, 0.95, 0.8), (0.4, 0.1, 0.2, 1.2), (-0.3, 0.35, 0.15, 1.6), (-0.2, -0.5, 0.1, -0.6)
    )  # fmt: skip
    turn, column, total = np.deg2rad(degrees), np.arange(columns), np.zeros((len(degrees), columns))
    for x, y, r, mu in discs:
        away = (column - axis)[None] - radius * (x * np.cos(turn) + y * np.sin(turn))[:, None]
        total += 2 * mu / radius * np.sqrt(np.maximum((r * radius) ** 2 - away**2, 0))
    counts = np.random.default_rng(0).poisson(2e4 * np.exp(-total))
    return -np.log(np.maximum(counts, 0.5) / 2e4)


def cases() -> list[Case]:
    """Return the analytic and the real parallel scans."""
    found = [
        Case(
            f"{'half' if degrees[-1] < 200 else 'full'} turn, {len(degrees)} views, {columns} columns, radius {radius}",
            analytic(degrees, columns, axis, radius),
            degrees,
            axis,
        )
        for degrees, columns, axis, radius in ANALYTIC
    ]
    with h5py.File(real_data("sinograms/tomopy_tooth.h5")) as file:
        raw, dark, white = (
            file[f"exchange/{name}"][:, :1].astype(float) for name in ("data", "data_dark", "data_white")
        )
        theta = np.asarray(file["exchange/theta"][()], float)
    black = np.median(dark, axis=0)
    tooth = -np.log(np.maximum(raw - black, 1) / (np.median(white, axis=0) - black))[:, 0]
    found.append(Case("tooth (tomopy: 296 by eye)", tooth, theta, None))
    y = tifffile.imread(real_data("sinograms/sarepy_sinogram_360_neutron_image.tif")).astype(float)
    neutron = -np.log(np.maximum(y, 1) / y.max())
    found.append(Case("neutron", neutron, np.linspace(0, 360, len(y)), None))
    return [*found, _savu()]


def _savu() -> Case:
    folder = real_data("sinograms/savu_24737")
    raw = np.stack([tifffile.imread(file)[90] for file in sorted(folder.glob("raw_*.tiff"))]).astype(float)
    fields = [tifffile.imread(folder / f"{name}_00001.tiff")[90].astype(float) for name in ("flat", "dark")]
    dark, flat = sorted(fields, key=lambda field: float(field.mean()))
    lines = -np.log(np.maximum(raw - dark, 1) / np.maximum(flat - dark, 1))
    return Case("Savu 24737, row 90", lines, np.arange(91) * 2.0, None)


def ours(case: Case) -> str:
    """Return our axis with its confidence."""
    try:
        axis = search_axis(case.sinogram, case.angles_deg)
    except InputError as error:
        return str(error)[:30]
    return f"{axis.column:.2f} {axis.confidence}"


def algotom_vo(case: Case, wide: bool) -> str:
    """Return algotom's double wedge on the first half turn."""
    from algotom.prep.calculation import find_center_vo

    views = int((case.angles_deg - case.angles_deg[0] <= 180).sum())
    lines, columns = case.sinogram[:views].astype(np.float32), case.sinogram.shape[1]
    ends = {"start": 0.2 * columns, "stop": 0.8 * columns} if wide else {}
    return f"{find_center_vo(lines, ncore=1, **ends):.2f}"


def algotom_360(case: Case) -> str:
    """Return algotom's overlap of two half turns."""
    from algotom.prep.calculation import find_center_360

    if np.ptp(case.angles_deg) < 300:
        return ""
    width = max(10, case.sinogram.shape[1] // 10)
    return f"{find_center_360(case.sinogram.astype(np.float32), width, ncore=1)[0]:.2f}"


def htc() -> tuple[float, float]:
    """Return the axis of HTC's disc tb, joined from its arcs (307 degrees), by opposite rays, and the file's."""
    scan = join([read_scan(arc_file(suffix)) for suffix in ARCS.values()])
    geometry = scan.geometry
    lines = scan.sinogram[:, scan.sinogram.shape[1] // 2].astype(np.float64)
    reach = geometry.detector_mm - geometry.source_mm
    angle = np.unwrap(np.arctan2(reach[:, 1], reach[:, 0]))
    if angle[-1] < angle[0]:
        lines, angle = lines[::-1], angle[::-1]
    pitch, distance = (float(np.linalg.norm(a, axis=1).mean()) for a in (geometry.u_mm, reach))

    def apart(column: float) -> float:
        gamma = np.arctan((np.arange(1, lines.shape[1] + 1) - column) * pitch / distance)
        return min(opposite_rays(lines, angle, gamma, column, sign) for sign in (-1.0, 1.0))

    middle = (lines.shape[1] + 1) / 2
    coarse = min(np.arange(middle - 8, middle + 8.01, 0.5), key=apart)
    best = min(np.arange(coarse - 0.5, coarse + 0.51, 0.05), key=apart)
    return float(best) - 1, float(coverage(geometry).axis_column)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    columns: dict[str, Callable[[Case], str]] = {
        "ours": ours,
        "algotom vo": lambda case: algotom_vo(case, wide=False),
        "vo, middle 60 %": lambda case: algotom_vo(case, wide=True),
        "algotom 360": algotom_360,
    }
    print(f"| scan | known | {' | '.join(columns)} |\n|{'---|' * (2 + len(columns))}")
    for case in cases():
        known = "" if case.known is None else f"{case.known:g}"
        print(
            f"| {case.name} | {known} | {' | '.join(find(case) for find in columns.values())} |", flush=True
        )
    found, stated = htc()
    print(f"| HTC 2022 tb, fan beam | {stated:.2f} by the file | {found:.2f} by opposite rays | | | |")


if __name__ == "__main__":
    main()
