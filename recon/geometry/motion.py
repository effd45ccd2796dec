"""An object that moves between views, as a scanner that moves around an object at rest.

If the object's points go x -> R x + t in a view, its projection is that of the object at rest seen from

    source -> R.T (source - t),   detector -> R.T (detector - t),   u -> R.T u,   v -> R.T v

so motion changes nothing but vectors, and every projector and reconstruction handles it.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from priors.runtime.errors import InputError
from recon.geometry.scan import ScanGeometry

STILL = 1e-9


def moved(
    geometry: ScanGeometry,
    shifts_mm: Float64[np.ndarray, "v 3"],
    rotations: Float64[np.ndarray, "v 3"] | None = None,
) -> ScanGeometry:
    """Return the scan, in the frame of the object, of an object that moved rigidly.

    Args:
        geometry: as measured, in the frame of the scanner.
        shifts_mm: t (x, y, z) per view.
        rotations: R per view as a rotation vector: the axis (x, y, z) through the origin times the angle in radians;
            None where the object does not turn.

    Raises:
        InputError: not one finite shift and rotation per view, or motion across slices in a beam that sees slice by
            slice.
    """
    turns = np.zeros_like(shifts_mm) if rotations is None else rotations
    for name, value in (("shifts_mm", shifts_mm), ("rotations", turns)):
        if value.shape != (geometry.views, 3) or not np.isfinite(value).all():
            raise InputError(
                f"motion: {name}: found shape {value.shape}, expected finite ({geometry.views}, 3)"
            )
    if geometry.sliced and (abs(shifts_mm[:, 2]).max() > STILL or abs(turns[:, :2]).max() > STILL):
        raise InputError(
            f"motion: found motion across the slices of a {geometry.beam} beam, expected shifts along x and y and "
            "turns about z; the orbits cone and parallel-3d can move freely"
        )
    back = Rotation.from_rotvec(turns).inv().as_matrix()
    source = geometry.source_mm if geometry.parallel else geometry.source_mm - shifts_mm
    vectors = {
        "source_mm": source,
        "detector_mm": geometry.detector_mm - shifts_mm,
        "u_mm": geometry.u_mm,
        "v_mm": geometry.v_mm,
    }
    return replace(
        geometry, **{name: np.einsum("vij,vj->vi", back, value) for name, value in vectors.items()}
    )
