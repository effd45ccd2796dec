"""A Zarr folder has no order of its own: what is read is the same in every run."""

import numpy as np
import xarray as xr

from assimilation.fields.fields import Fields
from assimilation.fields.grid import Grid, Variable
from assimilation.io.archive import read_fields, write_fields
from assimilation.io.registry import read_any_fields

NAMES = tuple("hgfedcba")


def test_variables_come_in_the_same_order_every_time(tmp_path):
    axis = np.arange(3.0)
    values = np.broadcast_to(np.arange(8.0, dtype=np.float32)[:, None, None], (1, 1, 8, 3, 3)).copy()
    times = np.array(["2000-01-01"], "datetime64[ns]")
    variables = tuple(Variable(name, "K") for name in NAMES)
    own, foreign = tmp_path / "own.zarr", tmp_path / "foreign.zarr"
    write_fields(Fields(values, times, variables, Grid(axis, axis, "plane", "km")), own)
    with xr.open_dataset(own, engine="zarr", consolidated=False) as dataset:
        bare = dataset.load()
    # Ours state their order as an attribute; nobody else does.
    del bare.attrs["variables"]
    bare.to_zarr(foreign, consolidated=False)
    for path, names in ((own, list(NAMES)), (foreign, sorted(NAMES))):
        # Ten chances for a listing that is free in its order to show it.
        for read in 5 * [read_fields, read_any_fields]:
            fields = read(path)
            assert [one.name for one in fields.variables] == names
            expected = [NAMES.index(name) for name in names]
            np.testing.assert_array_equal(fields.values[0, 0, :, 0, 0], expected)
