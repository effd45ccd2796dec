"""Units of length and angle as files spell them: symbols, words in British and American, plurals, escapes.

A unit that is not known is never guessed: the caller refuses it or says that it is not used.
"""

import re

_PREFIXES = {
    **{"": 1e3, "k": 1e6, "c": 10.0, "d": 100.0, "m": 1.0, "u": 1e-3, "n": 1e-6, "p": 1e-9},
    **{"kilo": 1e6, "centi": 10.0, "deci": 100.0, "milli": 1.0, "micro": 1e-3, "nano": 1e-6, "pico": 1e-9},
}
"""Millimetres of a metre with this prefix."""
_OTHERS = {
    **{"micron": 1e-3, "mu": 1e-3, "mic": 1e-3, "u": 1e-3},
    **{"inch": 25.4, "in": 25.4, '"': 25.4, "foot": 304.8, "feet": 304.8, "ft": 304.8},
    **{"angstrom": 1e-7, "ångstrom": 1e-7, "ångström": 1e-7, "å": 1e-7},
    **{"thou": 0.0254, "mil": 0.0254, "yard": 914.4, "yd": 914.4},
}
_DEGREES = {
    **{"deg": 1.0, "degree": 1.0, "°": 1.0, "º": 1.0, "arcdegree": 1.0, "angle_degree": 1.0},
    **{"rad": 57.29577951308232, "radian": 57.29577951308232, "mrad": 0.05729577951308232},
    **{"milliradian": 0.05729577951308232, "grad": 0.9, "gon": 0.9, "gradian": 0.9},
    **{"turn": 360.0, "rev": 360.0, "revolution": 360.0, "arcmin": 1 / 60, "arcsec": 1 / 3600},
}


def millimetres(unit: str) -> float | None:
    """Return how many millimetres one ``unit`` is, None where it is not known to be a length."""
    word = _plain(unit)
    for name in (word, _singular(word)):
        if name in _OTHERS:
            return _OTHERS[name]
        for base in ("metre", "meter", "m"):
            if name.endswith(base) and name.removesuffix(base) in _PREFIXES:
                prefix = name.removesuffix(base)
                # A symbol goes with a symbol, a word with a word: "mmetre" and "millim" are neither.
                if not prefix or (len(prefix) == 1) == (base == "m"):
                    return _PREFIXES[prefix]
    return None


def degrees(unit: str) -> float | None:
    """Return how many degrees one ``unit`` is, None where it is not known to be an angle."""
    word = _plain(unit)
    return _DEGREES.get(word, _DEGREES.get(_singular(word)))


def text_of(attribute: object) -> str:
    """Return an attribute that a file may hold as bytes, as text or as an array of one of them."""
    if hasattr(attribute, "ravel"):
        inside = attribute.ravel()
        attribute = inside[0] if len(inside) else ""
    return attribute.decode("utf-8", "replace") if isinstance(attribute, bytes) else str(attribute)


def _plain(unit: str) -> str:
    """Return a unit in lower case with every micro sign as u: the sign has two code points and many escapes."""
    word = re.sub(
        r"\\u00b5|\\u03bc|&#181;|&micro;|\\xb5|µ|μ|Â(?=u|µ)", "u", unit.strip(), flags=re.IGNORECASE
    )
    return word.strip("[]() .\0").lower()


def _singular(word: str) -> str:
    if word in ("inches",):
        return "inch"
    return word[:-1] if len(word) > 2 and word.endswith("s") else word
