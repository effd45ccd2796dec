"""The scan file (HDF5), described for users in docs/formats/scans.md.

It stores either ``counts`` with the exposure, from which sinogram and weights follow, or ``sinogram`` with
``weights``; never both, so that they cannot contradict each other.
"""

import io
import json
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_array
from priors.runtime.files.writing import atomic
from recon.data.noise import Exposure
from recon.data.scan import Scan, check_shape, check_slices
from recon.geometry.grid import Grid
from recon.geometry.scan import Beam, Detector, ScanGeometry
from recon.io.scans.format import ScanFormat, ScanOptions, hdf5_bytes, hdf5_holds
from recon.io.scans.rows.parts import Part, part_of

KIND = "tomocast-scan"
VERSION = 1
_POSES = ("source_mm", "detector_mm", "u_mm", "v_mm")


def write_scan(path: Path, data: Scan) -> None:
    """Write ``data`` to ``path`` (.h5).

    Raises:
        InputError: the file cannot be written.
    """
    # Built in memory: HDF5 crashes the interpreter when the disk fills up under an open file.
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs.update(format=KIND, version=VERSION, unit=data.unit, mu_water_per_mm=data.mu_water)
        file.attrs["provenance"] = json.dumps(dict(data.provenance), sort_keys=True)
        file.create_dataset("frame", data=data.frame)
        geometry = file.create_group("geometry")
        geometry.attrs.update(beam=data.geometry.beam, detector=data.geometry.detector)
        geometry.attrs["detector_shape"] = data.geometry.shape
        for name in _POSES:
            geometry.create_dataset(name, data=getattr(data.geometry, name))
        volume = file.create_group("volume")
        volume.attrs.update(shape=data.grid.shape, voxel_mm=data.grid.voxel_mm, centre_mm=data.grid.centre_mm)
        if data.counts is not None and data.exposure is not None:
            counts = _write_array(file, "counts", data.counts)
            counts.attrs.update(
                i0=data.exposure.i0,
                background=data.exposure.background,
                electronic_sd=data.exposure.electronic_sd,
            )
        else:
            _write_array(file, "sinogram", data.sinogram)
            _write_array(file, "weights", data.weights)
    with atomic(Path(path)) as temporary:
        temporary.write_bytes(memory.getbuffer())


def read_scan_file(path: Path, options: ScanOptions = ScanOptions()) -> Scan:  # noqa: B008 (frozen)
    """Return the scan stored in ``path``, or the detector rows of it that the options pick, and only these are read.

    Raises:
        InputError: a later version, something missing, or values that no scan has.
    """
    try:
        with h5py.File(path, "r") as file:
            version = file.attrs.get("version")
            if version != VERSION:
                raise InputError(f"version: found {version}, expected {VERSION}")
            return _read(file, options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        # HDF5 reports damage with errors of many kinds.
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{path}: incomplete or damaged scan file ({reason})") from error


def _write_array(file: h5py.File, name: str, array: np.ndarray) -> h5py.Dataset:
    return file.create_dataset(name, data=array, compression="gzip", compression_opts=4, shuffle=True)


def _read(file: h5py.File, options: ScanOptions) -> Scan:
    unit = str(file.attrs["unit"])
    if unit not in ("HU", "1/mm"):
        raise InputError(f"unit: found {unit!r}, expected HU or 1/mm")
    group = file["geometry"]
    rows, columns = (int(n) for n in group.attrs["detector_shape"])
    beam, detector = str(group.attrs["beam"]), str(group.attrs["detector"])
    poses = {name: np.asarray(_dataset(group, name), np.float64) for name in _POSES}
    # Scan checks the two names, which are free text here.
    scan = ScanGeometry(
        beam=cast(Beam, beam), detector=cast(Detector, detector), shape=(rows, columns), **poses
    )
    grid = _volume(file["volume"])
    check_slices(scan, grid)
    part = part_of(options, (scan.views, rows, columns), crossed=None if scan.sliced else beam)
    data = _measured(file, scan, grid, part)
    frame = np.asarray(_dataset(file, "frame"), np.float64)
    if frame.shape != (4, 4):
        raise InputError(f"frame: found shape {frame.shape}, expected (4, 4)")
    rest: dict[str, Any] = {"mu_water": float(file.attrs["mu_water_per_mm"]), "unit": unit, "frame": frame}
    provenance = json.loads(file.attrs["provenance"])
    return Scan(
        data.sinogram,
        data.geometry,
        data.grid,
        data.weights,
        data.counts,
        data.exposure,
        provenance=provenance,
        whole=part.whole(scan, grid),
        partial=part.partial,
        **rest,
    )


def _measured(file: h5py.File, geometry: ScanGeometry, grid: Grid, part: Part) -> Scan:
    seen, slices = geometry, grid
    if part.partial:
        seen, slices = geometry.rows(part.low, part.high), grid.slices(part.low, part.high)
    if "counts" in file:
        counts = _array(file, "counts", geometry, part)
        attrs = file["counts"].attrs
        exposure = Exposure(float(attrs["i0"]), float(attrs["background"]), float(attrs["electronic_sd"]))
        return Scan.from_counts(seen, slices, counts=counts, exposure=exposure, partial=part.partial)
    sinogram, weights = (_array(file, name, geometry, part) for name in ("sinogram", "weights"))
    return Scan(sinogram, seen, slices, weights, partial=part.partial)


def _volume(group: h5py.Group) -> Grid:
    z, y, x = (int(n) for n in group.attrs["shape"])
    dz, dy, dx = (float(n) for n in group.attrs["voxel_mm"])
    cz, cy, cx = (float(n) for n in group.attrs["centre_mm"])
    return Grid((z, y, x), (dz, dy, dx), (cz, cy, cx))


def _array(file: h5py.File, name: str, geometry: ScanGeometry, part: Part) -> np.ndarray:
    """Return the rows of a measurement that are read."""
    stored = _stored(file, name)
    if stored.ndim != 3:
        raise InputError(f"{name}: found shape {stored.shape}, expected (view, row, column)")
    check_shape(stored.shape, geometry, name)
    views, _, columns = stored.shape
    check_array(f"/{name}", (views, part.high - part.low, columns), stored.dtype)
    return np.asarray(stored[:, part.read], np.float32)


def _dataset(group: h5py.Group, name: str) -> np.ndarray:
    stored = _stored(group, name)
    check_array(f"{group.name.rstrip('/')}/{name}", stored.shape or (), stored.dtype)
    return np.asarray(stored[()])


def _stored(group: h5py.Group, name: str) -> h5py.Dataset:
    stored = group.get(name)
    if not isinstance(stored, h5py.Dataset):
        raise InputError(f"{group.name.rstrip('/')}/{name}: is missing")
    return stored


def _claims(path: Path, head: bytes) -> bool:
    return hdf5_holds(path, head, lambda file: file.attrs.get("format") == KIND)


FORMAT = ScanFormat(
    "a tomocast scan (.h5)",
    _claims,
    read_scan_file,
    read_scan_file,
    hdf5_bytes("counts", "sinogram", "weights"),
)
