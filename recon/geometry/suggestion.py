"""The grid that a scan suggests when nobody says where the object is.

Voxels are as large as a detector pixel is at the rotation axis, as many across as columns. Slices are the detector's
rows, or, where the source climbs, as many as the climb needs.
"""

import numpy as np

from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry


def suggested_grid(geometry: ScanGeometry) -> Grid:
    """Return the grid that covers what ``geometry`` sees, about the z axis."""
    rows, columns = geometry.shape
    column, row = (float(np.linalg.norm(step, axis=1).mean()) for step in (geometry.u_mm, geometry.v_mm))
    scale = axis_scale(geometry)
    # A row of a parallel or fan beam is a slice, and so as high as one.
    height = row if geometry.sliced else row * scale
    voxel_mm = (height, column * scale, column * scale)
    if geometry.sliced:
        return Grid((rows, columns, columns), voxel_mm)
    z = (geometry.detector_mm if geometry.parallel else geometry.source_mm)[:, 2]
    middle, climb = 0.5 * float(z.min() + z.max()), float(np.ptp(z))
    # The last view of a helix stands for one more step of its climb.
    climb *= geometry.views / max(1, geometry.views - 1)
    slices = rows if climb < height else max(1, round(climb / height))
    return Grid((slices, columns, columns), voxel_mm, (middle, 0.0, 0.0))


def axis_scale(geometry: ScanGeometry) -> float:
    """Return the size at the rotation axis of something of size one on the detector, mean over the views."""
    if geometry.parallel:
        return 1.0
    reach = np.linalg.norm(geometry.detector_mm - geometry.source_mm, axis=1)
    return float((np.linalg.norm(geometry.source_mm[:, :2], axis=1) / reach).mean())
