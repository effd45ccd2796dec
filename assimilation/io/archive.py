"""Fields and ensembles in CF NetCDF files and Zarr folders.

The ending of a name decides the format: ``.nc`` is NetCDF-4 (written with h5netcdf), ``.zarr`` a Zarr folder.
Both are written under a temporary name and renamed, so a reader never meets half of one. Times are integers
since the first of them in the coarsest CF unit that is exact.

``EnsembleWriter`` takes one analysis time after another into a Zarr folder that grows beside the archive
(``growing``); ``finish`` gives it the archive's name, or streams it into a NetCDF file. Memory holds one time, and a
run that was killed at any moment continues after the last complete one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float32

from assimilation.fields import cf
from assimilation.fields.fields import Ensemble, Fields
from assimilation.fields.grid import Grid, Variable
from assimilation.io.growing import GrowingArchive
from assimilation.io.store import (
    WRITER,
    check_path,
    check_replaceable,
    compression,
    created,
    opened,
    replacing,
    save,
    time_encoding,
)
from priors.runtime.errors import InputError
from priors.runtime.files.writing import replace_folder
from priors.runtime.run_folder.record import versions

ANALYSIS = ("analysis.nc", "analysis.zarr")


def read_fields(path: Path) -> Fields:
    """Return the fields in a NetCDF file or Zarr folder.

    Raises:
        InputError: it does not exist, is damaged, or holds no fields.
    """
    with opened(path) as dataset:
        return Fields.from_dataset(dataset, str(path))


def write_fields(fields: Fields, path: Path) -> None:
    """Write fields as NetCDF or Zarr.

    Raises:
        InputError: the ending is unknown or the file cannot be written.
    """
    write_dataset(fields.to_dataset(), path)


def write_dataset(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset of fields as NetCDF or Zarr, one field per chunk, with its provenance.

    Raises:
        InputError: the ending is unknown or the file cannot be written.
    """
    path = check_path(path)
    dataset = dataset.assign_attrs(provenance(dataset.attrs))
    encoding: dict[str, dict[str, Any]] = {"time": time_encoding(dataset["time"].values)}
    for name, item in dataset.data_vars.items():
        if name == cf.MAPPING:
            continue
        chunks = (*(1,) * (item.ndim - 2), *item.shape[-2:])
        encoding[str(name)] = {**compression(path, chunks), "_FillValue": np.float32(np.nan)}
    with replacing(path) as temporary:
        save(dataset, temporary, encoding)


def read_ensemble(path: Path) -> Ensemble:
    """Return the ensemble in an archive or in the run folder that holds one.

    Raises:
        InputError: it does not exist, is damaged, or holds no fields.
    """
    path = analysis_path(path)
    with opened(path) as dataset:
        return Ensemble.from_dataset(dataset, str(path))


def analysis_path(path: Path) -> Path:
    """Return the archive in a run folder, or the path itself.

    Raises:
        InputError: a run folder without a finished analysis.
    """
    path = Path(path)
    for name in ANALYSIS:
        if (path / name).exists():
            return path / name
    if (path / "config.yaml").exists():
        raise InputError(f"{path}: holds a run without {ANALYSIS[0]}; it did not finish")
    return path


def write_ensemble(ensemble: Ensemble, path: Path) -> None:
    """Write an ensemble as NetCDF or Zarr.

    Raises:
        InputError: the ending is unknown or the file cannot be written.
    """
    with EnsembleWriter(
        path,
        variables=ensemble.variables,
        grid=ensemble.grid,
        trajectories=len(ensemble.members),
        attributes=ensemble.attributes,
    ) as writer:
        for place, time in enumerate(ensemble.times):
            writer.append(time, ensemble.members[:, :, place])


