"""Steps of preprocessing before and after: a picture and the numbers of docs/guides/preprocessing.md.

    python benchmarks/figures/preprocessing.py --out docs/images/recon/preprocessing.png

Rings: the measured neutron sinogram, reconstructed by FBP about its own axis. The ring strength is

    s = rms over rings and 16 sectors of  m(r, sector) - median of m over 11 neighbouring rings

with m the mean over a sector of a ring one pixel wide; edges of the object are in it too, which no step should remove.
Beam hardening: disc tb of the Helsinki challenge, all arcs joined. The polynomial comes from the solid disc of the same
scanner: for its rays the path L in the material is known up to position and radius of the disc, which are fitted with
L = b_1 y + b_2 y^2 + b_3 y^3, and a_k = b_k / b_1. Cupping is 1 - (inner) / (outer) with the medians of the material
within 0.3 and between 0.85 and 0.95 of the radius; CGLS reconstructs it, since the arcs have gaps.
Metal: a slice of a real patient with two steel pins, scanned in five energies; water is linearised before, as scanners
do. The error is the rms difference to the reconstruction without pins, inside the body, 3 mm and more from a pin.
"""

import argparse
from itertools import pairwise, zip_longest
from pathlib import Path

import matplotlib
import numpy as np
import tifffile
import torch
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, median_filter
from scipy.optimize import least_squares

from benchmarks.quality.recon.measured import ARCS, arc_file, join
from benchmarks.support.real_data import real_data
from recon.data.noise import Exposure
from recon.data.scan import Scan
from recon.data.units import MU_WATER, attenuation_to_hu
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.geometry.scan import ScanGeometry
from recon.io.scans.registry import read_scan
from recon.io.volumes.registry import read_volume
from recon.operators.projector import Projector
from recon.preprocess import BadPixels, BeamHardening, Centre, Metal, RingsSorting, RingsWavelet, Step
from recon.reconstructors.base import Measurement, Reconstructor, RunContext
from recon.reconstructors.cgls import CGLS
from recon.reconstructors.fbp.fbp import FBP

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SECTORS, NEIGHBOURS = 16, 11
# Crude spectrum of 120 kV behind aluminium; attenuation in 1/mm of water and iron at 40, 50, 60, 80, 100 keV (NIST
# XCOM, densities 1 and 7.874 g/cm3).
SPECTRUM = np.array([0.15, 0.25, 0.3, 0.2, 0.1])
WATER = np.array([0.02683, 0.02269, 0.02059, 0.01837, 0.01707])
IRON = np.array([3.629, 1.958, 1.205, 0.5952, 0.3717]) * 0.7874
PINS_MM = ((-22.0, 42.0), (22.0, 42.0))
PIN_MM, I0, VIEWS, PIXELS = 6.0, 2e5, 600, 256


def slice_of(data: Scan, grid: Grid, method: Reconstructor) -> np.ndarray:
    """Return the attenuation (y, x) of the only slice."""
    measured = Measurement(torch.from_numpy(data.sinogram), torch.from_numpy(data.weights))
    return method(measured, Projector(data.geometry, grid), RunContext()).numpy()[0]


def show(axis: Axes, image: np.ndarray, title: str, window: tuple[float, float]) -> None:
    axis.imshow(image, vmin=window[0], vmax=window[1], cmap="gray")
    axis.set_title(title, fontsize=9)


def neutron() -> Scan:
    """Return the neutron scan about its axis, lengths in columns."""
    counts = tifffile.imread(real_data("sinograms/sarepy_sinogram_360_neutron_image.tif")).astype(np.float64)
    air = np.median(np.r_[counts[:, :60].ravel(), counts[:, -60:].ravel()])
    lines = -np.log(np.maximum(counts, 1) / air)[:, None].astype(np.float32)
    views, _, columns = lines.shape
    orbit = Parallel(views=views, arc_deg=360, columns=columns, column_mm=1.0, rows=1, row_mm=1.0)
    # The axis is searched where no defect disturbs the search.
    clean = RingsSorting()(Scan(lines, orbit.geometry(), orbit.grid(), np.ones_like(lines)))
    centre = Centre(column=Centre()(clean).provenance["preprocess"][-1]["column"])  # type: ignore[index]
    return centre(Scan(lines, orbit.geometry(), orbit.grid(), np.ones_like(lines)))


def ring_strength(image: np.ndarray) -> float:
    """Return s of the module, in the unit of the image."""
    y, x = np.indices(image.shape) - (np.array(image.shape)[:, None, None] - 1) / 2
    ring = np.hypot(x, y).astype(int)
    sector = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * SECTORS).astype(int) % SECTORS
    last = min(image.shape) // 2 - 1
    inside = ring < last
    place = (ring * SECTORS + sector)[inside]
    count = np.bincount(place, minlength=last * SECTORS)
    mean = np.bincount(place, image[inside], minlength=last * SECTORS) / np.maximum(count, 1)
    # The innermost rings have too few pixels in a sector for a mean.
    mean = mean.reshape(last, SECTORS)[NEIGHBOURS:]
    return float(np.sqrt(np.mean((mean - median_filter(mean, size=(NEIGHBOURS, 1))) ** 2)))


