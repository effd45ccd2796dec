"""Starts and leads of forecasts, brought to valid times.

    every valid time once            time, the valid time
    several starts by several leads  trajectory (one per start) and time (the valid times of the first start), and the
                                     starts in the attribute ``forecast_starts``

Starts and leads are known by the names that GRIB, WeatherBench and CF use.
"""

import numpy as np
import xarray as xr

from assimilation.fields.streams import STARTS
from assimilation.fields.units import affine
from priors.runtime.errors import InputError

_STARTS = ("init_time", "forecast_reference_time", "reference_time", "analysis_time", "initial_time", "init")
_LEADS = (
    "step",
    "prediction_timedelta",
    "lead_time",
    "forecast_period",
    "lead",
    "leadtime",
    "forecast_lead_time",
)
_VALID = ("valid_time", "validity_time", "forecast_time")
REFERENCE = "forecast_reference_time"


def with_leads(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Give starts, leads and valid times the names time, step and valid_time; add the last where it is not told."""
    start = next((name for name in _STARTS if name in dataset.dims), None)
    if start is not None and "time" not in dataset.dims:
        # A valid time in two dimensions, which these files call time, follows from start and lead.
        dataset = dataset.drop_vars("time", errors="ignore").rename({start: "time"})
    valid = next((name for name in _VALID if name in dataset.coords), None)
    if valid is not None and valid != "valid_time":
        dataset = dataset.rename({valid: "valid_time"})
    lead = next((name for name in _LEADS if name in dataset.dims and name in dataset.coords), None)
    if lead is None:
        # A scalar step of GRIB belongs to the start; CF's time is valid already.
        lead = next((name for name in ("step", "prediction_timedelta") if name in dataset.coords), None)
        if lead is not None and dataset[lead].ndim:
            lead = None
    if lead is None or "valid_time" in dataset.coords or "time" not in dataset.coords:
        return dataset
    item = dataset[lead].variable
    if item.dtype.kind in "iuf":
        scale, _ = affine(str(item.attrs.get("units", "")), "s", label=f"{source}: {lead}")
        nanoseconds = np.rint(item.values.astype(np.float64) * scale * 1e9).astype("int64")
        item = xr.Variable(item.dims, nanoseconds.astype("timedelta64[ns]"))
    dataset = dataset if lead == "step" else dataset.rename({lead: "step"})
    dims = tuple("step" if name == lead else name for name in item.dims)
    dataset = dataset.assign_coords(step=(dims, item.values))
    valid_time = dataset["time"].variable + xr.Variable(dims, item.values)
    return dataset.assign_coords(valid_time=(valid_time.dims, valid_time.values))


def valid_time(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Make valid time the dimension ``time``."""
    if "valid_time" in dataset.dims and "time" not in dataset.dims:
        return dataset.drop_vars("time", errors="ignore").rename(valid_time="time")
    if "valid_time" not in dataset.coords:
        return dataset
    both = [name for name in ("time", "step") if name in dataset.dims]
    if not both:
        return dataset.assign_coords(time=dataset["valid_time"].variable)
    valid = dataset["valid_time"].values.ravel()
    if np.unique(valid).size < valid.size:
        return _starts_apart(dataset, source)
    starts = np.atleast_1d(dataset["time"].values)
    stacked = dataset.stack(moment=both) if len(both) == 2 else dataset.rename({both[0]: "moment"})
    valid = stacked["valid_time"].values
    stacked = stacked.drop_vars(["moment", "time", "step", "valid_time"], errors="ignore")
    stacked = stacked.rename(moment="time").assign_coords(time=("time", valid)).sortby("time")
    if starts.size == 1 and starts.dtype.kind == "M" and (valid != starts[0]).any():
        stacked.attrs.setdefault(REFERENCE, np.datetime_as_string(starts[0].astype("datetime64[s]")))
    return stacked


def _starts_apart(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return forecasts from several starts as trajectories, with a start each."""
    if not {"time", "step"} <= {*dataset.dims} or "trajectory" in dataset.dims:
        raise InputError(
            f"{source}: time: found valid times that occur twice, expected each once or starts by leads"
        )
    starts = dataset["time"].values.astype("datetime64[ns]")
    leads = dataset["step"].values
    if (np.diff(leads) <= np.timedelta64(0)).any() or (np.diff(starts) <= np.timedelta64(0)).any():
        raise InputError(f"{source}: step: expected ascending starts and leads, each once")
    apart = dataset.drop_vars(["time", "step", "valid_time"], errors="ignore").rename(
        time="trajectory", step="time"
    )
    apart.attrs[STARTS] = " ".join(np.datetime_as_string(starts.astype("datetime64[s]")))
    return apart.assign_coords(trajectory=np.arange(starts.size), time=("time", starts[0] + leads))
