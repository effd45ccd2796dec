"""A volume as a DICOM CT series: one CT Image Storage file per slice, in a folder.

Stored = round(HU) + 1024 in 16 unsigned bits, clipped to -1024 ... 64511 HU: slope 1, intercept -1024. The series
and its instances get new UIDs and are marked DERIVED\\SECONDARY and not for diagnostic use. With a reference series
the study, the frame of reference and the patient's position are its own, so that viewers fuse the two; who the
patient is, is copied only on request.
Source: DICOM PS3.3 A.3 (CT Image IOD), C.7.6.2 (image plane), C.8.2.1 (CT image).
"""

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt16
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic_folder
from recon.data.volume import LPS_TO_RAS, Volume
from recon.io.volumes.dicom.files import read_files
from recon.io.volumes.dicom.geometry import Slice
from recon.io.volumes.format import WriteOptions

INTERCEPT = -1024
HIGHEST = 2**16 - 1 + INTERCEPT
WARNING = "Not for diagnostic use"
_KEPT = ("StudyInstanceUID", "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition")
_PATIENT = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_EMPTY = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "PositionReferenceIndicator", "PatientPosition", "KVP", "AcquisitionNumber"),
    "Laterality",
)


@dataclass(frozen=True)
class Plane:
    """Where the slices are: LPS mm.

    Attributes:
        orientation: unit vectors of growing column and row index.
        spacing: distance of rows and of columns.
        origin: centre of the first pixel of slice 0. step: from a slice to the next.
    """

    orientation: Float64[np.ndarray, "2 3"]
    spacing: tuple[float, float]
    origin: Float64[np.ndarray, " 3"]
    step: Float64[np.ndarray, " 3"]

    @classmethod
    def of(cls, path: Path, image: Volume) -> "Plane":
        """Return the planes of an image.

        Raises:
            InputError: rows and columns of a slice are not at right angles, which DICOM cannot say.
        """
        affine = LPS_TO_RAS @ image.affine
        lengths = np.linalg.norm(affine[:3, :2], axis=0)
        orientation = (affine[:3, :2] / lengths).T
        if abs(orientation[0] @ orientation[1]) > 1e-4:
            raise InputError(f"{path}: the axes of a slice are not at right angles, which DICOM cannot store")
        return cls(orientation, (float(lengths[1]), float(lengths[0])), affine[:3, 3], affine[:3, 2])

    @property
    def thickness(self) -> float:
        """Distance in mm between the planes of two slices."""
        return float(abs(self.step @ np.cross(*self.orientation)))


