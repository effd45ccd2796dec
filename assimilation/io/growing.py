"""An archive that grows by one frame at a time and survives a kill at any moment.

    .NAME.growing/fields.zarr    one array per variable, ([trajectory,] member, time, y, x), NaN where not yet written
    .NAME.growing/done.json      times so far, and the check sum of every frame of each trajectory

A frame is written before ``done.json`` says so, and each file is replaced as a whole: what a killed process left half
done is written again. A frame that is read has to have the check sum it was written with: a chunk that was deleted or
changed meanwhile is an error, not a field of missing values. Memory holds one frame.
"""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float32

from assimilation.fields import cf
from assimilation.fields.grid import Grid, Variable
from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic
from priors.runtime.files.zarr_chunks import note_absent

CHUNK_BYTES = 16 * 2**20
"""Members of one frame share a chunk up to this size: a long archive then has few files."""


class GrowingArchive:
    """Arrays on disk that take frames in order of time, trajectory by trajectory or all together."""

    def __init__(
        self, path: Path, variables: tuple[Variable, ...], grid: Grid, *, trajectories: int, resume: bool
    ) -> None:
        """Begin or continue.

        Args:
            path: archive that this will become.
            variables: along k.
            grid: along y and x.
            trajectories: how many there will be.
            resume: keep the frames that are there; otherwise they are removed.

        Raises:
            InputError: what is there is damaged or of another kind.
        """
        self.path, self.variables, self.grid, self.trajectories = path, variables, grid, trajectories
        self.folder = path.with_name(f".{path.name}.growing")
        self.times = np.empty(0, "datetime64[ns]")
        self._sums: list[list[int]] = [[] for _ in range(trajectories)]
        self._arrays: list[Any] = []
        if not resume:
            self.remove()
        elif (self.folder / "done.json").exists():
            self._continue()

    @property
    def counts(self) -> list[int]:
        """Return how many frames each trajectory has."""
        return [len(sums) for sums in self._sums]

    @property
    def store(self) -> Path:
        """Return the Zarr folder."""
        return self.folder / "fields.zarr"

    @property
    def members(self) -> int:
        """Return the number of members; 0 before the first frame."""
        return int(self._arrays[0].shape[-4]) if self._arrays else 0

    def write(self, time: np.datetime64, members: Float32[np.ndarray, "m k y x"], *, trajectory: int) -> None:
        """Write one trajectory's next frame, or again one that it has.

        Raises:
            InputError: the time is neither, sizes differ, or the disk is full.
        """
        place = self._time_index(time.astype("datetime64[ns]"), trajectory)
        try:
            if not self._arrays:
                self._create(len(members))
            if len(members) != self.members:
                raise InputError(f"{self.path}: found {len(members)} members, expected {self.members}")
            if place == self.times.size:
                self.times = np.append(self.times, time.astype("datetime64[ns]"))
                for array in self._arrays:
                    array.resize((*array.shape[:-3], self.times.size, *array.shape[-2:]))
            for k, array in enumerate(self._arrays):
                array[self._index(trajectory, place)] = members[:, k]
            self._sums[trajectory][place : place + 1] = [_sum(members)]
            self._note()
        except OSError as error:
            raise InputError(f"{self.path}: could not be written ({error.strerror or error})") from error

    def read(self, place: int, *, trajectory: int) -> Float32[np.ndarray, "m k y x"]:
        """Return a frame that was written.

        Raises:
            InputError: it is no longer what was written.
        """
        index = self._index(trajectory, place)
        try:
            values = [np.asarray(array[index], np.float32) for array in self._arrays]
        except Exception as error:
            # zarr and its codecs fail on damaged chunks in many ways.
            raise self._damaged(place, trajectory) from error
        members = np.stack(values, axis=1)
        if _sum(members) != self._sums[trajectory][place]:
            raise self._damaged(place, trajectory)
        return members

    def verify(self) -> None:
        """Read every frame once.

        Raises:
            InputError: one is no longer what was written.
        """
        for trajectory, count in enumerate(self.counts):
            for place in range(count):
                self.read(place, trajectory=trajectory)

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _damaged(self, place: int, trajectory: int) -> InputError:
        return InputError(
            f"{self.store}: time {self.times[place]} of trajectory {trajectory} is not what was written; the run "
            "cannot be continued: start it again with --overwrite"
        )

    def complete(self, dataset: xr.Dataset, time: dict[str, Any]) -> None:
        """Add coordinates and attributes, after which the Zarr folder is an archive of its own.

        Args:
            dataset: without data variables.
            time: encoding of its times.
        """
        bare = {str(name): {"_FillValue": None} for name in dataset.coords}
        bare["time"] |= time
        dataset.to_zarr(self.store, mode="a", encoding=bare, consolidated=False)
        for left in self.store.rglob("*.partial"):
            left.unlink()
        note_absent(self.store)

    def _time_index(self, time: np.datetime64, trajectory: int) -> int:
        """Return where a time belongs."""
        if not 0 <= trajectory < self.trajectories:
            raise InputError(
                f"{self.path}: found trajectory {trajectory}, expected 0 to {self.trajectories - 1}"
            )
        count = self.counts[trajectory]
        known = np.flatnonzero(self.times[:count] == time)
        if known.size:
            return int(known[0])
        if count < self.times.size and time != self.times[count]:
            raise InputError(
                f"{self.path}: time: found {time} in trajectory {trajectory}, expected {self.times[count]} as in "
                "the others"
            )
        if count and time < self.times[count - 1]:
            raise InputError(
                f"{self.path}: time: found {time} after {self.times[count - 1]}, expected a later one"
            )
        return count

    def _index(self, trajectory: int, place: int) -> tuple[Any, ...]:
        return (*((trajectory,) if self.trajectories > 1 else ()), slice(None), place)

    def _create(self, members: int) -> None:
        import zarr

        leading = (self.trajectories,) if self.trajectories > 1 else ()
        together = max(1, min(members, CHUNK_BYTES // (4 * int(np.prod(self.grid.shape)))))
        mapped = bool(cf.grid_mapping(self.grid))
        shutil.rmtree(self.store, ignore_errors=True)
        group = zarr.open_group(self.store, mode="w")
        for item in self.variables:
            group.create_array(
                item.name,
                shape=(*leading, members, 0, *self.grid.shape),
                chunks=(*(1 for _ in leading), together, 1, *self.grid.shape),
                dtype="float32",
                fill_value=np.float32(np.nan),
                dimension_names=(*(("trajectory",) if leading else ()), "member", "time", *self.grid.names),
                attributes={
                    key: float(value) if isinstance(value, np.floating) else value
                    for key, value in cf.variable_attributes(item, mapped=mapped).items()
                },
            )
        self._arrays = [group[item.name] for item in self.variables]

    def _continue(self) -> None:
        """Take over what an earlier process left."""
        import zarr

        try:
            done = json.loads((self.folder / "done.json").read_text(encoding="utf-8"))
            self.times = np.array(done["times"], "int64").astype("datetime64[ns]")
            self._sums = [[int(one) for one in sums] for sums in done["sums"]]
            group = zarr.open_group(self.store, mode="r+")
            self._arrays = [group[item.name] for item in self.variables]
        except Exception as error:
            # Damaged JSON and damaged Zarr metadata fail in many ways.
            raise InputError(
                f"{self.folder}: cannot be continued ({type(error).__name__}); start the run again with --overwrite"
            ) from error
        # The arrays grow before their frame is written and noted: a kill in between leaves them longer.
        fits = all(
            array.shape[-2:] == self.grid.shape and array.shape[-3] >= self.times.size
            for array in self._arrays
        )
        if len(self._sums) != self.trajectories or not fits:
            raise InputError(f"{self.folder}: holds another archive; start the run again with --overwrite")
        for array in self._arrays:
            if array.shape[-3] > self.times.size:
                array.resize((*array.shape[:-3], self.times.size, *array.shape[-2:]))
        self.verify()

    def _note(self) -> None:
        told = {"times": self.times.astype("int64").tolist(), "sums": self._sums}
        with atomic(self.folder / "done.json") as temporary:
            temporary.write_text(json.dumps(told), encoding="utf-8")


def _sum(members: Float32[np.ndarray, "m k y x"]) -> int:
    return zlib.crc32(np.ascontiguousarray(members, np.float32).data)
