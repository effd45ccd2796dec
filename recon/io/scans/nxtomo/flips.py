"""Whether the detector of an NXtomo file is mirrored: by its transformations (NXtransformations), else by two flags.

nxtomo writes a mirrored camera as a rotation of the detector by 180 degrees, about y for left and right, about x
for up and down; about z it is both. Other angles and translations are reported and not used.
"""

import h5py
import numpy as np

from recon.io.scans.hdf5_access import Hdf5
from recon.io.spelling import degrees, text_of


def flips(file: Hdf5, detector: h5py.Group) -> tuple[bool, bool]:
    """Return whether left and right, and whether up and down, are exchanged."""
    flags = tuple(_flag(file, detector, name) for name in ("x_flipped", "y_flipped"))
    group = detector.get("transformations")
    turned = [False, False]
    flipped = False
    for name in group if isinstance(group, h5py.Group) else ():
        angle = _rotation(file, group, str(name))
        if angle is None:
            continue
        flipped = True
        axis, size = angle
        if abs(size % 360) < 1e-3 or abs(size % 360 - 360) < 1e-3:
            continue
        if abs(size % 360 - 180) > 1e-3:
            file.warnings.append(
                f"transformations/{name}: {size:.4g} degrees about {'xyz'[axis]} are not used"
            )
            continue
        # About x: up and down. About y: left and right. About the beam: both.
        if axis != 0:
            turned[0] = not turned[0]
        if axis != 1:
            turned[1] = not turned[1]
    if flipped:
        if any(flags) and tuple(turned) != flags:
            file.warnings.append("x_flipped and y_flipped contradict the transformations, which were taken")
        return turned[0], turned[1]
    return bool(flags[0]), bool(flags[1])


def _flag(file: Hdf5, detector: h5py.Group, name: str) -> bool:
    numbers = file.numbers(detector, name)
    return numbers is not None and len(numbers) == 1 and bool(numbers[0] != 0)


def _rotation(file: Hdf5, group: h5py.Group, name: str) -> tuple[int, float] | None:
    """Return the axis (0 x, 1 y, 2 z) and degrees of a rotation, None for anything else."""
    values = file.numbers(group, name)
    if values is None or len(values) != 1:
        return None
    attributes = group[name].attrs
    if text_of(attributes.get("transformation_type", "")).lower() != "rotation":
        if values[0] != 0 and "transformation_type" in attributes:
            file.warnings.append(f"transformations/{name}: a translation is not used")
        return None
    vector = np.abs(np.asarray(attributes.get("vector", [0, 0, 1]), np.float64).ravel())
    scale = degrees(text_of(attributes.get("units", "deg"))) or 1.0
    return int(np.argmax(vector)), float(values[0]) * scale