def provenance(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that say what wrote a file; ``attributes`` win."""
    found = _versions()
    told = {"source": f"tomocast {found['tomocast'] or ''}".strip()}
    if found["git"]:
        told["source_revision"] = found["git"]["revision"] + ("-changed" if found["git"]["changed"] else "")
    return {**told, **attributes, WRITER: "1"}


# Asking git takes longer than writing a small file, and the answer does not change while a process runs.
_versions = cache(versions)


@dataclass(frozen=True, eq=False)
class _Content:
    """What ``cf.skeleton`` needs."""

    times: np.ndarray
    variables: tuple[Variable, ...]
    grid: Grid
    attributes: dict[str, str]


class EnsembleWriter:
    """Writes members one time after another: ``with EnsembleWriter(...) as writer: writer.append(...)``.

    Leaving the block without an error finishes the archive; after an error the complete times stay for a writer
    that is opened with ``resume``.
    """

    def __init__(
        self,
        path: Path,
        *,
        variables: tuple[Variable, ...],
        grid: Grid,
        trajectories: int = 1,
        attributes: Mapping[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        """Open the writer.

        Args:
            path: archive to write, ``.nc`` or ``.zarr``.
            variables: along k.
            grid: along y and x.
            trajectories: how many the archive will hold.
            attributes: text for the file.
            resume: keep the times an earlier writer left; otherwise they are removed.

        Raises:
            InputError: the ending is unknown or what is there cannot be continued.
        """
        self.path = check_path(path)
        if self.path.suffix == ".zarr":
            check_replaceable(self.path)
        self.variables, self.grid, self.attributes = variables, grid, dict(attributes or {})
        self._archive = GrowingArchive(self.path, variables, grid, trajectories=trajectories, resume=resume)

    @property
    def finished(self) -> bool:
        """Tell whether the archive is there and nothing is left to add to it."""
        return self.path.exists() and not self._archive.folder.exists()

    def done(self, trajectory: int = 0) -> np.ndarray:
        """Return the times already written of a trajectory, datetime64[ns]."""
        return self._archive.times[: self._archive.counts[trajectory]].copy()

    def last(self, trajectory: int = 0) -> Float32[np.ndarray, "m k y x"] | None:
        """Return the members of the last time written of a trajectory, None where there is none."""
        count = self._archive.counts[trajectory]
        return self._archive.read(count - 1, trajectory=trajectory) if count else None

    def append(self, time: np.datetime64, members: Float32[np.ndarray, "n m k y x"]) -> None:
        """Write the members of all trajectories at the next time; see ``append_one``."""
        for trajectory, rows in enumerate(members):
            self.append_one(time, rows, trajectory=trajectory)

    def append_one(
        self, time: np.datetime64, members: Float32[np.ndarray, "m k y x"], *, trajectory: int
    ) -> None:
        """Write the members of one trajectory at its next time, or once more at one it already has.

        Raises:
            InputError: time does not ascend, sizes differ, or the disk is full.
        """
        expected = (len(self.variables), *self.grid.shape)
        if members.shape[1:] != expected:
            raise InputError(
                f"{self.path}: found members of (k, y, x) = {members.shape[1:]}, expected {expected}"
            )
        self._archive.write(time, members, trajectory=trajectory)

    def finish(self) -> None:
        """Give the archive its name; a NetCDF file is written from the Zarr folder, frame by frame.

        Raises:
            InputError: nothing was appended, the trajectories have different times, or the disk is full.
        """
        counts = self._archive.counts
        if not all(counts) or len({*counts}) > 1:
            found = ", ".join(map(str, counts)) if any(counts) else "none"
            raise InputError(
                f"{self.path}: found {found} analysis times, expected as many of each trajectory"
            )
        content = _Content(self.done(), self.variables, self.grid, provenance(self.attributes))
        leading = {"trajectory": len(counts)} if len(counts) > 1 else {}
        dataset = cf.skeleton(content, sizes={**leading, "member": self._archive.members})
        encoding = time_encoding(content.times)
        if self.path.suffix == ".zarr":
            self._archive.verify()
            self._archive.complete(dataset, encoding)
            check_replaceable(self.path)
            try:
                replace_folder(self._archive.store, self.path)
            except OSError as error:
                raise InputError(f"{self.path}: could not be written ({error.strerror or error})") from error
        else:
            with replacing(self.path) as temporary:
                save(dataset, temporary, {"time": encoding})
                self._copy(temporary, (*leading.values(), self._archive.members, content.times.size))
        self._archive.remove()

    def __enter__(self) -> "EnsembleWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def _copy(self, target: Path, leading: tuple[int, ...]) -> None:
        """Copy the frames into the variables of a file that holds the coordinates."""
        several = len(leading) == 3
        dims = (*(("trajectory",) if several else ()), "member", "time", *self.grid.names)
        with created(target, self.variables, (*leading, *self.grid.shape), dims=dims) as arrays:
            for trajectory, count in enumerate(self._archive.counts):
                row = (trajectory,) if several else ()
                for place in range(count):
                    values = self._archive.read(place, trajectory=trajectory)
                    for k, array in enumerate(arrays):
                        array[(*row, slice(None), place)] = values[:, k]
