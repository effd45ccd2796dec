"""Damaged files of every format are read or refused in one line; `benchmarks` has the long version."""

import contextlib
import shutil

import numpy as np
import pytest

from assimilation.fields.fields import Fields, Grid, Variable
from assimilation.io.archive import write_fields
from assimilation.io.classic import check_classic
from assimilation.io.observations.files import write_observations
from assimilation.io.registry import open_stream
from assimilation.io.streams import read_observations
from assimilation.observation.instruments import Everything
from assimilation.observation.observing import Observed
from priors.runtime.errors import InputError
from tests.support.assimilation.odim_file import some_counts, write_odim
from tests.support.assimilation.sevir_file import write_sevir
from tests.support.real_data import real_data

CASES = 12


def some_fields():
    values = np.random.default_rng(0).normal(280, 5, (1, 3, 1, 4, 5)).astype(np.float32)
    times = np.datetime64("2020-01-01", "ns") + np.arange(3) * np.timedelta64(3600, "s")
    grid = Grid(40 + np.arange(4) * 0.5, np.arange(5) * 0.5, "sphere", "degree")
    return Fields(values, times, (Variable("t2m", "K", "air_temperature"),), grid)


def classic(folder):
    some_fields().to_dataset().drop_attrs(deep=False).to_netcdf(folder / "a.nc", engine="scipy")
    return folder / "a.nc"


def written(name):
    def write(folder):
        write_fields(some_fields(), folder / name)
        return folder / name

    return write


def observed(name):
    def write(folder):
        held = some_fields()
        sigma = np.full(held.values.shape, 0.5, np.float32)
        write_observations(Observed(held, sigma, Everything(), held.variables, held.grid), folder / name)
        return folder / name

    return write


def odim(folder):
    write_odim(folder / "a.h5", some_counts())
    return folder / "a.h5"


def grib(folder):
    pytest.importorskip("cfgrib")
    whole = real_data("weather/era5_uk_2t_20190301-0322.grib").read_bytes()
    (folder / "a.grib").write_bytes(whole[: 2 * 3342])
    return folder / "a.grib"


WRITERS = {
    "classic": classic,
    "netcdf": written("a.nc"),
    "zarr": written("a.zarr"),
    "odim": odim,
    "sevir": lambda folder: write_sevir(folder, ("S1",))[0],
    "grib": grib,
    "csv": observed("o.csv"),
    "parquet": observed("o.parquet"),
    "gridded": observed("o.nc"),
}


def read(path):
    if path.name.startswith("o."):
        read_observations(path)
        return
    with open_stream(path) as stream:
        for trajectory, time in np.ndindex(stream.trajectories, stream.times.size):
            stream.read(trajectory, time)


def damaged(content, draw):
    """Return content with flipped bits, cut short, or with some bytes of its head replaced."""
    changed = bytearray(content)
    kind = draw.integers(3)
    if kind == 0:
        for place in draw.integers(0, len(changed), 8):
            changed[place] ^= 1 << int(draw.integers(8))
    elif kind == 1:
        del changed[int(draw.integers(0, len(changed))) :]
    else:
        place = int(draw.integers(0, min(512, len(changed))))
        changed[place : place + 4] = draw.bytes(4) if draw.integers(2) else b"\x7f\xff\xff\xff"
    return bytes(changed)


@pytest.mark.parametrize("kind", WRITERS)
def test_damage_is_told_in_one_line(tmp_path, kind):
    (tmp_path / "sound").mkdir()
    sound = WRITERS[kind](tmp_path / "sound")
    read(sound)  # a sample that is refused undamaged would test nothing
    for case in range(CASES):
        draw = np.random.default_rng([len(kind), case])
        work = tmp_path / "work"
        shutil.copytree(tmp_path / "sound", work)
        path = work / sound.relative_to(tmp_path / "sound")
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        victim = files[draw.integers(len(files))]
        victim.write_bytes(damaged(victim.read_bytes(), draw))
        # Any other error fails the test.
        with contextlib.suppress(InputError):
            read(path)
        shutil.rmtree(work)


def test_every_place_of_a_classic_header_may_be_wrong(tmp_path):
    path = classic(tmp_path)
    check_classic(path)
    sound = path.read_bytes()
    refused = 0
    for place in range(4, 400, 4):
        path.write_bytes(sound[:place] + b"\x7f\xff\xff\xff" + sound[place + 4 :])
        try:
            check_classic(path)
        except InputError:
            refused += 1
    assert refused > 20  # the rest are letters of names and values of attributes
    path.write_bytes(sound[: len(sound) - 40])
    with pytest.raises(InputError, match="a variable ends at byte"):
        check_classic(path)
