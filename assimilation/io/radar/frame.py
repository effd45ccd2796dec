"""One radar image, and what the readers of the services share."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Float32
from pydantic import BaseModel, ConfigDict, Field

from assimilation.fields.grid import Grid

MARSHALL_PALMER = (200.0, 1.6)


class RainRelation(BaseModel):
    """How reflectivity becomes rain: Z = a R^b, Z in mm6/m3, R in mm/h.

    Attributes:
        a, b: of the relation; those the file states (ODIM's how/zr_a, zr_b), else Marshall and Palmer's 200 and 1.6.
        hail_cap_dbz: reflectivity above this counts as this (53 to 55 where hail would count as rain); None is no cap.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    a: float | None = Field(None, gt=0, allow_inf_nan=False)
    b: float | None = Field(None, gt=0, allow_inf_nan=False)
    hail_cap_dbz: float | None = Field(None, allow_inf_nan=False)


DEFAULT_RELATION = RainRelation()


@dataclass(frozen=True, eq=False)
class Frame:
    """Rain rate at one time.

    Attributes:
        rate: mm/h, y ascending, NaN where missing.
        time: end of what was measured.
        grid: plane in km.
    """

    rate: Float32[np.ndarray, "y x"]
    time: np.datetime64
    grid: Grid


def rain_rate(
    dbz: Float[np.ndarray, "*s"],
    relation: RainRelation = DEFAULT_RELATION,
    *,
    stated: tuple[float, float] = MARSHALL_PALMER,
) -> Float[np.ndarray, "*s"]:
    """Return mm/h from reflectivity in dBZ; ``stated`` is the relation where ``relation`` leaves it open."""
    a, b = relation.a or stated[0], relation.b or stated[1]
    if relation.hail_cap_dbz is not None:
        dbz = np.minimum(dbz, relation.hail_cap_dbz)
    return (10 ** (dbz / 10) / a) ** (1 / b)


def centres(first_edge: float, step: float, count: int) -> Float[np.ndarray, "n"]:
    """Return the centres of ``count`` cells."""
    return first_edge + step * (np.arange(count) + 0.5)


def holds(path: Path, *names: str) -> bool:
    """Tell whether a file is HDF5 (or NetCDF-4) with all of these objects."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return all(name in file for name in names)
    except Exception:
        # Damaged files make h5py fail in many ways (OSError, KeyError, RuntimeError, Unicode ...).
        return False