def write_dicom(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    """Write ``image`` as a series into the new folder ``path`` and return remarks on what was changed.

    Raises:
        InputError: not in HU, the folder is not empty, a reference is not DICOM, or a slice is sheared.
    """
    if image.unit != "HU":
        raise InputError(f"{path}: found a volume in {image.unit}, expected HU: DICOM CT stores nothing else")
    plane, common = Plane.of(path, image), _common(path, options)
    _describe(common, plane, image)
    clipped = 0
    with atomic_folder(path) as folder:
        for k, values in enumerate(image.values):
            stored = np.rint(values) - INTERCEPT
            clipped += int(((stored < 0) | (stored > 2**16 - 1)).sum())
            pixels = np.clip(stored, 0, 2**16 - 1).astype("<u2")
            _save(folder / f"{k + 1:05d}.dcm", common, plane, k=k, pixels=pixels)
    remarks: tuple[str, ...] = ("values are rounded to whole HU",)
    if clipped:
        share = f"{clipped} of {image.values.size} voxels"
        remarks = (*remarks, f"{share} lie outside {INTERCEPT} ... {HIGHEST} HU and are clipped")
    return remarks


def _common(path: Path, options: WriteOptions) -> Dataset:
    """Return what all instances share about patient, study and frame of reference."""
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    for key in _EMPTY:
        setattr(common, key, None)
    common.PatientName, common.PatientID = "ANONYMOUS^", "ANONYMOUS"
    common.PatientIdentityRemoved, common.DeidentificationMethod = "YES", "patient data not copied"
    common.StudyInstanceUID, common.FrameOfReferenceUID = generate_uid(None), generate_uid(None)
    if options.keep_patient and options.reference is None:
        raise InputError("keep-patient: needs a reference, the DICOM series whose patient is meant")
    if options.reference is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _copy(common, _reference(options.reference), options.keep_patient)
    return common


def _reference(path: Path) -> Slice:
    if not path.exists():
        raise InputError(f"{path}: does not exist, expected the DICOM series the volume belongs to")
    files = read_files(path)
    if not files:
        raise InputError(f"{path}: found no DICOM files, expected the series the volume belongs to")
    slices = [Slice(*named) for named in files]
    for key in _KEPT[:2]:
        if len({str(item.get(key)) for item in slices}) > 1:
            raise InputError(f"{path}: holds several values of {key}, expected files of one study and frame")
    return slices[0]


def _copy(common: Dataset, reference: Slice, keep_patient: bool) -> None:
    if keep_patient:
        del common.PatientIdentityRemoved, common.DeidentificationMethod
    else:
        # Study and frame of reference lead back to the patient's other images.
        common.PatientIdentityRemoved = "NO"
        common.DeidentificationMethod = "patient data not copied; study and frame of reference UIDs kept"
    for key in (*_KEPT, *(_PATIENT if keep_patient else ())):
        found = reference.get(key)
        if found is not None:
            setattr(common, key, found)


def _describe(common: Dataset, plane: Plane, image: Volume) -> None:
    """Add what all instances share about series, equipment and pixels."""
    now = datetime.now(UTC)
    common.Modality, common.SeriesInstanceUID, common.SeriesNumber = "CT", generate_uid(None), 9001
    common.SeriesDescription = f"tomocast reconstruction. {WARNING}"
    common.SeriesDate = common.ContentDate = now.strftime("%Y%m%d")
    common.SeriesTime = common.ContentTime = now.strftime("%H%M%S")
    common.Manufacturer, common.ManufacturerModelName = "tomocast", "tomocast"
    common.SoftwareVersions = metadata.version("tomocast")
    common.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    common.DerivationDescription = "Reconstructed or converted by tomocast"
    common.ImageComments = f"{WARNING}. Written by tomocast; values rounded to whole HU."
    common.BurnedInAnnotation, common.LossyImageCompression = "NO", "00"
    common.SOPClassUID = CTImageStorage
    common.Rows, common.Columns = image.values.shape[1:]
    common.SamplesPerPixel, common.PhotometricInterpretation = 1, "MONOCHROME2"
    common.BitsAllocated, common.BitsStored, common.HighBit, common.PixelRepresentation = 16, 16, 15, 0
    common.RescaleIntercept, common.RescaleSlope, common.RescaleType = INTERCEPT, 1, "HU"
    common.WindowCenter, common.WindowWidth = 40, 400
    common.PixelSpacing = _decimal(plane.spacing)
    common.ImageOrientationPatient = _decimal(plane.orientation.ravel())
    common.SliceThickness = _decimal([plane.thickness])[0]


def _save(path: Path, common: Dataset, plane: Plane, *, k: int, pixels: UInt16[np.ndarray, "y x"]) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid(None)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), common, file_meta=meta, preamble=b"\0" * 128)
    data.SOPInstanceUID, data.InstanceNumber = meta.MediaStorageSOPInstanceUID, k + 1
    data.ImagePositionPatient = _decimal(plane.origin + k * plane.step)
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)


def _decimal(numbers: Any) -> list[DSfloat]:
    """Return decimal strings of at most 16 characters, as the standard asks."""
    return [DSfloat(float(number), auto_format=True) for number in numbers]
