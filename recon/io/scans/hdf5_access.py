"""HDF5 as the scan readers meet it: links, filters and numbers, with an error that says which of them is at fault.

- An external link, or the source of a virtual data set, is followed inside the folder of the file; one that leads out
  of it, or to nothing, is refused by name: a virtual data set without its source would read as zeros.
- A compression the library does not know is named. The package hdf5plugin, where installed, reads bitshuffle, LZ4,
  Blosc, Zstandard and others.
- A number may be written as text; what is no number is ``None`` and told.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_array
from recon.io.spelling import degrees, millimetres, text_of

_FILTERS = {
    **{305: "LZO", 307: "bzip2", 32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle"},
    **{32013: "ZFP", 32015: "Zstandard", 32017: "SZ", 32018: "FCIDECOMP", 32019: "JPEG", 32023: "Snappy"},
    **{32024: "SZ3", 32026: "Blosc2", 32028: "SPERR", 4: "szip"},
}
"""Numbers of registered filters: https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md"""


@dataclass
class Hdf5:
    """An open file, and what is to be said about it."""

    path: Path
    root: h5py.File
    warnings: list[str] = field(default_factory=list)

    def dataset(self, group: h5py.Group, name: str) -> h5py.Dataset | None:
        """Return a data set whose values can be read, None where there is none.

        Raises:
            InputError: a link leads nowhere or out of the folder, or the compression is not known.
        """
        check_links(self.path, group, name)
        found = group.get(name)
        if not isinstance(found, h5py.Dataset):
            return None
        self._check_virtual(found)
        self._check_filters(found)
        if found.chunks and found.size and not found.is_virtual and not found.id.get_storage_size():
            raise InputError(f"{name}: none of its {found.shape} values is stored")
        return found

    def needed(self, group: h5py.Group, name: str) -> h5py.Dataset:
        """Return a data set that must be there.

        Raises:
            InputError: it is not, or cannot be read.
        """
        found = self.dataset(group, name)
        if found is None:
            raise InputError(f"{name}: is missing")
        return found

    def numbers(self, group: h5py.Group, name: str) -> Float64[np.ndarray, " n"] | None:
        """Return the numbers of a data set; text that is no number is reported and counts as absent."""
        found = self.dataset(group, name)
        if found is None or found.shape is None:
            return None
        check_array(name, found.shape, found.dtype)
        stored = found[()]
        try:
            return np.atleast_1d(np.asarray(_numeric(stored), np.float64)).ravel()
        except (TypeError, ValueError):
            self.warnings.append(f"{name}: found the text {text_of(stored)[:40]!r}, which is not used")
            return None

    def length_mm(self, group: h5py.Group, name: str, usual: str) -> float | None:
        """Return a recorded length in mm, None where there is none that can be used (told).

        Raises:
            InputError: its unit is not one of length, or it is not one positive number.
        """
        values = self.numbers(group, name)
        if values is None:
            return None
        same = len(values) > 0 and np.isfinite(values).all() and np.ptp(values) <= 1e-6 * abs(values).max()
        if not same or values[0] <= 0:
            raise InputError(f"{name}: found {values[:4].tolist()}, expected one positive length")
        stated = text_of(group[name].attrs.get("units", group[name].attrs.get("unit", ""))).strip()
        if stated.lower() in ("pixel", "pixels", "px", "n/a", "none"):
            self.warnings.append(f"{name}: its unit is {stated!r}, no length; it is not used")
            return None
        scale = millimetres(stated or usual)
        if scale is None:
            raise InputError(
                f"{name}: units: found {stated[:20]!r}, expected a unit of length such as m or um"
            )
        return float(values[0]) * scale

    def pixel_mm(self, group: h5py.Group, name: str, usual: str) -> float | None:
        """Return a recorded size of a pixel in mm, None where there is none; one that no detector has is told."""
        size = self.length_mm(group, name, usual)
        if size is not None and not SMALLEST_MM <= size <= LARGEST_MM:
            self.warnings.append(f"{name}: found {size:.4g} mm, which no pixel has; it is not used")
            return None
        return size

    def angles_deg(self, group: h5py.Group, name: str) -> Float64[np.ndarray, " n"]:
        """Return angles in degrees.

        Raises:
            InputError: they are missing, no numbers, or their unit is none of an angle.
        """
        found, values = self.needed(group, name), self.numbers(group, name)
        if values is None or not np.isfinite(values).all():
            raise InputError(f"{name}: found text, NaN or infinity, expected angles")
        stated = text_of(found.attrs.get("units", found.attrs.get("unit", "degree"))).strip() or "degree"
        scale = degrees(stated)
        if scale is None:
            raise InputError(f"{name}: units: found {stated[:20]!r}, expected degrees or radians")
        return values * scale

    def _check_virtual(self, found: h5py.Dataset) -> None:
        for source in found.virtual_sources() if found.is_virtual else ():
            if source.file_name != ".":
                _check_target(Path(found.file.filename), source.file_name, found.name or "data set")

    def _check_filters(self, found: h5py.Dataset) -> None:
        stored = found.id.get_create_plist()
        for k in range(stored.get_nfilters()):
            code, _, _, name = stored.get_filter(k)
            if not h5py.h5z.filter_avail(code):
                known = _FILTERS.get(code, text_of(name).split(";")[0] or "unknown")
                raise InputError(
                    f"{found.name}: is compressed with {known} (HDF5 filter {code}), which needs hdf5plugin: "
                    "pip install 'tomocast[hdf5]'"
                )


SMALLEST_MM, LARGEST_MM = 1e-6, 20.0
"""Sizes between which a pixel may be: a nanometre, two centimetres."""


@contextmanager
def opened(path: Path) -> Iterator[Hdf5]:
    """Yield the open file; whatever fails inside becomes one error that names it.

    Raises:
        InputError: of the reader, with the path before it, or a damaged file.
    """
    register_filters()
    try:
        with h5py.File(path, "r") as root:
            yield Hdf5(path, root)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except MemoryError:
        raise
    except Exception as error:
        # HDF5 reports damage with errors of many kinds.
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"{path}: is a damaged or truncated HDF5 file ({type(error).__name__}: {reason})"
        ) from error


def register_filters() -> None:
    """Let the HDF5 library know the filters of hdf5plugin where that is installed."""
    try:
        import_module("hdf5plugin")
    except ImportError:
        return


def check_links(path: Path, group: h5py.Group, name: str) -> None:
    """Refuse an external link on the way to ``name`` that leads out of the folder or to nothing.

    Raises:
        InputError: naming its target.
    """
    here: Any = group
    for part in name.strip("/").split("/"):
        if not isinstance(here, h5py.Group):
            return
        link = here.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            _check_target(Path(here.file.filename), link.filename, f"{here.name.rstrip('/')}/{part}")
            if here.get(part) is None:
                raise InputError(f"{part}: is a link to {link.path} in {link.filename}, which is not there")
        elif isinstance(link, h5py.SoftLink) and here.get(part) is None:
            raise InputError(f"{part}: is a link to {link.path}, which is not there")
        here = here.get(part)


def _check_target(origin: Path, named: str, what: str) -> None:
    folder = origin.resolve().parent
    target = (folder / named).resolve()
    if not target.is_relative_to(folder):
        raise InputError(
            f"{what}: is a link to {named}, out of the folder of the file, which is not followed; copy the file there"
        )
    if not target.is_file():
        raise InputError(f"{what}: is a link to {named}, which does not exist beside the file")


def _numeric(stored: Any) -> Any:
    if isinstance(stored, (bytes, str)):
        return float(stored)
    array = np.asarray(stored)
    return [float(word) for word in array.ravel()] if array.dtype.kind in "OSU" else array


def warn_of_binning(file: Hdf5, group: h5py.Group, prefix: str) -> None:
    """Say that pixels are binned: their size is taken as that of a binned one."""
    for name in ("binning_x", "binning_y", "x_binning", "y_binning"):
        binning = file.numbers(group, f"{prefix}{name}")
        if binning is not None and len(binning) == 1 and binning[0] > 1:
            file.warnings.append(
                f"{name} is {binning[0]:g}: the size of a pixel is taken as that of a binned one"
            )
            return
