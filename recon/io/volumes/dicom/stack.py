"""CT volumes in DICOM: a folder, a zip archive or one file, stacked by position.

Pixel (row i, column j) of a slice sits at

    P + j s_c c + i s_r r        in left-posterior-superior millimetres

with P = ImagePositionPatient, c and r the two halves of ImageOrientationPatient, s_r and s_c = PixelSpacing.
Slices are sorted by P along the normal c x r, never by file name or instance number; a multi-frame file has one
slice per frame.
Source: DICOM PS3.3 C.7.6.2, C.7.6.16, C.8.2.1. Messages carry file names, geometry and series UIDs, never a
patient's name, number or date.
"""

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from recon.data.volume import Volume
from recon.io.volumes.dicom.files import Named, in_threads, is_dicom, read_files
from recon.io.volumes.dicom.geometry import Slice, stacked
from recon.io.volumes.dicom.pixels import check_size, fill_hounsfield
from recon.io.volumes.dicom.series import choose
from recon.io.volumes.dicom.write import write_dicom
from recon.io.volumes.format import ReadOptions, VolumeFormat
from recon.io.volumes.gaps import interpolated

_SHOWN = {
    "SeriesInstanceUID": "series",
    "KVP": "tube voltage kV",
    "ConvolutionKernel": "kernel",
    "SliceThickness": "slice thickness mm",
    "PatientPosition": "patient position",
}


def read_dicom(path: Path, series: str | None = None, *, allow_gaps: bool = False) -> Volume:
    """Return the volume in HU of one CT series in ``path``.

    Args:
        path: folder, zip archive or single file.
        series: SeriesInstanceUID or its ending, where there are several.
        allow_gaps: interpolate missing slices instead of refusing the series.

    Raises:
        InputError: no DICOM, several CT series and none chosen, a missing or doubled slice, sizes or orientations
            that differ, not CT in HU, or pixels that cannot be decoded.
    """
    # pydicom's warnings quote the offending value, which may be a patient's name: they are not passed on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        passed_over: list[str] = []
        volume = volume_of(path, read_files(path, passed_over), series, allow_gaps=allow_gaps)
        return replace(volume, warnings=(*passed_over, *volume.warnings))


def volume_of(
    path: Path, files: list[Named], series: str | None = None, *, allow_gaps: bool = False
) -> Volume:
    """Return the volume in HU of one CT series among ``files``; ``path`` is what messages call them.

    Raises:
        InputError: see `read_dicom`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slices, remarks_of_choice = choose(path, files, series)
        stack = stacked(path, slices, allow_gaps=allow_gaps)
        ordered, remarks = stack.slices, (*remarks_of_choice, *stack.warnings)
        check_size(ordered[0])
        values = np.empty((len(ordered), *ordered[0].size), np.float32)
        if ordered[0].frame is not None:
            # Decoded once for all frames, before the threads ask for them.
            fill_hounsfield(ordered[0], values[0])
        padded = sum(in_threads(lambda pair: fill_hounsfield(*pair), zip(ordered, values, strict=True)))
        if padded:
            remarks = (
                *remarks,
                f"{padded} pixels inside the scanned circle are marked as padding: they count as air",
            )
        if stack.places[-1] != len(ordered) - 1:
            values, said = interpolated(values, stack.places, np.arange(stack.places[-1] + 1))
            remarks = (*remarks, said)
        if len(ordered) == 1:
            remarks = (*remarks, _one_slice(ordered[0]))
        return Volume(values, stack.affine, "HU", _facts(ordered[0]), remarks)


def _one_slice(only: Slice) -> str:
    if only.number("SliceThickness"):
        return "a single slice: its thickness stands for the distance between slices"
    return "a single slice without SliceThickness: 1 mm was taken for the distance between slices"


def _facts(first: Slice) -> dict[str, str]:
    stated = {label: first.get(key) for key, label in _SHOWN.items()}
    syntax = getattr(first.dataset.file_meta.get("TransferSyntaxUID"), "name", "unknown")
    return {"stored as": str(syntax), **{k: str(v)[:70] for k, v in stated.items() if v not in (None, "")}}


def _claims(path: Path, head: bytes) -> bool:
    folder, named = path.is_dir(), path.name.lower().endswith((".dcm", ".zip"))
    return folder or named or is_dicom(head) or zipfile.is_zipfile(path)


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_dicom(path, options.series, allow_gaps=options.allow_gaps)


FORMAT = VolumeFormat("dicom", "a DICOM CT series (folder, .zip or file)", (), _claims, _read, write_dicom)
