"""Small valid files of every CT format, for `benchmarks/fuzz/fuzz.py` to damage.

A sample is written into an empty folder; it returns what the reader is given and the files that may be damaged.
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gdcm
import h5py
import numpy as np
import pydicom
import scipy.io
import SimpleITK as sitk  # noqa: N813
import tifffile
import yaml
from pydicom.uid import RLELossless

from recon.data.scan import Scan
from recon.data.volume import Volume
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.io.scans.registry import read_scan, write_scan
from recon.io.volumes.registry import read_volume, write_volume
from tests.support.recon.ct_pd_encoder import Gantry, write_ct_pd
from tests.support.recon.multiframe import write_multiframe
from tests.support.recon.series import thorax_like, write_series

VALUES = thorax_like((3, 16, 16))
IMAGE = Volume(VALUES.astype(np.float32), np.diag([-0.7, -0.7, 2.0, 1.0]), "HU")
VIEWS = 12


@dataclass(frozen=True)
class Sample:
    """What is read, by which function, and what is damaged."""

    read: Callable[[Path], object]
    path: Path
    damaged: list[Path]


def volume(name: str) -> Callable[[Path], Sample]:
    """Return a writer of the common volume under a name."""

    def write(folder: Path) -> Sample:
        path = folder / name
        if name.endswith(".npy"):
            np.save(path, VALUES)
            (folder / "volume.yaml").write_text("unit: HU\nvoxel_mm: [2, 0.7, 0.7]\n")
        else:
            write_volume(path, IMAGE)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return Sample(read_volume, path, files)

    return write


def detached(name: str) -> Callable[[Path], Sample]:
    """Return a writer of the common volume as a header that names the file of its values."""

    def write(folder: Path) -> Sample:
        stack = sitk.GetImageFromArray(VALUES)
        stack.SetSpacing([0.7, 0.7, 2.0])
        sitk.WriteImage(stack, str(folder / name), False)
        return Sample(read_volume, folder / name, sorted(folder.iterdir()))

    return write


def series(folder: Path) -> Sample:
    path = write_series(folder / "series", VALUES)
    return Sample(read_volume, path, sorted(path.iterdir()))


def archive(folder: Path) -> Sample:
    path = folder / "series.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(write_series(folder / "series", VALUES).iterdir()):
            packed.write(file, file.name)
    return Sample(read_volume, path, [path])


def compressed(kind: gdcm.TransferSyntax) -> Callable[[Path], Sample]:
    """Return a writer of a series in a compressed transfer syntax of GDCM."""

    def write(folder: Path) -> Sample:
        path = write_series(folder / "series", VALUES)
        for file in path.iterdir():
            compress(file, kind)
        return Sample(read_volume, path, sorted(path.iterdir()))

    return write


def compress(file: Path, kind: int) -> None:
    """Rewrite a DICOM file in another transfer syntax."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    if not reader.Read():
        raise ValueError(f"GDCM cannot read {file}")
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise ValueError(f"GDCM cannot encode {file}")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(file))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise ValueError(f"GDCM cannot write {file}")
    # GDCM writes a RescaleType of its own.
    data = pydicom.dcmread(file)
    data.RescaleType = "HU"
    data.save_as(file)


def run_length(folder: Path) -> Sample:
    path = write_series(folder / "series", VALUES, change=lambda _, data: data.compress(RLELossless))
    return Sample(read_volume, path, sorted(path.iterdir()))


def multiframe(folder: Path) -> Sample:
    path = write_multiframe(folder / "enhanced.dcm", VALUES)
    return Sample(read_volume, path, [path])


def pages(folder: Path) -> Sample:
    path = folder / "pages"
    path.mkdir()
    for k, page in enumerate(VALUES):
        tifffile.imwrite(path / f"page_{k}.tif", page, compression="zlib")
    (folder / "pages.yaml").write_text("unit: HU\nvoxel_mm: [2, 0.7, 0.7]\n")
    return Sample(read_volume, path, sorted(path.iterdir()))


def lines() -> np.ndarray:
    """Return line integrals (view, row, column) of a disc off the axis, noisy."""
    angles, column = np.pi * np.arange(VIEWS)[:, None] / VIEWS, np.arange(20) - 9.5
    chord = np.sqrt(np.maximum(16 - (column - 3 * np.cos(angles)) ** 2, 0)) * 0.2
    return (chord + np.random.default_rng(0).normal(0, 0.01, chord.shape))[:, None].astype(np.float32)


