"""HDF5 Data Exchange: parallel-beam radiographs of a synchrotron.

``exchange/data`` (view, row, column), ``data_white`` and ``data_dark`` (frame, row, column), ``theta`` in
degrees; the pixel size, where recorded, in ``measurement/instrument/detector/x_pixel_size`` (micrometres
unless its ``units`` say otherwise). The rotation axis is not recorded: it is found (see
``recon.preprocess.centre_search``). Where the pixel size is not recorded it is taken
as 1 mm and the provenance says so: attenuation is then per
pixel.
Source: De Carlo et al., "Scientific data exchange", J. Synchrotron Rad. 21 (2014); docs at
dxfile.readthedocs.io.
"""

from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.io.scans.format import ScanFormat, hdf5_holds
from recon.preprocess.centre_search import find_centre
from recon.preprocess.radiographs import LineIntegrals, flat_correct

_METRES = {
    "m": 1e3,
    "meter": 1e3,
    "mm": 1.0,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "µm": 1e-3,
    "nm": 1e-6,
}
_PIXEL = "measurement/instrument/detector/x_pixel_size"


def read_data_exchange(path: Path) -> Scan:
    """Return the scan in ``path``; reconstructions are in 1/mm on columns x columns pixels per detector row.

    Raises:
        InputError: data, white or dark fields or angles are missing, of wrong shape, or not what they should
            be.
    """
    try:
        with h5py.File(path, "r") as file:
            lines = flat_correct(*(_frames(file, name) for name in ("data", "data_dark", "data_white")))
            angles = _angles(file, len(lines.sinogram))
            pixel_mm = size_mm(file, _PIXEL, "micron")
            return parallel_data(lines, angles, pixel_mm, "HDF5 Data Exchange")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        # HDF5 reports damage with errors of many kinds.
        raise InputError(f"{path}: is a damaged or truncated HDF5 file ({type(error).__name__})") from error


def parallel_scan(
    angles_deg: Float64[np.ndarray, " v"], shape: tuple[int, int], pixel_mm: float, centre: float
) -> Parallel:
    """Return the orbit whose rotation axis falls on column ``centre`` of a detector of ``shape`` (rows,
    columns)."""
    rows, columns = shape
    return Parallel(
        angles_deg=tuple(float(a) for a in angles_deg),
        columns=columns,
        column_mm=pixel_mm,
        rows=rows,
        row_mm=pixel_mm,
        offset_columns=(columns - 1) / 2 - centre,
    )


def parallel_data(
    lines: LineIntegrals, angles: Float64[np.ndarray, " v"], pixel_mm: float | None, kind: str
) -> Scan:
    """Return the scan of a half or full turn of parallel views, with its centre of rotation found.

    Args:
        lines: corrected radiographs.
        angles: degrees.
        pixel_mm: size of a square pixel, None where it is not recorded.
        kind: name of the file format.

    Raises:
        InputError: no two views face each other, or the values are not those of a scan.
    """
    rows, columns = lines.sinogram.shape[1:]
    # The row with the most contrast shows its centre best.
    busiest = int(np.argmax(lines.sinogram.std(axis=(0, 2))))
    centre = find_centre(lines.sinogram[:, busiest], angles)
    size = pixel_mm or 1.0
    return Scan(
        lines.sinogram,
        parallel_scan(angles, (rows, columns), size, centre).geometry(),
        Grid((rows, columns, columns), (size, size, size)),
        lines.weights,
        unit="1/mm",
        provenance={
            "kind": "measured",
            "format": kind,
            "centre_column": round(centre, 3),
            "pixel_mm": size if pixel_mm else "not recorded, taken as 1",
        },
    )


def _frames(file: h5py.File, name: str) -> np.ndarray:
    found = file.get(f"exchange/{name}")
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"exchange/{name}: is missing")
    if found.ndim != 3:
        raise InputError(f"exchange/{name}: found shape {found.shape}, expected (view or frame, row, column)")
    return np.asarray(found[()], np.float64)


def _angles(file: h5py.File, views: int) -> Float64[np.ndarray, " v"]:
    found = file.get("exchange/theta")
    if not isinstance(found, h5py.Dataset):
        raise InputError("exchange/theta: is missing, expected one angle in degrees per view")
    angles = np.asarray(found[()], np.float64).ravel()
    if len(angles) != views:
        raise InputError(
            f"exchange/theta: found {len(angles)} angles, expected {views}, one per view of the data"
        )
    units = text_of(found.attrs.get("units", "degrees"))
    if units.lower().startswith("rad"):
        return np.rad2deg(angles)
    return angles


def size_mm(group: h5py.Group, name: str, usual: str) -> float | None:
    """Return a recorded length in mm, None where there is none.

    Raises:
        InputError: its unit is not one of length, or it is not a positive number.
    """
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        return None
    units = text_of(found.attrs.get("units", usual))
    if units not in _METRES:
        raise InputError(f"{name}: units: found {units!r}, expected one of {', '.join(_METRES)}")
    value = np.asarray(found[()], np.float64).ravel()
    if len(value) != 1 or not (np.isfinite(value[0]) and value[0] > 0):
        raise InputError(f"{name}: found {value[:4].tolist()}, expected one positive length")
    return float(value[0]) * _METRES[units]


def text_of(attribute: object) -> str:
    """Return an attribute that HDF5 may hold as bytes or as text."""
    return attribute.decode("utf-8", "replace") if isinstance(attribute, bytes) else str(attribute)


def _claims(path: Path, head: bytes) -> bool:
    return hdf5_holds(path, head, lambda file: isinstance(file.get("exchange"), h5py.Group))


FORMAT = ScanFormat("HDF5 Data Exchange (.h5)", _claims, read_data_exchange)
