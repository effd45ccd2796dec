"""Phantoms and simulated scans, in memory and to files."""

import sys
from pathlib import Path

import numpy as np

from priors.runtime.errors import InputError
from priors.runtime.files.protect import check_output
from recon.data.scan import Scan
from recon.data.volume import Volume
from recon.io.scans.registry import write_scan
from recon.io.volumes.registry import ReadOptions, read_volume, write_nifti
from recon.run.checks.nonsense import check_size
from recon.run.settings import PhantomSettings, SimulateSettings, parse_span
from recon.simulate.phantom.thorax import thorax
from recon.simulate.scan import simulate as simulate_scan


def simulate(volume: Path, settings: SimulateSettings, out: Path, *, series: str | None = None) -> None:
    """Simulate a scan of the volume in a file and write it to ``out``.

    Raises:
        InputError: the volume cannot be read or scanned, or the scan cannot be written.
    """
    check_output(out, [volume])
    read = read_volume(volume, ReadOptions(series))
    check_size(read.grid, str(volume))
    scan = scan_of(read, settings)
    write_scan(out, scan)
    views, (rows, columns) = scan.geometry.views, scan.geometry.shape
    z, y, x = scan.grid.shape
    print(f"{out}: {views} views of {rows} x {columns} for a grid of {z} x {y} x {x}", file=sys.stderr)


def scan_of(volume: Volume, settings: SimulateSettings) -> Scan:
    """Return the simulated scan of a volume, or of the slices that the settings name.

    Raises:
        InputError: the volume is not finite, the orbit cannot see it, or a range holds nothing.
    """
    if settings.slices is not None:
        volume = crop(volume, settings.slices)
    return simulate_scan(
        volume, settings.orbit, i0=settings.exposure(), grid=settings.grid, seed=settings.seed
    )


def phantom(settings: PhantomSettings, out: Path) -> None:
    """Write a procedural thorax to ``out``.

    Raises:
        InputError: it cannot be written.
    """
    write_nifti(out, phantom_volume(settings))
    print(f"{out}: {settings.slices} x {settings.grid} x {settings.grid} voxels", file=sys.stderr)


def phantom_volume(settings: PhantomSettings) -> Volume:
    """Return a procedural thorax in HU: x to the patient's left, y to the back, z to the head."""
    voxel_mm = (settings.slice_mm, settings.pixel_mm, settings.pixel_mm)
    values = thorax(settings.seed, shape=(settings.slices, settings.grid, settings.grid), voxel_mm=voxel_mm)
    return Volume(values, np.diag([-settings.pixel_mm, -settings.pixel_mm, settings.slice_mm, 1.0]), "HU")


def crop(volume: Volume, span: str) -> Volume:
    """Return neighbouring slices of a volume, where they were in space.

    Raises:
        InputError: the range holds no slice, or skips some.
    """
    kept = parse_span(span, volume.values.shape[0], "slices")
    if kept.step != 1:
        raise InputError(f"slices: found '{span}', expected neighbours: START:STOP")
    affine = volume.affine.copy()
    affine[:3, 3] += kept.start * affine[:3, 2]
    return Volume(volume.values[kept.start : kept.stop], affine, volume.unit)
