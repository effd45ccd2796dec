"""Writes DICOM-CT-PD projections from the published table of tags: there is no public sample to test with.

Everything here is in the format's own left-handed frame, written from the user manual, so that the reader's change of
frame is tested and not repeated: the point (rho, phi, z) is at (-rho sin phi, rho cos phi, z);
rows and columns count from 1, row 1 farthest from the table (largest z), column 1 at the left when the detector is at
6 o'clock.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from recon.io.scans.ct_pd.header import TAGS

CREATORS = (0x70290010, 0x70310010, 0x70330010, 0x70370010, 0x70390010, 0x70410010)


@dataclass(frozen=True)
class Gantry:
    """A scanner in the format's frame. Angles in radians, lengths in mm, elements counted from 1."""

    angles: np.ndarray
    heights: np.ndarray
    rows: int = 4
    columns: int = 24
    row_mm: float = 1.2
    column_mm: float = 2.5
    radius_mm: float = 300.0
    depth_mm: float = 540.0
    central: tuple[float, float] = (12.875, 2.25)
    shape: str = "CYLINDRICAL"
    shifts: np.ndarray = field(default_factory=lambda: np.zeros((1, 3)))
    mode: str = "FFSNONE"

    def shift(self, view: int) -> np.ndarray:
        """Return (angle, height, radius) by which the focal spot leaves the focal centre in a view."""
        return np.asarray(self.shifts[view % len(self.shifts)])

    def focal_spot(self, view: int) -> np.ndarray:
        turn, axial, radial = self.shift(view)
        return point(self.radius_mm + radial, self.angles[view] + turn, self.heights[view] + axial)

    def elements(self, view: int) -> np.ndarray:
        """Return the centres (row, column, 3) of all elements of a view."""
        centre = point(self.radius_mm, self.angles[view], self.heights[view])
        inward = -point(1.0, self.angles[view], 0.0)
        # At 12 o'clock the detector is at 6 o'clock and columns grow to the right, +x.
        right = -point(1.0, self.angles[view] + np.pi / 2, 0.0)
        across = (np.arange(1, self.columns + 1) - self.central[0]) * self.column_mm
        # Row 1 has the largest z.
        z = -(np.arange(1, self.rows + 1) - self.central[1]) * self.row_mm
        if self.shape == "FLAT":
            flat = self.depth_mm * inward + across[:, None] * right
        else:
            angle = across[:, None] / self.depth_mm
            flat = self.depth_mm * (np.cos(angle) * inward + np.sin(angle) * right)
        return centre + flat[None] + z[:, None, None] * np.array([0.0, 0.0, 1.0])


def point(rho: float, phi: float, z: float) -> np.ndarray:
    """Return Cartesian coordinates of the format."""
    return np.array([-rho * np.sin(phi), rho * np.cos(phi), z])


def write_ct_pd(
    folder: Path,
    gantry: Gantry,
    lines: np.ndarray,
    *,
    photons: np.ndarray | None = None,
    implicit: bool = False,
    transposed: bool = True,
    **attributes: object,
) -> Path:
    """Write line integrals (view, row, column) as one file per view, named against their order.

    Args:
        folder: is created. gantry: the geometry. photons: per column.
        implicit: write the transfer syntax that keeps no representation of private tags.
        transposed: store a projection column by column, as the public library does.
        attributes: standard attributes to set, or private tags by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    slope = float(lines.max()) / 60000 or 1.0
    series = generate_uid(entropy_srcs=[str(folder)])
    for k, line in enumerate(lines):
        name = folder / f"projection_{len(lines) - k:05d}.dcm"
        data = _blank(name, implicit)
        data.SeriesInstanceUID, data.InstanceNumber, data.PatientName = series, k + 1, "SECRET^NAME"
        image = np.rint(line / slope).astype("<u2")
        image = image.T if transposed else image
        data.Rows, data.Columns, data.PixelData = *image.shape, np.ascontiguousarray(image).tobytes()
        data.RescaleSlope, data.RescaleIntercept = f"{slope:.10g}", "0"
        for tag in CREATORS:
            data.add(DataElement(tag, "LO", "CT-PD"))
        private = {**_tags(gantry, k), **({} if photons is None else {"PhotonStatistics": list(photons)})}
        for key, value in attributes.items():
            if key not in TAGS:
                setattr(data, key, value)
        private.update({key: value for key, value in attributes.items() if key in TAGS})
        for key, value in private.items():
            tag, kind = TAGS[key]
            if value is not None:
                data.add(DataElement(tag, kind, value))
        data.save_as(name, enforce_file_format=True)
    return folder


def _blank(name: Path, implicit: bool) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    data = FileDataset(str(name), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = (
        CTImageStorage,
        meta.MediaStorageSOPInstanceUID,
        "CT",
    )
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    return data


def _tags(gantry: Gantry, view: int) -> dict[str, object]:
    turn, axial, radial = (float(number) for number in gantry.shift(view))
    return {
        "NumberofDetectorRows": gantry.rows,
        "NumberofDetectorColumns": gantry.columns,
        "DetectorElementTransverseSpacing": gantry.column_mm,
        "DetectorElementAxialSpacing": gantry.row_mm,
        "DetectorShape": gantry.shape,
        "DetectorFocalCenterAngularPosition": float(gantry.angles[view]),
        "DetectorFocalCenterAxialPosition": float(gantry.heights[view]),
        "DetectorFocalCenterRadialDistance": gantry.radius_mm,
        "ConstantRadialDistance": gantry.depth_mm,
        "DetectorCentralElement": list(gantry.central),
        "SourceAngularPositionShift": turn,
        "SourceAxialPositionShift": axial,
        "SourceRadialDistanceShift": radial,
        "FlyingFocalSpotMode": gantry.mode,
        "NumberofSourceAngularSteps": len(gantry.angles),
        "NumberofSpectra": 1,
        "SpectrumIndex": 1,
        "TypeofProjectionData": "HELICAL" if np.ptp(gantry.heights) > 0 else "AXIAL",
        "LogFlag": "YES",
        "WaterAttenuationCoefficient": "0.0192",
    }
