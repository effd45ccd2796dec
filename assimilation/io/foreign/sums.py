"""Sums since the start in NetCDF and Zarr: taken apart where bounds of time tell them, else told.

    bounds (b, e1), (b, e2), (b, e3) ...     sums since b: amounts of each step are differences
    bounds (b, e1), (e1, e2) ...             amounts already
    no bounds                                a warning, as nothing says over which time a value is summed

(CF-1.11, 7.1 and 7.3: cell boundaries and ``cell_methods``.)
"""

import re
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from priors.runtime.errors import warn

_SAYS = re.compile(r"accumul|since (the )?start|time:\s*sum", re.IGNORECASE)


def amounts(dataset: xr.Dataset, bounds: np.ndarray | None, source: str) -> xr.Dataset:
    """Return a dataset in which sums since the start are amounts of each time step.

    Args:
        dataset: variables over time.
        bounds: of time, (time, 2), None where the file has none.
        source: what messages call it.
    """
    changed = {}
    for name, item in dataset.data_vars.items():
        if "time" not in item.dims or item.sizes["time"] < 2 or not _is_accumulated(item):
            continue
        if bounds is None or bounds.shape != (item.sizes["time"], 2):
            if "/" not in str(item.attrs.get("units", "")) and " s-1" not in str(item.attrs.get("units", "")):
                warn(
                    f"{source}: {name}: says that it is accumulated, but not over which time: sums since the start are "
                    "not told from amounts of each step"
                )
            continue
        before = _before(bounds)
        if (before >= 0).any():
            variable = item.variable
            held = indexing.LazilyIndexedArray(_Differences(variable, variable.dims.index("time"), before))
            changed[name] = (variable.dims, held, dict(item.attrs), dict(item.encoding))
            warn(f"{source}: {name}: sums since the start are read as amounts of each step")
    return dataset.assign(changed)


def _is_accumulated(item: xr.DataArray) -> bool:
    keys = ("cell_methods", "GRIB_stepType", "long_name", "description")
    texts = [str(item.attrs.get(key, "")).replace("accum", "accumul") for key in keys]
    return any(_SAYS.search(text) for text in texts)


def _before(bounds: np.ndarray) -> np.ndarray:
    """Return, for every time, the time whose sum began together with it and ended last before it; -1 for none."""
    before = np.full(len(bounds), -1)
    for place in range(1, len(bounds)):
        if bounds[place, 0] == bounds[place - 1, 0] and bounds[place, 1] > bounds[place - 1, 1]:
            before[place] = place - 1
    return before


class _Differences(BackendArray):
    """A variable less its own value at an earlier place along one axis."""

    def __init__(self, source: xr.Variable, axis: int, before: np.ndarray) -> None:
        self.source, self.axis, self.before = source, axis, before
        self.shape, self.dtype = source.shape, np.dtype(np.float64)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        values = np.asarray(self.source[key].values, np.float64)
        places = np.arange(self.shape[self.axis])[key[self.axis]]
        before = self.before[places]
        earlier_key = (*key[: self.axis], np.maximum(before, 0), *key[self.axis + 1 :])
        earlier = np.asarray(self.source[earlier_key].values, np.float64)
        if np.ndim(before):
            gone = sum(not isinstance(index, int | np.integer) for index in key[: self.axis])
            shape = [1] * values.ndim
            shape[gone] = -1
            before = np.asarray(before).reshape(shape)
        return np.asarray(values - np.where(before >= 0, earlier, 0.0))
