"""Units as files spell them; the values are those of the SI."""

import pytest

from recon.io.spelling import degrees, millimetres


@pytest.mark.parametrize(
    ("unit", "mm"),
    [
        *[(word, 1e3) for word in ("m", "metre", "meter", "metres", "Meters", " m ")],
        *[(word, 1.0) for word in ("mm", "MM", "millimetre", "millimeters", "Millimetre", "[mm]")],
        *[
            (word, 1e-3)
            for word in ("um", "µm", "μm", "micron", "Microns", "micrometre", "micrometers", "mu")
        ],
        *[(word, 1e-3) for word in ("\\u00B5m", "&#181;m", "UM", "u")],
        *[(word, 1e-6) for word in ("nm", "nanometre", "nanometers")],
        *[(word, 10.0) for word in ("cm", "centimetre", "centimeters")],
        *[(word, 25.4) for word in ("in", "inch", "inches", '"')],
        *[(word, 1e-7) for word in ("angstrom", "Å", "Angstroms")],
        *[(word, None) for word in ("", "pixel", "px", "voxels", "s", "furlong", "milim", "mmetre", "1")],
    ],
)
def test_lengths(unit: str, mm: float | None) -> None:
    assert millimetres(unit) == (None if mm is None else pytest.approx(mm, rel=1e-12))


@pytest.mark.parametrize(
    ("unit", "deg"),
    [
        *[(word, 1.0) for word in ("deg", "degree", "degrees", "Degrees", "°")],
        *[(word, 57.29577951308232) for word in ("rad", "radian", "Radians")],
        *[("mrad", 0.05729577951308232), ("gon", 0.9), ("turns", 360.0)],
        *[(word, None) for word in ("", "mm", "steps", "degC")],
    ],
)
def test_angles(unit: str, deg: float | None) -> None:
    assert degrees(unit) == (None if deg is None else pytest.approx(deg, rel=1e-12))
