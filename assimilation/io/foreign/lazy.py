"""Functions of an array's values that are applied when a part of it is read, so that nothing is read before."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

Function = Callable[[np.ndarray], np.ndarray]


class _Mapped(BackendArray):
    """A variable of a file behind a function of its values."""

    def __init__(self, source: xr.Variable, function: Function, dtype: np.dtype[Any]) -> None:
        self.source, self.function = source, function
        self.shape, self.dtype = source.shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        return np.asarray(self.function(np.asarray(self.source[key].values)), self.dtype)


def mapped(variable: xr.Variable, function: Function, dtype: Any = np.float64) -> xr.Variable:
    """Return a variable whose values are ``function`` of another's, computed for the part that is read.

    Args:
        variable: with its values still in a file, or in memory.
        function: of an array of any shape, elementwise.
        dtype: of what it returns.
    """
    held = indexing.LazilyIndexedArray(_Mapped(variable, function, np.dtype(dtype)))
    # The chunks of the file tell how many times are best read at once.
    return xr.Variable(variable.dims, held, variable.attrs, dict(variable.encoding))
