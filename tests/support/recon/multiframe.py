"""Writes an Enhanced CT file: all slices as frames, their geometry in functional groups."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_multiframe(
    path: Path,
    values: np.ndarray,
    *,
    order: Sequence[int] | None = None,
    slopes: Sequence[float] | None = None,
    step: Sequence[float] = (0.0, 0.0, 2.5),
    change: Callable[[FileDataset], None] | None = None,
) -> Path:
    """Write ``values`` (z, y, x) in HU as frames.

    Args:
        path: file. order: which slice each frame holds. slopes: rescale slope per frame; 1 for all by default.
        step: from a slice to the next, in mm. change: alters the data set before it is written.
    """
    order = list(order or range(len(values)))
    slopes = list(slopes or [1.0] * len(values))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = (
        EnhancedCTImageStorage,
        meta.MediaStorageSOPInstanceUID,
        "CT",
    )
    data.SeriesInstanceUID, data.PatientName = generate_uid(entropy_srcs=[str(path)]), "SECRET^NAME"
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.NumberOfFrames, data.Rows, data.Columns = len(values), *values.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], float(np.linalg.norm(step))
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    data.SharedFunctionalGroupsSequence = [shared]
    frames, stored = [], []
    for k, slope in zip(order, slopes, strict=True):
        frame, position, rescale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [float(k * s) for s in step]
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, -1024, "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [rescale]
        frames.append(frame)
        stored.append(np.rint((values[k].astype(np.float64) + 1024) / slope).astype("<u2"))
    data.PerFrameFunctionalGroupsSequence = frames
    data.PixelData = np.stack(stored).tobytes()
    if change is not None:
        change(data)
    data.save_as(path, enforce_file_format=True)
    return path
