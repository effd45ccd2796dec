"""Observations before a prior says on which grid, variables and steps of the state they are used.

They come from a file, a dataset of xarray or a table of pandas; `Observations.stream` brings them onto a state.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from assimilation.fields.grid import Grid, Variable
from assimilation.io.foreign import normalise
from assimilation.io.observations.tables import SUFFIXES, checked_table
from assimilation.io.registry import reader_of
from assimilation.io.streams import gridded_stream, read_observations, table_stream
from assimilation.observation.base import ObservationStream
from priors.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas


class Observations:
    """Values with errors, at places and times.

    Args:
        data: gridded values (xarray, on the dimensions a file would have, NaN where nothing was observed), or a table
            (pandas) with the columns time, latitude and longitude or y and x, variable, value, sigma; or a file.
        sigma: standard deviation of the error in the unit of the values, where ``data`` does not say it.
        source: what messages call them.

    Raises:
        InputError: the file does not exist or is of an unknown kind, or a column is lacking.
    """

    def __init__(
        self,
        data: "xr.Dataset | xr.DataArray | pandas.DataFrame | str | Path",
        *,
        sigma: float | None = None,
        source: str = "observations",
    ) -> None:
        self.source = Path(data if isinstance(data, str | Path) else source)
        self._data: Any = self._checked(data, sigma)

    def __repr__(self) -> str:
        if isinstance(self._data, Path):
            return f"Observations({str(self._data)!r})"
        if isinstance(self._data, xr.Dataset):
            sizes = ", ".join(f"{name} {size}" for name, size in self._data.sizes.items())
            return f"Observations({', '.join(map(str, self._data.data_vars))}: {sizes})"
        names = ", ".join(sorted({str(name) for name in self._data["variable"]}))
        return f"Observations({names}: table of {len(self._data)})"

    @property
    def tabular(self) -> bool:
        """Whether they are a table, which may not say the grid of the state."""
        if isinstance(self._data, Path):
            return self._data.suffix in SUFFIXES
        return not isinstance(self._data, xr.Dataset)

    def stream(
        self,
        *,
        grid: Grid | None = None,
        variables: tuple[Variable, ...] | None = None,
        step_s: float | None = None,
        spacing: tuple[float, float] | None = None,
    ) -> ObservationStream:
        """Return them on a state; see `read_observations` for the arguments.

        Raises:
            InputError: they do not fit the state, or do not tell it and nothing was given.
        """
        state: dict[str, Any] = {"grid": grid, "variables": variables, "step_s": step_s, "spacing": spacing}
        if isinstance(self._data, Path):
            return read_observations(self._data, **state)
        if isinstance(self._data, xr.Dataset):
            return gridded_stream(self._data, self.source, **state)
        return table_stream(self._data, None, self.source, **state)

    def _checked(self, data: Any, sigma: float | None) -> Any:
        if isinstance(data, str | Path):
            return self._checked_path(Path(data), sigma)
        if isinstance(data, xr.DataArray):
            if data.name is None:
                raise InputError(
                    f"{self.source}: found an array without a name, expected that of its variable"
                )
            data = data.to_dataset()
        if isinstance(data, xr.Dataset):
            return normalise(_with_sigma(data, sigma), str(self.source))
        if not hasattr(data, "columns"):
            raise InputError(f"{self.source}: found {type(data).__name__}, expected xarray, pandas or a file")
        return checked_table(data if sigma is None else data.assign(sigma=sigma), self.source)

    def _checked_path(self, path: Path, sigma: float | None) -> Path:
        if sigma is not None:
            raise InputError(f"{path}: sigma belongs to arrays; a file states its own")
        if path.suffix not in SUFFIXES:
            reader_of(path)
        elif not path.is_file():
            raise InputError(f"{path}: does not exist, expected a table of observations")
        return path


def _with_sigma(dataset: xr.Dataset, sigma: float | None) -> xr.Dataset:
    """Return the dataset with an error for every variable that states none."""
    if sigma is None:
        return dataset
    if not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma: found {sigma}, expected a positive number in the unit of the values")
    dataset = dataset.copy()
    for name in dataset.data_vars:
        if f"{name}_sigma" not in dataset and not str(name).endswith("_sigma"):
            dataset[name].attrs.setdefault("sigma", sigma)
    return dataset
