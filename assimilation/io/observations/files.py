"""Observation files: gridded NetCDF or Zarr, and tables.

A gridded file has the dimensions of fields, NaN where nothing was seen, and says in its attributes

    observation_operator    the instrument, as JSON; without it every finite value is the state itself
    observed_state          grid, variables and times of the state, as JSON; without it the file's own
    sigma                   of a data variable: standard deviation of its error in its unit;
                            a variable NAME_sigma of the same shape holds one per observation instead
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float32
from pydantic import TypeAdapter, ValidationError

from assimilation.fields.fields import Fields
from assimilation.fields.grid import Variable
from assimilation.fields.units import affine
from assimilation.io.archive import write_dataset
from assimilation.io.observations.layout import Layout
from assimilation.io.observations.tables import SUFFIXES, write_table
from assimilation.io.registry import open_dataset, without_infinities
from assimilation.observation.instruments import (
    ChannelSubset,
    Everything,
    Instrument,
    Points,
    Swath,
    position,
)
from assimilation.observation.observing import Observed
from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_fits

_SIGMA = "_sigma"
_ENDINGS = (".nc", ".zarr", *SUFFIXES)


def check_observation_path(path: Path, instrument: Instrument) -> None:
    """Check that observations of an instrument can be written under a name.

    Raises:
        InputError: the ending is unknown, or a table would have to hold more than points.
    """
    path = Path(path)
    if path.suffix not in _ENDINGS:
        raise InputError(f"{path}: expected a name that ends in {', '.join(_ENDINGS)}")
    if path.suffix in SUFFIXES and not isinstance(instrument, Everything | Points | Swath | ChannelSubset):
        raise InputError(
            f"{path}: a table holds values of the state at points, found instrument {instrument.name}, expected "
            "a name that ends in .nc or .zarr"
        )


def write_observations(observed: Observed, path: Path) -> None:
    """Write observations; the ending decides the format: .nc, .zarr, .csv or .parquet.

    Raises:
        InputError: the ending is unknown, a table cannot hold what was observed, or nothing can be written.
    """
    path = Path(path)
    check_observation_path(path, observed.instrument)
    layout = Layout(observed.grid, observed.variables, observed.fields.times)
    if path.suffix in SUFFIXES:
        write_table(path, _columns(observed), layout)
        return
    dataset = observed.fields.to_dataset()
    dataset.attrs["observation_operator"] = observed.instrument.model_dump_json()
    dataset.attrs["observed_state"] = layout.to_json()
    sigma = np.broadcast_to(observed.sigma, observed.fields.values.shape)
    for k, item in enumerate(observed.fields.variables):
        errors = sigma[:, :, k]
        if (errors == errors.flat[0]).all():
            dataset[item.name].attrs["sigma"] = float(errors.flat[0])
        else:
            each = dataset[item.name].copy(data=errors.reshape(dataset[item.name].shape))
            dataset[f"{item.name}{_SIGMA}"] = each.assign_attrs(units=item.unit)
    write_dataset(dataset, path)


def read_gridded(path: Path, *, variables: tuple[Variable, ...] | None = None) -> Observed:
    """Return the observations in a gridded file.

    Args:
        path: NetCDF, Zarr or any other file of fields.
        variables: of the state; those the file tells where not given.

    Raises:
        InputError: the file is no such file, sigma is missing or not positive, or a variable is observed that
            the state lacks.
    """
    with open_dataset(path) as dataset:
        return gridded_of(dataset, path, variables=variables)


def gridded_of(dataset: xr.Dataset, path: Path, *, variables: tuple[Variable, ...] | None = None) -> Observed:
    """Return the observations in a normalised dataset; see `read_gridded`.

    Args:
        dataset: values, and their errors as attribute ``sigma`` or as variables ``NAME_sigma``.
        path: what messages call it.
        variables: of the state; those the dataset tells where not given.

    Raises:
        InputError: see `read_gridded`.
    """
    names = [str(name) for name in dataset.data_vars]
    check_fits(path, sum(4 * dataset[name].size for name in names))
    errors = {name: dataset[name] for name in names if name.endswith(_SIGMA)}
    fields = Fields.from_dataset(dataset.drop_vars(list(errors)), str(path))
    fields = replace(fields, values=without_infinities(fields.values, str(path)))
    sigma = np.stack(
        [
            _sigma(item, errors.get(f"{item.name}{_SIGMA}"), dataset, fields, path=path)
            for item in fields.variables
        ],
        axis=2,
    )
    instrument = _instrument(fields.attributes, path)
    told = fields.attributes.get("observed_state")
    try:
        layout = None if told is None else Layout.from_json(told)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    own = layout or Layout(fields.grid, fields.variables, fields.times)
    return _in_state_units(
        _matched(Observed(fields, sigma, instrument, variables or own.variables, own.grid), path), path
    )


def _matched(observed: Observed, path: Path) -> Observed:
    """Check that the state has what was observed; a file without every variable observes a subset."""
    names = tuple(item.name for item in observed.fields.variables)
    state = tuple(item.name for item in observed.variables)
    try:
        expected, lattice = observed.instrument.lattice(observed.variables, observed.grid)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not observed.fields.grid.same_as(lattice):
        raise InputError(
            f"{path}: found a grid of {observed.fields.grid.shape[0]} x {observed.fields.grid.shape[1]}, expected "
            f"{lattice.shape[0]} x {lattice.shape[1]} for instrument {observed.instrument.name}"
        )
    if names == tuple(item.name for item in expected):
        return observed
    for name in names:
        try:
            position(observed.variables, name)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    if not isinstance(observed.instrument, Everything | Points):
        raise InputError(f"{path}: found variables {', '.join(names)}, expected {', '.join(state)}")
    return replace(observed, instrument=ChannelSubset(variables=names))


def _in_state_units(observed: Observed, path: Path) -> Observed:
    """Return values and errors in the units of the state's variables."""
    lattice, _ = observed.instrument.lattice(observed.variables, observed.grid)
    values, sigma = observed.fields.values.copy(), observed.sigma.copy()
    for k, (found, wanted) in enumerate(zip(observed.fields.variables, lattice, strict=True)):
        scale, offset = affine(found.unit, wanted.unit, label=f"{path}: {found.name}")
        if (scale, offset) != (1.0, 0.0):
            values[:, :, k] = values[:, :, k] * scale + offset
            sigma[:, :, k] *= abs(scale)
    return replace(observed, fields=replace(observed.fields, values=values, variables=lattice), sigma=sigma)