def own_scan(folder: Path) -> Sample:
    orbit = Parallel(views=VIEWS, columns=20, column_mm=1.0, rows=1, row_mm=1.0)
    data = Scan(
        lines(), orbit.geometry(), Grid((1, 20, 20), (1.0, 1.0, 1.0)), np.ones((VIEWS, 1, 20), np.float32)
    )
    write_scan(folder / "scan.h5", data)
    return Sample(read_scan, folder / "scan.h5", [folder / "scan.h5"])


def radiographs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return radiographs, dark and flat fields (frame, row, column)."""
    generator = np.random.default_rng(1)
    dark, flat = generator.poisson(50, (3, 1, 20)), generator.poisson(5000, (3, 1, 20))
    return generator.poisson(50 + 5000 * np.exp(-lines())), dark, flat


def data_exchange(folder: Path) -> Sample:
    path = folder / "scan.h5"
    raw, dark, flat = radiographs()
    with h5py.File(path, "w") as file:
        file["exchange/data"], file["exchange/data_dark"], file["exchange/data_white"] = raw, dark, flat
        file["exchange/theta"] = np.linspace(0, 180, VIEWS)
    return Sample(read_scan, path, [path])


def nxtomo(folder: Path) -> Sample:
    path = folder / "scan.nxs"
    raw, dark, flat = radiographs()
    with h5py.File(path, "w") as file:
        file["entry/instrument/detector/data"] = np.concatenate([flat, dark, raw])
        file["entry/instrument/detector/image_key"] = [1] * 3 + [2] * 3 + [0] * VIEWS
        file["entry/sample/rotation_angle"] = np.r_[np.zeros(6), np.linspace(0, 180, VIEWS)]
    return Sample(read_scan, path, [path])


def htc(version: int) -> Callable[[Path], Sample]:
    """Return a writer of a HTC 2022 file of MATLAB version 5 or 7.3."""
    parameters = {
        "angles": np.arange(float(VIEWS)), "distanceSourceOrigin": 410.66, "distanceSourceDetector": 553.74,
        "pixelSizePost": 2.0, "effectivePixelSizePost": 0.148, "numDetectorsPost": 20.0,
    }  # fmt: skip

    def write(folder: Path) -> Sample:
        path, sinogram = folder / "scan.mat", lines()[:, 0].astype(np.float64)
        if version == 5:
            content = {"CtDataLimited": {"sinogram": sinogram, "parameters": parameters}}
            scipy.io.savemat(path, content, do_compression=True)
        else:
            with h5py.File(path, "w", userblock_size=512) as file:
                file["CtDataLimited/sinogram"] = sinogram.T
                for key, value in parameters.items():
                    file[f"CtDataLimited/parameters/{key}"] = np.atleast_2d(value).T
        return Sample(read_scan, path, [path])

    return write


def described(folder: Path) -> Sample:
    np.save(folder / "lines.npy", lines())
    orbit = {"name": "parallel", "views": VIEWS, "column_mm": 1.0}
    told = {"data": "lines.npy", "kind": "line-integrals", "unit": "HU", "orbit": orbit, "i0": 1e4}
    (folder / "scan.yaml").write_text(yaml.safe_dump(told))
    return Sample(read_scan, folder / "scan.yaml", [folder / "scan.yaml", folder / "lines.npy"])


def projections(folder: Path) -> Sample:
    gantry = Gantry(np.linspace(0, 2, 4), np.arange(4.0))
    path = write_ct_pd(folder / "scan", gantry, np.ones((4, 4, 24)), photons=np.full(24, 1e4))
    return Sample(read_scan, path, sorted(path.iterdir()))


SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "dicom": series,
    "dicom-zip": archive,
    "dicom-jpeg-lossless": compressed(gdcm.TransferSyntax.JPEGLosslessProcess14_1),
    "dicom-jpeg-ls": compressed(gdcm.TransferSyntax.JPEGLSLossless),
    "dicom-jpeg-2000": compressed(gdcm.TransferSyntax.JPEG2000Lossless),
    "dicom-rle": run_length,
    "dicom-multiframe": multiframe,
    "nifti": volume("volume.nii"),
    "nifti-gz": volume("volume.nii.gz"),
    "metaimage": volume("volume.mha"),
    "metaimage-detached": detached("volume.mhd"),
    "nrrd": volume("volume.nrrd"),
    "nrrd-detached": detached("volume.nhdr"),
    "npy": volume("volume.npy"),
    "npz": volume("volume.npz"),
    "tiff": volume("volume.tif"),
    "tiff-pages": pages,
    "zarr": volume("volume.zarr"),
    "hdf5-volume": volume("volume.h5"),
    "scan": own_scan,
    "data-exchange": data_exchange,
    "nxtomo": nxtomo,
    "htc-matlab-5": htc(5),
    "htc-matlab-7.3": htc(73),
    "scan-yaml": described,
    "ct-pd": projections,
}
