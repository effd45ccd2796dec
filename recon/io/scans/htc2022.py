"""Fan-beam sinograms of the Helsinki Tomography Challenge 2022 (MATLAB 5 and 7.3 files).

``CtDataLimited`` or ``CtDataFull`` holds ``sinogram`` (view, column), line integrals, and ``parameters``:
angles in degrees, distances and pixel size in mm. The file's angle a is that of ASTRA's ``fanflat`` on an
image whose row 0 is at the top (+y). Our row 0 is at -y, so it is our fan at angle -a with the columns as
stored, and a reconstruction equals the challenge's image array.

Our angle 180 - a with reversed columns agrees with this for parallel rays but opens the fan the wrong way
round. Opposite rays decide: with fan angle g the ray (a, g) comes back as (a + 180 - 2 g, -g). In the joined
arcs of disc tb such pairs differ by 0.015 rms (of values up to 1.9), with the wrong opening by 0.11; TV of
the joined arcs leaves chi2 2.5 per ray, or 55. Of the eight rotations and reflections of the published image
of the solid disc the one above also fits its scan best: relative residual 0.0294, the next 0.0341.

No shift of the detector is applied. Opposite rays of tb agree best with 0.2 columns (0.012, chi2 2.0), the
published disc with 0.5; a third of a pixel in the centre of that image would make up the difference.
Source: Meaney, Silva de Moura, Siltanen, doi:10.5281/zenodo.6984868.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from jaxtyping import Float32, Float64

from priors.runtime.errors import InputError
from recon.data.noise import estimate_i0, weights_without_counts
from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import FanFlat
from recon.io.scans.format import ScanFormat, hdf5_holds

PIXELS = 512
_STRUCTS = ("CtDataLimited", "CtDataFull")
_KEYS = {
    "sod": "distanceSourceOrigin",
    "sdd": "distanceSourceDetector",
    "column": "pixelSizePost",
    "pixel": "effectivePixelSizePost",
    "columns": "numDetectorsPost",
}


def read_htc2022(path: Path) -> Scan:
    """Return the scan in ``path``; reconstructions are in 1/mm on 512 x 512 x 1 effective pixels.

    Raises:
        InputError: the file is damaged, lacks a field, or its sinogram does not fit its angles and columns.
    """
    sinogram, angles, figures = _read(path)
    columns = round(figures["columns"])
    expected = (len(angles), columns)
    if sinogram.shape != expected:
        swapped = "; are its axes swapped?" if sinogram.shape == expected[::-1] else ""
        raise InputError(f"{path}: sinogram: found shape {sinogram.shape}, expected {expected}{swapped}")
    if not np.isfinite(sinogram).all():
        raise InputError(f"{path}: sinogram: holds NaN or infinite values, expected line integrals")
    try:
        scan = FanFlat(
            angles_deg=tuple(-float(a) for a in angles),
            sod_mm=figures["sod"],
            sdd_mm=figures["sdd"],
            columns=columns,
            column_mm=figures["column"],
            rows=1,
            row_mm=figures["pixel"],
        ).geometry()
    except (InputError, ValueError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from error
    measured = np.ascontiguousarray(sinogram[:, None, :], dtype=np.float32)
    i0 = estimate_i0(measured)
    return Scan(
        measured,
        scan,
        Grid((1, PIXELS, PIXELS), (figures["pixel"],) * 3),
        weights_without_counts(measured, i0),
        unit="1/mm",
        provenance={"kind": "measured", "format": "HTC 2022", "photons_estimated_from_noise": round(i0)},
    )


def _read(path: Path) -> tuple[Float32[np.ndarray, "_ _"], Float64[np.ndarray, " _"], dict[str, float]]:
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                content = _plain(file[next(name for name in _STRUCTS if name in file)])
        else:
            loaded = scipy.io.loadmat(path, simplify_cells=True)
            content = loaded[next(name for name in _STRUCTS if name in loaded)]
        parameters = content["parameters"]
        angles = np.asarray(parameters["angles"], np.float64).ravel()
        figures = {name: float(np.asarray(parameters[key]).item()) for name, key in _KEYS.items()}
        return np.asarray(content["sinogram"], np.float32), angles, figures
    except StopIteration as error:
        raise InputError(f"{path}: found no {' or '.join(_STRUCTS)}, expected a HTC 2022 file") from error
    except KeyError as error:
        raise InputError(f"{path}: field {error} is missing, expected a HTC 2022 file") from error
    except Exception as error:
        # scipy and h5py fail on damaged files with many kinds of errors (zlib, struct, Value, OS, ...).
        raise InputError(f"{path}: is a damaged or truncated MATLAB file ({type(error).__name__})") from error


def _plain(group: h5py.Group) -> dict[str, Any]:
    """Return a MATLAB 7.3 struct; its arrays are stored with reversed axes."""
    return {
        name: _plain(member) if isinstance(member, h5py.Group) else np.asarray(member[()]).T
        for name, member in group.items()
    }


def _claims(path: Path, head: bytes) -> bool:
    if head.startswith(b"MATLAB 5.0"):
        return True
    return hdf5_holds(path, head, lambda file: any(name in file for name in _STRUCTS))


FORMAT = ScanFormat("HTC 2022 (.mat)", _claims, read_htc2022)
