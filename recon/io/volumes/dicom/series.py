"""The series among DICOM files: which there are, which one is read, and whether it is a CT in HU.

Without a choice, the one series that is a CT volume is read: scouts, dose reports and other modalities beside it
are left out and named. Several CT series are a question to the user, answered by ``--series``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from priors.runtime.errors import InputError
from recon.io.volumes.dicom.files import Named
from recon.io.volumes.dicom.geometry import Slice, frames

_STORAGE = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_UNSPECIFIED = ("US",)
"""GDCM writes US (unspecified) into CT images that state no type; with slope and intercept a CT image is in HU."""
_PROJECTION_ROWS = 0x70291010


class SeveralSeriesError(InputError):
    """Several CT series and none chosen; ``listed`` has a line for each."""

    def __init__(self, path: Path, listed: tuple[str, ...]) -> None:
        """Say which there are and how one is chosen."""
        super().__init__(
            f"{path}: found {len(listed)} series: {'; '.join(listed)}; choose one with --series UID"
        )
        self.listed = listed


@dataclass(frozen=True, eq=False)
class Series:
    """Files of one SeriesInstanceUID."""

    uid: str
    files: list[Named]

    def told(self) -> str:
        """Return a line for a list: how many files of what, and the UID."""
        first = Slice(*self.files[0])
        size = f" of {_word(first, 'Rows')} x {_word(first, 'Columns')}" if _word(first, "Rows") else ""
        plural = "s" if len(self.files) > 1 else ""
        kind = _word(first, "Modality") or "unknown"
        return f"{self.uid or 'no UID'} ({len(self.files)} {kind} file{plural}{size})"


def _word(plane: Slice, key: str) -> str:
    """Return an attribute for a list; one that cannot be decoded is reported when its series is read."""
    try:
        return str(plane.get(key) or "")
    except InputError:
        return ""


def choose(path: Path, files: list[Named], wanted: str | None) -> tuple[list[Slice], tuple[str, ...]]:
    """Return the slices of the wanted, or the only, CT series, and remarks on what was left out.

    Raises:
        InputError: there is none, there are several, or a slice is not CT in HU.
    """
    if not files:
        raise InputError(f"{path}: found no DICOM slices, expected one CT series")
    every = _by_uid(files)
    series, remarks = _chosen(path, every, wanted)
    slices = [plane for name, data in series.files for plane in frames(name, data)]
    for plane in slices:
        check_ct(plane)
    if any(plane.get("RescaleType") in _UNSPECIFIED for plane in slices):
        sentence = (
            "RescaleType is US (unspecified): taken as HU, which CT images with slope and intercept are in"
        )
        remarks = (*remarks, sentence)
    for keyword in ("ConvolutionKernel", "KVP"):
        values = sorted({str(plane.get(keyword) or "not stated")[:16] for plane in slices})
        if len(values) > 1:
            mixed = f"{keyword} differs within the series ({', '.join(values[:3])})"
            remarks = (*remarks, f"{mixed}: reconstructions of two kinds may be mixed")
    return slices, remarks


def _by_uid(files: Iterable[Named]) -> list[Series]:
    members: dict[str, list[Named]] = {}
    for name, data in files:
        members.setdefault(str(Slice(name, data).get("SeriesInstanceUID") or ""), []).append((name, data))
    return sorted((Series(uid, own) for uid, own in members.items()), key=lambda s: (-len(s.files), s.uid))


def _chosen(path: Path, every: list[Series], wanted: str | None) -> tuple[Series, tuple[str, ...]]:
    listed = "; ".join(series.told() for series in every)
    if wanted is not None:
        fitting = [series for series in every if series.uid.endswith(wanted)]
        exact = [series for series in fitting if series.uid == wanted]
        if len(exact or fitting) != 1:
            raise InputError(f"{path}: series: found {len(fitting)} that end in '{wanted}' among {listed}")
        return (exact or fitting)[0], ()
    if len(every) == 1:
        return every[0], ()
    usable = [series for series in every if not _is_something_else(series)]
    if len(usable) != 1:
        raise SeveralSeriesError(path, tuple(series.told() for series in every))
    left = "; ".join(series.told() for series in every if series is not usable[0])
    return usable[0], (f"left out {len(every) - 1} other series: {left}",)


def _is_something_else(series: Series) -> bool:
    """Tell whether all files say that they are no CT slices; a damaged file does not say so."""
    return all(_other_kind(Slice(name, data)) is not None for name, data in series.files)


def _other_kind(plane: Slice) -> str | None:
    """Return what a file is instead of a CT slice, None if it is one or does not say."""
    modality, kind = plane.get("Modality"), plane.get("SOPClassUID")
    if modality is None:
        return None
    if _PROJECTION_ROWS in plane.dataset:
        return "holds projection data (DICOM-CT-PD), expected images; reconstruct it first"
    if modality != "CT" or (kind is not None and kind not in _STORAGE):
        return f"found modality {modality} ({getattr(kind, 'name', kind)}), expected CT Image Storage"
    if "LOCALIZER" in (plane.get("ImageType") or []):
        return "is a localizer (scout) image, expected axial slices"
    return None


def check_ct(plane: Slice) -> None:
    """Refuse a slice that is not CT in HU.

    Raises:
        InputError: with what it is.
    """
    name = plane.name
    if plane.get("Modality") is None:
        raise InputError(f"{name}: has no Modality; truncated DICOM file?")
    other = _other_kind(plane)
    if other is not None:
        raise InputError(f"{name}: {other}")
    if "PixelData" not in plane.dataset:
        raise InputError(f"{name}: has no PixelData; truncated DICOM file?")
    samples, bits = plane.number("SamplesPerPixel") or 1, plane.number("BitsStored") or 16
    if samples != 1 or bits <= 8:
        raise InputError(
            f"{name}: found pixels of {samples:.0f} sample(s) of {bits:.0f} bits, which is a picture, "
            "expected CT values of more than 8 bits"
        )
    # A multi-frame file may give them per frame; each frame is checked when its values are made.
    if plane.frame is None and plane.get("PerFrameFunctionalGroupsSequence") is not None:
        return
    slope = plane.number("RescaleSlope")
    if slope is None or plane.number("RescaleIntercept") is None:
        raise InputError(
            f"{name}: RescaleSlope and RescaleIntercept are missing, so its values are not known to be HU"
        )
    if str(plane.get("RescaleType") or "HU").strip().upper() not in (*_UNSPECIFIED, "HU"):
        raise InputError(f"{name}: RescaleType: found {str(plane.get('RescaleType'))[:20]!r}, expected HU")
    if slope == 0:
        raise InputError(f"{name}: RescaleSlope: found 0, expected a number that is not 0")
