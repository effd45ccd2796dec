"""How fast a series of 512 slices of 512 x 512 loads, against SimpleITK: both to float32 HU with geometry.

    python -m benchmarks.speed.dicom FOLDER [--repeats 5]

FOLDER is written from the slices of a real patient (data/ct/covidctmd_cap002.zip, repeated) where it does not exist:
258 MB, keep it outside the repository. The two take turns; reported is the best of the repeats, in wall time and in
processor time, which a machine shared with others disturbs less. Files come from the page cache.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from benchmarks.support.real_data import real_data
from recon.data.volume import Volume
from recon.io.volumes.registry import read_volume, write_volume

SLICES = 512


def write_series(folder: Path) -> None:
    patient = read_volume(real_data("ct/covidctmd_cap002.zip"))
    count = len(patient.values)
    values = np.concatenate([patient.values] * (-(-SLICES // count)))[:SLICES]
    write_volume(folder, Volume(values, patient.affine, "HU"), name="dicom")


def with_simpleitk(folder: Path) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetOutputPixelType(sitk.sitkFloat32)
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def with_tomocast(folder: Path) -> np.ndarray:
    return read_volume(folder).values


def seconds(load: Callable[[Path], np.ndarray], folder: Path) -> tuple[float, float, np.ndarray]:
    """Return wall and processor seconds, and the values."""
    wall, cpu = time.perf_counter(), time.process_time()
    values = load(folder)
    return time.perf_counter() - wall, time.process_time() - cpu, values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    told = parser.parse_args()
    if not told.folder.exists():
        write_series(told.folder)
    best = {"tomocast": (np.inf, np.inf), "SimpleITK": (np.inf, np.inf)}
    for _ in range(told.repeats):
        for name, load in (("tomocast", with_tomocast), ("SimpleITK", with_simpleitk)):
            wall, cpu, values = seconds(load, told.folder)
            best[name] = (min(best[name][0], wall), min(best[name][1], cpu))
            assert values.shape == (SLICES, 512, 512)
            del values
    for name, (wall, cpu) in best.items():
        print(f"{name:<10} {wall:6.2f} s wall  {cpu:6.2f} s processor")


if __name__ == "__main__":
    main()