def _instrument(attributes: dict[str, str], path: Path) -> Instrument:
    text = attributes.get("observation_operator")
    if text is None:
        return Everything()
    try:
        adapter: TypeAdapter[Instrument] = TypeAdapter(Instrument)
        return adapter.validate_json(text)
    except ValidationError as error:
        raise InputError(
            f"{path}: observation_operator: found {text[:80]}, expected a known instrument"
        ) from error


def _sigma(
    variable: Variable, each: xr.DataArray | None, dataset: xr.Dataset, fields: Fields, *, path: Path
) -> Float32[np.ndarray, "n time y x"]:
    """Return the error of every value of a variable: its own variable, or the attribute."""
    shape = (*fields.values.shape[:2], *fields.grid.shape)
    if each is not None:
        own = Fields.from_dataset(each.to_dataset(name=variable.name), str(path))
        if own.values[:, :, 0].shape != shape:
            raise InputError(f"{path}: {variable.name}{_SIGMA}: found another shape than {variable.name} has")
        return own.values[:, :, 0]
    stated = dataset[variable.name].attrs.get("sigma")
    if stated is None:
        raise InputError(
            f"{path}: {variable.name}: found no sigma, expected an attribute 'sigma' or a variable "
            f"'{variable.name}{_SIGMA}'"
        )
    try:
        number = float(stated)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise InputError(f"{path}: {variable.name}: sigma: found {stated}, expected a positive number")
    return np.full(shape, number, np.float32)


def _columns(observed: Observed) -> dict[str, np.ndarray]:
    """Return the columns of a table of the finite values."""
    fields = observed.fields
    n, time, k, y, x = np.nonzero(np.isfinite(fields.values))
    names = np.array([item.name for item in fields.variables])
    units = np.array([item.unit for item in fields.variables])
    columns = {
        "time": fields.times[time],
        fields.grid.names[0]: fields.grid.y[y],
        fields.grid.names[1]: fields.grid.x[x],
        "variable": names[k],
        "value": fields.values[n, time, k, y, x],
        "sigma": np.broadcast_to(observed.sigma, fields.values.shape)[n, time, k, y, x],
        "unit": units[k],
    }
    return {"trajectory": n, **columns} if fields.values.shape[0] > 1 else columns
