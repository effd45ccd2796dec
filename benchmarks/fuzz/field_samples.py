"""Small valid files of every format of fields and observations, to be damaged by `benchmarks/fuzz/fuzz.py`.

A sample is written into an empty folder; it returns what the reader is given and the files that may be damaged. Files
of weather services and GRIB messages are real ones, from the folder in TOMOCAST_DATA.
"""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from assimilation.fields.fields import Fields, Grid, Variable
from assimilation.io.archive import write_fields
from assimilation.io.registry import open_stream
from assimilation.io.streams import read_observations
from benchmarks.fuzz.ct_samples import Sample
from benchmarks.support.real_data import real_data
from tests.support.assimilation.odim_file import some_counts, write_odim
from tests.support.assimilation.sevir_file import write_sevir
from tests.support.command_line import inside

GRID = Grid(40 + np.arange(6) * 0.5, np.arange(8) * 0.5, "sphere", "degree")
FMI = "radar_fmi_20160928/201609281445_fmi.radar.composite.lowest_FIN_SUOMI1.pgm.gz"
MESSAGE_BYTES = 3342
"""Of one message of the sample of GRIB."""


def read_all(path: Path) -> None:
    """Read every frame."""
    with open_stream(path) as stream:
        for trajectory, time in np.ndindex(stream.trajectories, stream.times.size):
            stream.read(trajectory, time)


def some_fields() -> Fields:
    values = np.random.default_rng(0).normal(280, 5, (1, 4, 1, *GRID.shape)).astype(np.float32)
    values[0, 1, 0, :2] = np.nan
    times = np.datetime64("2020-01-01", "ns") + np.arange(4) * np.timedelta64(3600, "s")
    return Fields(values, times, (Variable("t2m", "K", "air_temperature"),), GRID)


def fields(name: str) -> Callable[[Path], Sample]:
    """Return a writer of the common fields under a name."""

    def write(folder: Path) -> Sample:
        path = folder / name
        if name == "classic.nc":
            # An attribute of this name hides the variables from scipy, which writes the classic format.
            some_fields().to_dataset().drop_attrs(deep=False).to_netcdf(path, engine="scipy")
        else:
            write_fields(some_fields(), path)
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        return Sample(read_all, path, files)

    return write


def real(name: str, size: int | None = None) -> Callable[[Path], Sample]:
    """Return a copier of a real file, or of its first bytes."""

    def write(folder: Path) -> Sample:
        source = real_data(f"weather/{name}")
        path = folder / source.name
        if size is None:
            shutil.copyfile(source, path)
        else:
            path.write_bytes(source.read_bytes()[:size])
        return Sample(read_all, path, [path])

    return write


def plain_pgm(folder: Path) -> Sample:
    """Write the image without gzip, whose checksum hides damage from the reader."""
    packed = real(FMI)(folder).path
    path = packed.with_suffix("")
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    return Sample(read_all, path, [path])


def odim(folder: Path) -> Sample:
    path = folder / "composite.h5"
    write_odim(path, some_counts())
    return Sample(read_all, path, [path])


def sevir(folder: Path) -> Sample:
    path, _ = write_sevir(folder)
    return Sample(read_all, path / "S1", [path, folder / "CATALOG.csv"])


def observations(ending: str) -> Callable[[Path], Sample]:
    """Return a writer of observations of the common fields."""

    def write(folder: Path) -> Sample:
        path, truth = folder / f"obs.{ending}", folder / "truth.nc"
        write_fields(some_fields(), truth)
        inside("observe", truth, "--sigma", "0.5K", "--fraction", "0.5", "--out", path)
        truth.unlink()
        return Sample(read_observations, path, [path])

    return write


SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "fields-netcdf4": fields("new.nc"),
    "fields-netcdf3": fields("classic.nc"),
    "fields-zarr": fields("new.zarr"),
    "fields-grib": real("era5_uk_2t_20190301-0322.grib", 2 * MESSAGE_BYTES),
    "fields-odim": odim,
    "fields-sevir": sevir,
    "fields-fmi": plain_pgm,
    "fields-fmi-gzip": real(FMI),
    "fields-meteoswiss": real("radar_mch_20150515/AQC151351545F_00005.801.gif"),
    "fields-knmi": real("radar_knmi_20100826/RAD_NL25_RAP_5min_201008260000.h5"),
    "fields-bom": real("radar_bom66_20201031/66_20201031_000000.prcp-c10.nc"),
    "observations-gridded": observations("nc"),
    "observations-csv": observations("csv"),
    "observations-parquet": observations("parquet"),
}
