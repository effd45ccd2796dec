"""The rotation axis of a parallel scan: found (see ``recon.preprocess.centre_search``), or given as a column.

The detector is shifted along its columns until the axis x = y = 0 falls on the column found.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.preprocess.base import Step
from recon.preprocess.centre_search import find_centre


class Centre(Step):
    """The detector of a parallel scan shifted so that the rotation axis is where it should be.

    Attributes:
        column: on which the axis falls, from 0, a real number; None searches it.
    """

    name: Literal["centre"] = "centre"
    column: float | None = None

    def __call__(self, data: Scan) -> Scan:
        """Return the scan about its rotation axis.

        Raises:
            InputError: not a parallel beam, or no two views face each other.
        """
        scan = data.geometry
        if scan.beam != "parallel":
            raise InputError(f"centre: found a {scan.beam} beam, expected parallel")
        column = self.column
        if column is None:
            # The angle of an orbit: rays travel along (sin a, -cos a).
            angles = np.rad2deg(np.arctan2(scan.source_mm[:, 0], -scan.source_mm[:, 1]))
            busiest = int(np.argmax(data.sinogram.std(axis=(0, 2))))
            column = find_centre(data.sinogram[:, busiest], np.rad2deg(np.unwrap(np.deg2rad(angles))))
        # Where the axis falls now, from the middle of the array on, in columns.
        length = (scan.u_mm**2).sum(axis=1)
        offset = (scan.shape[1] - 1) / 2 - column
        now = (scan.detector_mm * scan.u_mm).sum(axis=1) / length
        middle = scan.detector_mm + (offset - now)[:, None] * scan.u_mm
        record = {**self.model_dump(mode="json"), "column": round(column, 3)}
        done = [*data.provenance.get("preprocess", []), record]  # type: ignore[misc]
        return replace(
            data,
            geometry=replace(scan, detector_mm=middle),
            provenance={**data.provenance, "preprocess": done},
        )
