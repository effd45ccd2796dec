"""Composites as the ODIM_H5 specification describes them, since no service's file is at hand."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

PROJDEF = "+proj=laea +lat_0=55.0 +lon_0=10.0 +x_0=1950000.0 +y_0=-2100000.0 +units=m +ellps=WGS84"
SHAPE = (6, 8)


def attributes(group: h5py.Group, **values: Any) -> None:
    """Write texts as fixed-length strings, which the specification asks for, and numbers as double precision."""
    for key, value in values.items():
        group.attrs[key] = np.bytes_(value) if isinstance(value, str) else value


def write_odim(
    path: Path,
    counts: np.ndarray,
    *,
    quantity: str = "DBZH",
    gain: float = 0.5,
    offset: float = -32.0,
    end: str = "120000",
    start: str = "114500",
    kind: str = "COMP",
    change: Any = None,
) -> None:
    """Write a composite with one image; rows run from north to south.

    Args:
        path: file to write.
        counts: bytes, 255 not measured, 0 no echo.
        quantity: what they are.
        gain: of a count.
        offset: of a count.
        end: HHmmss of the end.
        start: HHmmss of the start.
        kind: object of the file.
        change: called with the open file before it is closed.
    """
    import pyproj

    left, bottom = 1_000_000.0, -1_500_000.0
    longitude, latitude = pyproj.Proj(PROJDEF)(left, bottom, inverse=True)
    rows, columns = counts.shape
    with h5py.File(path, "w") as file:
        attributes(file, Conventions="ODIM_H5/V2_4")
        attributes(file.create_group("what"), object=kind, version="H5rad 2.4", date="20210714", time=end,
                   source="ORG:247")  # fmt: skip
        where = file.create_group("where")
        attributes(where, projdef=PROJDEF, LL_lon=longitude, LL_lat=latitude, xscale=2000.0, yscale=2000.0)
        where.attrs["xsize"], where.attrs["ysize"] = columns, rows
        dataset = file.create_group("dataset1")
        attributes(dataset.create_group("what"), product="COMP", startdate="20210714", starttime=start,
                   enddate="20210714", endtime=end)  # fmt: skip
        data = dataset.create_group("data1")
        attributes(data.create_group("what"), quantity=quantity, gain=gain, offset=offset, nodata=255.0,
                   undetect=0.0)  # fmt: skip
        data.create_dataset("data", data=counts, compression="gzip")
        attributes(data["data"], CLASS="IMAGE", IMAGE_VERSION="1.2")
        if change is not None:
            change(file)


def some_counts(seed: int = 0) -> np.ndarray:
    """Return bytes with missing cells in the first row and no echo in the second."""
    counts = np.random.default_rng(seed).integers(1, 255, SHAPE, np.uint8)
    counts[0], counts[1] = 255, 0
    return counts
