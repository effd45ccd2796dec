"""Products of a forecast in its run folder: RUN/products.nc, beside the members.

Variables of `assimilation.fields.products`, ([trajectory,] time, y, x), read one frame of members at a time.
"""

from pathlib import Path

import numpy as np

from assimilation.fields.fields import Fields
from assimilation.fields.products import product_variables, products, thresholds_of
from assimilation.fields.streams import FieldStream
from assimilation.io.archive import write_fields
from assimilation.io.registry import open_stream

PRODUCTS = "products.nc"


def write_products(archive: Path, out: Path, wanted: tuple[float, ...] | None) -> None:
    """Write the products of the ensemble in an archive.

    Raises:
        InputError: the archive cannot be read or the file not be written.
    """
    with open_stream(archive) as stream:
        write_fields(products_of(stream, wanted), out)


def products_of(stream: FieldStream, wanted: tuple[float, ...] | None) -> Fields:
    """Return the products of every variable, trajectory and time."""
    thresholds = thresholds_of(stream.variables, wanted)
    variables = tuple(kind for one in stream.variables for kind in product_variables(one, thresholds))
    shape = (stream.trajectories, stream.times.size, len(variables), *stream.grid.shape)
    values = np.empty(shape, np.float32)
    for trajectory, time in np.ndindex(shape[:2]):
        members = stream.read(trajectory, time)
        values[trajectory, time] = np.concatenate(
            [products(members[:, k], thresholds) for k in range(len(stream.variables))]
        )
    attributes = {**stream.attributes, "title": f"products: {stream.attributes.get('title', 'forecast')}"}
    return Fields(values, stream.times, variables, stream.grid, attributes)
