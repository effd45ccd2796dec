"""A finished Zarr store that loses a chunk says so, through the readers of both halves."""

import os
from pathlib import Path

import numpy as np
import pytest

from assimilation.io.archive import read_ensemble, read_fields, write_ensemble, write_fields
from assimilation.io.registry import read_any_fields
from priors.runtime.errors import InputError
from recon.data.volume import Volume
from recon.io.volumes.registry import read_volume, write_volume
from tests.support.assimilation import tiny_prior


def lose(store: Path, name: str) -> str:
    chunk = next(path for path in sorted((store / name / "c").rglob("*")) if path.is_file())
    chunk.unlink()
    return chunk.relative_to(store).as_posix()


def test_fields(tmp_path):
    fields = tiny_prior.fields(0, 1, 3)
    # A frame without a value is not stored, which is no loss.
    fields.values[0, 1] = np.nan
    store = tmp_path / "a.zarr"
    write_fields(fields, store)
    np.testing.assert_array_equal(read_fields(store).values, fields.values)
    lost = lose(store, "depth")
    for read in (read_fields, read_any_fields):
        with pytest.raises(InputError, match=f"chunk {lost} is missing"):
            read(store)


def test_ensembles(tmp_path):
    from assimilation.fields.fields import Ensemble

    fields = tiny_prior.fields(0, 2, 3)
    members = fields.values[None]
    store = tmp_path / "a.zarr"
    write_ensemble(Ensemble(members, fields.times, fields.variables, fields.grid), store)
    read_ensemble(store)
    lost = lose(store, "depth")
    with pytest.raises(InputError, match=f"chunk {lost} is missing"):
        read_ensemble(store)


def test_volumes(tmp_path):
    values = np.zeros((3, 4, 4), np.float32)
    values[0] = values[2] = 7
    store = tmp_path / "a.zarr"
    write_volume(store, Volume(values, np.eye(4), "HU"))
    np.testing.assert_array_equal(read_volume(store).values, values)
    lost = lose(store, "0")
    with pytest.raises(InputError, match=f"chunk {lost} is missing"):
        read_volume(store)


def test_a_chunk_that_is_a_link_out_of_the_store_is_not_read(tmp_path):
    store = tmp_path / "a.zarr"
    write_fields(tiny_prior.fields(0, 1, 2), store)
    chunk = store / lose(store, "depth")
    (tmp_path / "secret").write_bytes(b"another's")
    os.symlink(tmp_path / "secret", chunk)
    with pytest.raises(InputError, match="is a link to a file outside of the folder"):
        read_fields(store)
