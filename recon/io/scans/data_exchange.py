"""HDF5 Data Exchange: parallel-beam radiographs of a synchrotron.

``exchange/data`` (view, row, column), ``data_white`` and ``data_dark`` (frame, row, column), ``theta`` in degrees
unless its ``units`` say otherwise. The size of a pixel on the sample, in this order:
``measurement/instrument/detector`` ``actual_pixel_size_x`` (and ``_y``),
``measurement/instrument/detection_system/objective/resolution`` (microns, APS), then the camera's ``pixel_size_x``
or ``x_pixel_size`` divided by ``objective/magnification`` where that is recorded; metres unless ``units`` say
otherwise. A size that no pixel has is reported and not used: lengths are then in pixels of 1 mm. The rotation axis is
not recorded: it is found (``recon.preprocess.centre_search``). Source: De Carlo et al., "Scientific data exchange",
J. Synchrotron Rad. 21 (2014); dxfile.readthedocs.io, xraytomo.
"""

from pathlib import Path

import h5py
import numpy as np

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.io.scans.format import ScanFormat, ScanOptions, hdf5_bytes, hdf5_holds
from recon.io.scans.hdf5_access import Hdf5, opened, warn_of_binning
from recon.io.scans.parallel import Frames, Turn, frames_of, scan_of
from recon.io.spelling import text_of

_DETECTOR = "measurement/instrument/detector"
_OBJECTIVE = "measurement/instrument/detection_system/objective"


def read_data_exchange(path: Path, options: ScanOptions = ScanOptions()) -> Scan:  # noqa: B008 (frozen)
    """Return the scan in ``path``; reconstructions are in 1/mm on columns x columns pixels per detector row.

    Raises:
        InputError: data, white or dark fields or angles are missing, of wrong shape, or not what they should be.
    """
    with opened(path) as file:
        data, dark, white = (_frames(file, name) for name in ("data", "data_dark", "data_white"))
        for name, field in (("dark", dark), ("flat", white)):
            if field.shape[-2:] != data.shape[-2:]:
                wanted = f"{field.shape[-2:]} rows and columns, expected those of the data, {data.shape[-2:]}"
                raise InputError(f"{name} field: found {wanted}")
        if data.ndim != 3:
            raise InputError(f"exchange/data: found shape {data.shape}, expected (view, row, column)")
        angles = file.angles_deg(file.root, "exchange/theta")
        if len(angles) != len(data):
            raise InputError(
                f"exchange/theta: found {len(angles)} angles, expected {len(data)}, one per view of the data"
            )
        _others(file)
        views, rows, columns = data.shape
        turn = Turn(
            (views, rows, columns),
            lambda start, stop, some: np.asarray(data[start:stop, some]),
            _field(dark),
            _field(white),
            angles,
            _pixel_mm(file),
            kind="HDF5 Data Exchange",
            warnings=file.warnings,
        )
        return scan_of(turn, options)


def _frames(file: Hdf5, name: str) -> h5py.Dataset:
    dataset = file.dataset(file.root, f"exchange/{name}")
    if dataset is None or dataset.shape is None:
        raise InputError(f"exchange/{name}: is missing")
    if dataset.ndim not in (2, 3) or 0 in dataset.shape:
        raise InputError(
            f"exchange/{name}: found shape {dataset.shape}, expected (view or frame, row, column)"
        )
    axes = text_of(dataset.attrs.get("axes", "")).replace(" ", "")
    if dataset.ndim == 3 and axes and axes.split(":")[1:] != ["y", "x"]:
        raise InputError(f"exchange/{name}: axes: found {axes[:40]!r}, expected theta:y:x")
    return dataset


def _field(dataset: h5py.Dataset) -> Frames:
    """Return a reader of the frames of a field; one frame may be stored without an axis of frames."""
    if dataset.ndim == 2:
        return lambda rows: np.asarray(dataset[rows])[None]
    return frames_of(lambda frames, rows: np.asarray(dataset[frames, rows]), np.arange(len(dataset)))


def _pixel_mm(file: Hdf5) -> tuple[float, float] | None:
    """Return height and width of a pixel on the sample."""
    root = file.root
    width = file.pixel_mm(root, f"{_DETECTOR}/actual_pixel_size_x", "m")
    if width is not None:
        return file.pixel_mm(root, f"{_DETECTOR}/actual_pixel_size_y", "m") or width, width
    width = file.pixel_mm(root, f"{_OBJECTIVE}/resolution", "micron")
    if width is not None:
        return width, width
    for x, y in (
        ("pixel_size_x", "pixel_size_y"),
        ("x_pixel_size", "y_pixel_size"),
        ("pixel_size", "pixel_size"),
    ):
        width = file.pixel_mm(root, f"{_DETECTOR}/{x}", "m")
        if width is None:
            continue
        height = file.pixel_mm(root, f"{_DETECTOR}/{y}", "m") or width
        enlarged = file.numbers(root, f"{_OBJECTIVE}/magnification")
        if enlarged is not None and len(enlarged) == 1 and 0.01 < enlarged[0] < 1000:
            if enlarged[0] != 1:
                file.warnings.append(
                    f"{x} is the camera's: divided by the objective's magnification {enlarged[0]:g}"
                )
            return height / float(enlarged[0]), width / float(enlarged[0])
        warn_of_binning(file, root, f"{_DETECTOR}/")
        return height, width
    return None


def _others(file: Hdf5) -> None:
    """Say what else the file holds that is not read."""
    others = sorted(
        str(name) for name in file.root if str(name).startswith("exchange") and name != "exchange"
    )
    if others:
        file.warnings.append(f"passed over {', '.join(others)[:80]}: only exchange is read")
    group = file.root["exchange"]
    frames = sorted(
        str(name)
        for name in group
        if name not in ("data", "data_dark", "data_white")
        and getattr(file.dataset(file.root, f"exchange/{name}"), "ndim", 0) >= 2
    )
    if frames:
        file.warnings.append(
            f"passed over {', '.join(frames)[:80]} of exchange: only data, data_white and data_dark are read"
        )


def _claims(path: Path, head: bytes) -> bool:
    return hdf5_holds(path, head, lambda file: isinstance(file.get("exchange"), h5py.Group))


FORMAT = ScanFormat(
    "HDF5 Data Exchange (.h5)", _claims, read_data_exchange, read_data_exchange, hdf5_bytes("exchange/data")
)
