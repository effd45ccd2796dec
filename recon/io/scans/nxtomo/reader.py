"""NeXus NXtomo: parallel-beam radiographs, their fields among them, told apart by ``image_key``.

``instrument/detector/data`` (frame, row, column) and ``image_key`` (0 radiograph, 1 flat, 2 dark, 3 not to be used;
frames of ``image_key_control`` -1 are alignment, not to be used), ``sample/rotation_angle`` per frame in degrees
unless its ``units`` say otherwise. Pixel sizes on the sample: ``sample/x_pixel_size``, the detector's
``x_magnified_pixel_size`` or ``x_pixel_size`` (and y), in metres unless ``units`` say otherwise. The rotation axis:
``x_rotation_axis_pixel_position`` or ``estimated_cor_from_motor``, columns from the middle; searched where neither
is recorded, and told where the data contradict it. A detector turned by 180 degrees (``transformations``, else
``x_flipped`` and ``y_flipped``) is turned back. Told and not used: a beam monitor that varies, a sample that moves,
other transformations. Sources: https://manual.nexusformat.org/classes/applications/NXtomo.html; nxtomo 3 (ESRF) for
what is beyond it.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.io.scans.format import ScanFormat, ScanOptions, hdf5_bytes, hdf5_holds
from recon.io.scans.hdf5_access import Hdf5, opened, warn_of_binning
from recon.io.scans.nxtomo.flips import flips
from recon.io.scans.parallel import Turn, frames_of, scan_of

_RADIOGRAPH, _FLAT, _DARK, _ALIGNMENT = 0, 1, 2, -1
_AXIS = ("x_rotation_axis_pixel_position", "estimated_cor_from_motor")


def read_nxtomo(path: Path, options: ScanOptions = ScanOptions()) -> Scan:  # noqa: B008 (frozen)
    """Return the scan of the one NXtomo entry in ``path``; reconstructions are in 1/mm.

    Raises:
        InputError: none or several entries, something missing, or frames that are not what they should be.
    """
    with opened(path) as file:
        return scan_of(_turn(file, _entry(file)), options)


def _turn(file: Hdf5, entry: h5py.Group) -> Turn:
    detector = entry["instrument/detector"]
    data = file.needed(detector, "data")
    if data.ndim != 3 or 0 in data.shape:
        raise InputError(f"instrument/detector/data: found shape {data.shape}, expected (frame, row, column)")
    degrees, keys = file.angles_deg(entry, "sample/rotation_angle"), _keys(file, detector, len(data))
    if not len(keys) == len(degrees) == len(data):
        found = f"{len(data)} frames, {len(keys)} image keys and {len(degrees)} angles"
        raise InputError(f"found {found}, expected as many of each")
    index = {key: np.flatnonzero(keys == key) for key in (_RADIOGRAPH, _DARK, _FLAT)}
    for name, key in (
        ("radiographs (0)", _RADIOGRAPH),
        ("dark fields (2)", _DARK),
        ("flat fields (1)", _FLAT),
    ):
        if not len(index[key]):
            raise InputError(f"image_key: found no {name}, expected some")
    mirrored, upside_down = flips(file, detector)
    _, rows, columns = data.shape

    def stored(which: np.ndarray | slice, some: slice) -> np.ndarray:
        first, stop, step = some.indices(rows)
        if upside_down:
            picked = np.arange(first, stop, step)
            values = np.asarray(data[which, rows - 1 - picked[-1] : rows - picked[0] : step])[:, ::-1]
        else:
            values = np.asarray(data[which, first:stop:step])
        return values[:, :, ::-1] if mirrored else values

    views = index[_RADIOGRAPH]
    _warn_of_variations(file, entry, views)
    _exposures(file, detector, index)
    warn_of_binning(file, detector, "")
    return Turn(
        (len(views), rows, columns),
        lambda start, end, some: frames_of(stored, views[start:end])(some),
        frames_of(stored, index[_DARK]),
        frames_of(stored, index[_FLAT]),
        degrees[views],
        _pixel_mm(file, entry, detector),
        _axis(file, detector, columns, mirrored),
        "NeXus NXtomo",
        file.warnings,
    )


def _keys(file: Hdf5, detector: h5py.Group, frames: int) -> np.ndarray:
    """Return the image key of every frame, alignment frames as such."""
    keys = file.numbers(detector, "image_key")
    control = file.numbers(detector, "image_key_control")
    if keys is None:
        keys = control
    if keys is None:
        raise InputError("image_key: is missing or holds text, expected one number per frame")
    if control is not None and len(control) == len(keys):
        keys = np.where(control == _ALIGNMENT, _ALIGNMENT, keys)
    aside = int((keys == _ALIGNMENT).sum())
    if aside:
        file.warnings.append(f"passed over {aside} alignment frames (image_key_control -1)")
    strange = int((~np.isin(keys, (-1, 0, 1, 2, 3))).sum())
    if strange:
        file.warnings.append(f"passed over {strange} of {frames} frames with an image_key other than -1 to 3")
    return keys


def _axis(file: Hdf5, detector: h5py.Group, columns: int, mirrored: bool) -> tuple[float, ...]:
    """Return the recorded axis; of a mirrored detector both readings, between which the data decide."""
    for name in _AXIS:
        numbers = file.numbers(detector, name)
        if numbers is not None and len(numbers) == 1 and np.isfinite(numbers[0]):
            column = (columns - 1) / 2 + float(numbers[0])
            if not -columns <= column <= 2 * columns:
                file.warnings.append(
                    f"{name}: found {numbers[0]:g}, far outside the detector; it is not used"
                )
                continue
            return (column, columns - 1 - column) if mirrored else (column,)
    return ()


def _pixel_mm(file: Hdf5, entry: h5py.Group, detector: h5py.Group) -> tuple[float, float] | None:
    """Return height and width of a pixel on the sample."""
    for group, x, y in (
        (entry, "sample/x_pixel_size", "sample/y_pixel_size"),
        (detector, "x_magnified_pixel_size", "y_magnified_pixel_size"),
        (detector, "x_pixel_size", "y_pixel_size"),
    ):
        width = file.pixel_mm(group, x, "m")
        if width is None:
            continue
        height = file.pixel_mm(group, y, "m") or width
        enlarged = file.numbers(detector, "magnification")
        if x == "x_pixel_size" and enlarged is not None and (enlarged != 1).any():
            file.warnings.append(f"magnification {enlarged[0]:g} is not used: {x} is taken as on the sample")
        return height, width
    return None


def _warn_of_variations(file: Hdf5, entry: h5py.Group, views: np.ndarray) -> None:
    """Say what varies from view to view and is not used."""
    monitor = file.numbers(entry, "control/data")
    if monitor is not None and len(monitor) > views.max():
        seen = monitor[views]
        if np.isfinite(seen).all() and abs(seen).max() > 0 and np.ptp(seen) > 0.01 * abs(seen).max():
            share = 100 * np.ptp(seen) / abs(seen).max()
            file.warnings.append(f"the beam monitor (control/data) varies by {share:.0f} % and is not used")
    for axis in "xyz":
        name = f"sample/{axis}_translation"
        if not _constant(file, entry, name):
            file.warnings.append(f"{name} varies from view to view: the sample is taken to stand still")


def _exposures(file: Hdf5, detector: h5py.Group, index: Mapping[int, np.ndarray]) -> None:
    """Say where radiographs and flat fields were exposed for different times."""
    times = file.numbers(detector, "count_time")
    if times is None or len(times) <= max(int(part.max(initial=-1)) for part in index.values()):
        return
    seen, open_ = (float(np.median(times[index[key]])) for key in (_RADIOGRAPH, _FLAT))
    if seen > 0 and open_ > 0 and abs(seen / open_ - 1) > 0.01:
        file.warnings.append(
            f"count_time of radiographs is {seen:g}, of flat fields {open_:g}: it is not used, and line integrals are "
            f"{np.log(seen / open_):+.3g} off unless the camera divides by it"
        )
    if not _constant_numbers(times[index[_RADIOGRAPH]]):
        file.warnings.append("count_time varies from view to view and is not used")


def _constant(file: Hdf5, entry: h5py.Group, name: str) -> bool:
    numbers = file.numbers(entry, name)
    return numbers is None or not len(numbers) or _constant_numbers(numbers)


def _constant_numbers(numbers: np.ndarray) -> bool:
    return float(np.ptp(numbers)) <= 1e-6 + 1e-6 * float(abs(numbers).max())


def _entry(file: Hdf5) -> h5py.Group:
    entries = _entries(file.root)
    if len(entries) != 1:
        names = ", ".join(group.name for group in entries) or "none"
        raise InputError(f"found the NXtomo entries {names}, expected one")
    return entries[0]


def _entries(file: h5py.File) -> list[h5py.Group]:
    """Return the groups that say they are NXtomo, or hold what one holds, at most two levels down."""
    groups = _members(file)
    groups += [inner for group in groups for inner in _members(group)]
    return [
        group
        for group in groups
        if ("instrument/detector/image_key" in group or "instrument/detector/image_key_control" in group)
        and "sample" in group
    ]


def _members(group: h5py.Group) -> list[h5py.Group]:
    # A link to nothing raises where values() is asked for all of them.
    members = (group.get(name) for name in group)
    return [member for member in members if isinstance(member, h5py.Group)]


def _claims(path: Path, head: bytes) -> bool:
    return hdf5_holds(path, head, lambda file: bool(_entries(file)))


FORMAT = ScanFormat(
    "NeXus NXtomo (.nx, .h5)", _claims, read_nxtomo, read_nxtomo, hdf5_bytes("instrument/detector/data")
)
