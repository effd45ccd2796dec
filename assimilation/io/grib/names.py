"""Names of the variables in a GRIB file: what a field is called, so that two that differ never share a name.

t at 850 hPa          t850      (pressure in hPa, whatever the message counts it in)
u at 80 m             u_80m     (10u, 2t say theirs themselves: u10, t2m)
t on model level 100  t_hybrid100
cpr averaged          cpr_avg   where the file has it at an instant too
tp on a second grid   refused, see ``reader``
"""

import re
from collections import defaultdict
from collections.abc import Sequence

from assimilation.io.grib.messages import Field

_PRESSURE = {"isobaricInhPa": 1.0, "isobaricInPa": 0.01}
_HEIGHTS = ("heightAboveGround", "heightAboveSea")
_NO_LEVEL = ("surface", "meanSea", "entireAtmosphere", "atmosphere", "unknown", "", "nominalTop")


def named(fields: Sequence[Field]) -> dict[str, list[Field]]:
    """Return the fields of every variable, by its name, in the order of the file."""
    levels: dict[str, set[str]] = defaultdict(set)
    for field in fields:
        levels[field.name + level_label(field)].add(field.level_type)
    steps: dict[str, set[str]] = defaultdict(set)
    for field in fields:
        steps[_with_level(field, levels)].add(field.step_type)
    variables: dict[str, list[Field]] = defaultdict(list)
    for field in fields:
        name = _with_level(field, levels)
        if len(steps[name]) > 1 and field.step_type != "instant":
            name += f"_{field.step_type}"
        variables[name].append(field)
    return dict(variables)


def level_label(field: Field) -> str:
    """Return what the level adds to the name of a field."""
    kind, level = field.level_type, field.level
    if kind in _PRESSURE:
        return f"{level * _PRESSURE[kind]:g}"
    if kind in _NO_LEVEL or re.search(rf"(?<!\d){level:g}(?!\d)", field.name):
        return ""
    if kind in _HEIGHTS:
        return f"_{level:g}m" if level else ""
    # Layers of soil have numbers of their own in ECMWF's names (stl1, swvl2).
    if kind.startswith("depthBelow") and re.search(r"\d$", field.name):
        return ""
    return f"_{kind}{level:g}" if level else ""


def _with_level(field: Field, levels: dict[str, set[str]]) -> str:
    """Return the name with its level; where kinds of level without a number meet, with the kind."""
    name = field.name + level_label(field)
    kinds = levels[name]
    if len(kinds) > 1 and field.level_type != "surface" and field.level_type not in _PRESSURE:
        return f"{name}_{field.level_type}"
    return name