def rings(axes: list[Axes]) -> None:
    """Draw the neutron scan after each step."""
    data = neutron()
    steps: dict[str, list[Step]] = {
        "as measured": [],
        "bad-pixels": [BadPixels()],
        "rings-sorting": [RingsSorting()],
        "rings-wavelet": [RingsWavelet()],
        "bad-pixels, rings-wavelet": [BadPixels(), RingsWavelet()],
    }
    # The last one is a number only.
    for (name, chosen), axis in zip_longest(steps.items(), axes):
        done = data
        for step in chosen:
            done = step(done)
        image = slice_of(done, done.grid, FBP(filter="hann"))
        strength = 1e3 * ring_strength(image)
        print(f"rings, {name}: ring strength {strength:.3f} / 1000 columns")
        if axis is not None:
            show(axis, image[80:430, 80:430], f"{name}\nring strength {strength:.2f}", (-0.003, 0.015))


def chords(geometry: ScanGeometry, centre: np.ndarray, radius: float) -> np.ndarray:
    """Return the path of every ray (view, column) of a fan in a disc."""
    at = np.arange(geometry.shape[1]) - (geometry.shape[1] - 1) / 2
    source, detector, u = (
        array[:, None, :2] for array in (geometry.source_mm, geometry.detector_mm, geometry.u_mm)
    )
    way = detector + at[:, None] * u - source
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    across = source - centre
    distance = way[..., 0] * across[..., 1] - way[..., 1] * across[..., 0]
    return np.asarray(2 * np.sqrt(np.maximum(radius**2 - distance**2, 0)))


