"""Files of other software, brought to one form: missing values, axes, times, levels, units, projections."""

from assimilation.io.foreign.normalise import normalise, proj_in_km

__all__ = ["normalise", "proj_in_km"]
