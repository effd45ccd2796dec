"""Units: conversions known from elsewhere, both spellings."""

import pytest

from assimilation.fields.units import affine
from priors.runtime.errors import InputError


@pytest.mark.parametrize(
    ("unit", "to", "expected"),
    [
        ("degC", "K", (1.0, 273.15)),
        ("celsius", "K", (1.0, 273.15)),
        ("degF", "K", (5 / 9, 459.67 * 5 / 9)),
        ("m s-1", "m/s", (1.0, 0.0)),
        ("m s**-1", "m s-1", (1.0, 0.0)),
        ("km/h", "m s-1", (1 / 3.6, 0.0)),
        ("kg m-2 s-1", "mm/h", (3600.0, 0.0)),
        ("m s-1", "mm/h", (3.6e6, 0.0)),
        ("hPa", "Pa", (100.0, 0.0)),
        ("%", "1", (0.01, 0.0)),
        ("m**2 s**-2", "m2 s-2", (1.0, 0.0)),
    ],
)
def test_a_conversion(unit, to, expected):
    assert affine(unit, to, label="x") == pytest.approx(expected)


@pytest.mark.parametrize("unit", ["kg", "banana", "m s", "K K K", "!!", "mm/"])
def test_what_does_not_convert(unit):
    with pytest.raises(InputError, match="x: found unit"):
        affine(unit, "K", label="x")