def calibration() -> tuple[float, ...]:
    """Return the polynomial that makes the solid disc's line integrals proportional to the path in it."""
    data = read_scan(real_data("sinograms/htc2022/solid_disc_subsample73.mat"))
    lines = data.sinogram[:, 0].astype(np.float64)
    powers = np.stack([lines**k for k in (1, 2, 3)], axis=-1).reshape(-1, 3)

    def fitted(disc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        path = chords(data.geometry, disc[:2], disc[2]).ravel()
        b = np.linalg.lstsq(powers, path, rcond=None)[0]
        return b, powers @ b - path

    # About half the width of the shadow at the axis.
    start = np.array([0.0, 0.0, 35.0])
    disc = least_squares(lambda disc: fitted(disc)[1][::7], start, x_scale=[0.1, 0.1, 0.1]).x
    b, rest = fitted(disc)
    print(f"solid disc: centre {disc[0]:.2f}, {disc[1]:.2f} mm, radius {disc[2]:.2f} mm, ", end="")
    print(f"path known to {np.sqrt(np.mean(rest**2)):.2f} mm; linear alone ", end="")
    path = chords(data.geometry, disc[:2], disc[2]).ravel()
    alone = lines.ravel() * (path @ lines.ravel()) / (lines.ravel() @ lines.ravel()) - path
    print(f"{np.sqrt(np.mean(alone**2)):.2f} mm")
    return tuple(float(value) for value in b / b[0])


def cupping(image: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the cupping, and the median of the material at radii from 0 to 1 of the disc."""
    y, x = np.indices(image.shape)
    disc = gaussian_filter(image, 2) > 0.5 * np.percentile(image, 98)
    rows, columns = np.flatnonzero(disc.any(axis=1)), np.flatnonzero(disc.any(axis=0))
    middle = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    radius = (rows[-1] - rows[0] + columns[-1] - columns[0] + 2) / 4
    away, material = np.hypot(y - middle[0], x - middle[1]) / radius, binary_erosion(disc, iterations=4)
    edges = np.linspace(0, 1, 26)
    held = [material & (away >= low) & (away < high) for low, high in pairwise(edges)]
    profile = np.array([np.median(image[where]) if where.sum() > 60 else np.nan for where in held])
    inner = np.median(image[material & (away < 0.3)])
    outer = np.median(image[material & (away > 0.85) & (away < 0.95)])
    return float(1 - inner / outer), (edges[1:] + edges[:-1]) / 2, profile


def hardening(axes: list[Axes]) -> None:
    """Draw disc tb before and after its polynomial, and both profiles."""
    coefficients = calibration()
    print(f"beam-hardening coefficients: {', '.join(f'{value:.4f}' for value in coefficients)}")
    data = join([read_scan(arc_file(suffix)) for suffix in ARCS.values()])
    scans = {"as measured": data, "beam-hardening": BeamHardening(coefficients=coefficients)(data)}
    step = data.grid.voxel_mm[1] * data.grid.shape[1] / PIXELS
    for axis, (name, scan) in zip(axes, scans.items(), strict=False):
        volume = Grid((1, PIXELS, PIXELS), (data.grid.voxel_mm[0], step, step))
        image = slice_of(scan, volume, CGLS(iterations=20, chi2=0))
        share, radius, profile = cupping(image)
        print(f"disc tb, {name}: cupping {100 * share:.1f} %")
        show(axis, image, f"disc tb, {name}\ncupping {100 * share:.1f} %", (0, 1.5 * np.nanmedian(profile)))
        axes[2].plot(radius, profile / np.nanmean(profile[-4:-1]), label=name)
    axes[2].set(xlabel="distance from the middle / radius", ylim=(0.8, 1.15))
    axes[2].set_title("disc tb: median of the material, 1 at the rim", fontsize=9)
    axes[2].legend(fontsize=8, loc="lower right")


def pinned(tissue: np.ndarray, pins: np.ndarray, grid: Grid) -> Scan:
    """Return the scan of tissue (attenuation of water = 1) and pins (share of steel), linearised for water."""
    radius = grid.radius_mm
    columns = int(np.ceil(2 * radius / grid.voxel_mm[2]))
    orbit = Parallel(
        views=VIEWS, arc_deg=180, columns=columns, column_mm=grid.voxel_mm[2], rows=1, row_mm=1.0
    )
    projector = Projector(orbit.geometry(), grid)
    water, steel = (
        projector(torch.from_numpy(part[None].astype(np.float32))).numpy() for part in (tissue, pins)
    )

    def transmission(water: np.ndarray, steel: np.ndarray | float) -> np.ndarray:
        parts = [s * np.exp(-w * water - i * steel) for s, w, i in zip(SPECTRUM, WATER, IRON, strict=True)]
        return np.asarray(sum(parts))

    counts = np.random.default_rng(0).poisson(I0 * transmission(water, steel)).astype(np.float32)
    path = np.linspace(1, 600, 300)
    y = -np.log(transmission(path, 0.0))
    powers = np.stack([y**k for k in (1, 2, 3)], axis=-1)
    coefficients = np.linalg.lstsq(powers / path[:, None], MU_WATER * path / path, rcond=None)[0]
    data = Scan.from_counts(orbit.geometry(), grid, counts=counts, exposure=Exposure(I0))
    return BeamHardening(coefficients=tuple(float(c) for c in coefficients))(data)


def metal(axes: list[Axes]) -> None:
    """Draw the slice without pins, with pins, and after the step."""
    patient = read_volume(real_data("ct/covidctmd_cap002.zip"))
    values = patient.values[len(patient.values) // 2]
    fine = Grid((1, *values.shape), (1.0, *patient.voxel_mm[1:]))
    tissue = np.maximum(values, -1000) / 1000 + 1
    y, x = fine.coordinates(1)[:, None], fine.coordinates(2)
    pins = sum(np.clip(PIN_MM + 0.5 - np.hypot(x - px, y - py), 0, 1) for px, py in PINS_MM)
    step = fine.voxel_mm[1] * values.shape[0] / PIXELS
    coarse = Grid((1, PIXELS, PIXELS), (1.0, step, step))
    scans = {"without pins": pinned(tissue, 0 * pins, fine), "two steel pins": pinned(tissue, pins, fine)}
    scans["metal"] = Metal(threshold_hu=3500.0)(scans["two steel pins"])
    ramp = FBP(filter="hann")
    images = {name: attenuation_to_hu(slice_of(scan, coarse, ramp)) for name, scan in scans.items()}
    clean = images.pop("without pins")
    away = np.ones(clean.shape, bool)
    cy, cx = coarse.coordinates(1)[:, None], coarse.coordinates(2)
    for px, py in PINS_MM:
        away &= np.hypot(cx - px, cy - py) > PIN_MM + 3
    body = binary_dilation(binary_erosion(clean > -300, iterations=4), iterations=3) & away
    for place, (name, image) in enumerate(images.items()):
        error = float(np.sqrt(np.mean((image - clean)[body] ** 2)))
        print(f"pins, {name}: {error:.0f} HU rms")
        show(axes[2 * place], image, f"{name}\nerror {error:.0f} HU", (-400, 600))
        show(axes[2 * place + 1], image - clean, f"{name}\ndifference, -300 to 300 HU", (-300, 300))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    figure = plt.figure(figsize=(10, 8))
    grid = figure.add_gridspec(3, 4, left=0.01, right=0.99, top=0.95, bottom=0.06, wspace=0.04, hspace=0.2)
    images = [
        [figure.add_subplot(grid[row, column]) for column in range(2 if row == 2 else 4)] for row in range(3)
    ]
    rings(images[0])
    metal(images[1])
    hardening([*images[2], figure.add_axes((0.57, 0.06, 0.41, 0.25))])
    for axis in (axis for row in images for axis in row):
        axis.set_axis_off()
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    main()
