"""Writes DICOM series for tests: small CT slices with known values and positions."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Change = Callable[[int, FileDataset], None]


def thorax_like(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return integers in HU (z, y, x): air around a body with noise, no symmetry."""
    generator = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    inside = np.hypot(y - shape[1] * 0.45, (x - shape[2] * 0.55) * 1.2) < shape[1] * 0.35
    values = np.where(inside, 40 + 10 * z, -1000) + generator.integers(-20, 20, shape)
    return np.asarray(np.clip(values, -1024, 3000), np.int16)


def write_series(
    folder: Path,
    values: np.ndarray,
    *,
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    step: Sequence[float] = (0.0, 0.0, 2.5),
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, float] = (0.75, 0.5),
    change: Change | None = None,
) -> Path:
    """Write one file per slice of ``values`` (z, y, x) in HU, named against their order in space.

    Args:
        folder: is created. origin: position of the first slice. step: from a slice to the next, in mm.
        orientation: row and column cosines. spacing: of rows and columns.
        change: alters the data set of slice i before it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, study = generate_uid(entropy_srcs=[str(folder)]), generate_uid(entropy_srcs=["study"])
    for i, slice_ in enumerate(values):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(folder), str(i)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        name = folder / f"slice_{len(values) - i:03d}.dcm"
        data = FileDataset(str(name), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.Modality, data.SeriesInstanceUID, data.StudyInstanceUID = "CT", series, study
        data.PatientName, data.PatientID, data.StudyDate = "SECRET^NAME", "SECRET-ID", "20200131"
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.ImagePositionPatient = [float(o + i * s) for o, s in zip(origin, step, strict=True)]
        data.ImageOrientationPatient, data.PixelSpacing = list(orientation), list(spacing)
        data.SliceThickness = float(np.linalg.norm(step)) or 1.0
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.Rows, data.Columns = slice_.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.PixelData = (slice_.astype(np.int32) + 1024).astype("<u2").tobytes()
        if change is not None:
            change(i, data)
        pydicom.dcmwrite(name, data, enforce_file_format=True)
    return folder
