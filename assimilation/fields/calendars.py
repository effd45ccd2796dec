"""Times of calendars other than ours.

standard, gregorian, proleptic_gregorian    read as they are
noleap, 365_day     every date exists in our calendar too: dates are kept, 29 February is a gap
360_day, all_leap, 366_day, julian ...      have dates that ours lacks, or other instants under the same date: refused
"""

import numpy as np
import xarray as xr

from assimilation.fields.times import nanoseconds
from priors.runtime.errors import InputError

STANDARD = ("standard", "gregorian", "proleptic_gregorian")
WITHOUT_LEAP_DAYS = ("noleap", "365_day")


def civil(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a dataset, its times not yet decoded, without calendars that xarray cannot turn into our times.

    Raises:
        InputError: a calendar has dates that ours lacks, or a time cannot be decoded.
    """
    changed = []
    for name, item in dataset.variables.items():
        calendar = str(item.attrs.get("calendar", "standard")).lower()
        if calendar in STANDARD:
            continue
        if calendar not in WITHOUT_LEAP_DAYS:
            raise InputError(
                f"{source}: {name}: found the calendar {calendar}, whose dates are not all dates of the standard "
                f"calendar; expected {', '.join((*STANDARD, *WITHOUT_LEAP_DAYS))}"
            )
        dataset = dataset.assign({name: _decoded(item, f"{source}: {name}")})
        changed.append(f"{name} from the calendar {calendar}, without 29 February")
    return dataset.assign_attrs(calendars="; ".join(changed)) if changed else dataset


def _decoded(item: xr.Variable, label: str) -> xr.Variable:
    """Return times of a calendar without leap days as datetime64[ns], date for date."""
    import cftime

    try:
        dates = cftime.num2date(item.values, item.attrs["units"], "noleap")
        texts = [date.isoformat() for date in np.ravel(dates)]
        times = nanoseconds(np.array(texts, "datetime64[us]").reshape(item.shape), label)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise InputError(f"{label}: found times that cannot be decoded ({error})") from error
    attributes = {key: value for key, value in item.attrs.items() if key not in ("units", "calendar")}
    return xr.Variable(item.dims, times, attributes)
