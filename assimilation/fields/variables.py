"""Which of several variables is meant: by name, else by CF standard name where that leaves one choice.

A standard name says nothing of the level: 2 m and 850 hPa temperature are both air_temperature. Numbers in a name tell
the level (t2m, t850, 10m_u_component_of_wind), and variables of unlike numbers are never the same.
"""

import re
from collections.abc import Sequence

from assimilation.fields.grid import Variable
from priors.runtime.errors import InputError


def column_of(wanted: Variable, held: Sequence[Variable]) -> int:
    """Return the index of a variable among others.

    Raises:
        InputError: none has its name, and its standard name is that of none, of several or of another level.
    """
    names = [item.name for item in held]
    if wanted.name in names:
        return names.index(wanted.name)
    same = [
        k
        for k, item in enumerate(held)
        if wanted.standard_name
        and item.standard_name == wanted.standard_name
        and same_level(wanted.name, item.name)
    ]
    if len(same) == 1:
        return same[0]
    alike = [
        item.name for item in held if wanted.standard_name and item.standard_name == wanted.standard_name
    ]
    among = f"; {', '.join(alike)} share its standard name {wanted.standard_name}" if alike else ""
    raise InputError(f"found variables {', '.join(names)}, expected {wanted.name}{among}")


def same_level(one: str, other: str) -> bool:
    """Tell whether two names may be of one level: their numbers agree, or one has none."""
    a, b = (re.findall(r"\d+(?:\.\d+)?", name) for name in (one, other))
    return not a or not b or a == b
