"""Which CT volumes a folder holds, and whose they are.

DICOM files are grouped by patient and SeriesInstanceUID wherever they lie; zip archives are looked into; NIfTI,
MetaImage and NRRD files are one volume each. Whose a volume is decides the split, so it is taken from what the
files state before it is taken from where they lie. Identities stay in memory: what is written numbers the patients.
"""

import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.tag import Tag

from priors.runtime.errors import InputError
from recon.data.volume import Volume
from recon.io.volumes import metaimage, nifti, nrrd
from recon.io.volumes.dicom.files import Named, is_dicom, parse_file, read_bounded, read_files
from recon.io.volumes.dicom.stack import volume_of
from recon.io.volumes.registry import read_volume
from recon.prepare.settings import SliceSettings

SINGLE_FILES = (nifti.FORMAT, metaimage.FORMAT, nrrd.FORMAT)
_IDENTITY = ("PatientID", "SeriesInstanceUID", "Modality", "ImageType")


@dataclass(frozen=True)
class SeriesSource:
    """One volume that has not been read yet.

    Attributes:
        patient: identity, for the split; never written.
        files: what it is made of; a zip archive or a volume file is one.
        uid: SeriesInstanceUID of a DICOM series, empty for other files.
        dicom: whether it is a DICOM series.
    """

    patient: str
    files: tuple[Path, ...]
    uid: str = ""
    dicom: bool = False

    @property
    def title(self) -> str:
        """What a message calls it: a file, or a folder of slices."""
        return str(self.files[0] if len(self.files) == 1 else self.files[0].parent)

    def read(self) -> Volume:
        """Return the volume in HU.

        Raises:
            InputError: it is damaged, no gapless stack, or not in HU.
        """
        if not self.dicom:
            return read_volume(self.files[0])
        own = [self._named(file) for file in self.files]
        return volume_of(Path(self.title), [name for group in own for name in group], self.uid or None)

    def _named(self, file: Path) -> list[Named]:
        if zipfile.is_zipfile(file):
            return [
                (name, data)
                for name, data in read_files(file)
                if str(_tag(data, "SeriesInstanceUID")) == self.uid
            ]
        return [(file.name, parse_file(file))]


def find_series(source: Path, settings: SliceSettings) -> tuple[list[SeriesSource], int]:
    """Return the CT series and volumes below ``source``, and the number of series that are something else.

    Raises:
        InputError: it is no folder, or holds neither.
    """
    if not source.is_dir():
        raise InputError(f"{source}: is no folder, expected one with DICOM series or NIfTI volumes")
    with warnings.catch_warnings():
        # pydicom's warnings quote the offending value, which may be a patient's name: they are not passed on.
        warnings.simplefilter("ignore")
        return _grouped(source, settings)


def _grouped(source: Path, settings: SliceSettings) -> tuple[list[SeriesSource], int]:
    groups: dict[tuple[str, str], list[Path]] = {}
    other: set[tuple[str, str]] = set()
    plain: list[Path] = []
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        if any(kind.named(file) for kind in SINGLE_FILES):
            plain.append(file)
            continue
        for header in _headers(file):
            key = (_dicom_patient(header, file, source, settings), str(_tag(header, "SeriesInstanceUID")))
            if _is_something_else(header):
                other.add(key)
            elif file not in groups.setdefault(key, []):
                groups[key].append(file)
    sources = [
        SeriesSource(patient, tuple(files), uid, dicom=True)
        for (patient, uid), files in sorted(groups.items())
    ]
    sources += [SeriesSource(_plain_patient(file, plain, source, settings), (file,)) for file in plain]
    if not sources:
        raise InputError(
            f"{source}: found no CT series, expected DICOM slices, zip archives of them, or NIfTI volumes"
            + (f" ({len(other)} series are scouts, reports or other modalities)" if other else "")
        )
    return sources, len(other - groups.keys())


def _headers(file: Path) -> Iterator[Any]:
    """Yield the few attributes that say whose and what a DICOM file is; nothing for any other file."""
    if zipfile.is_zipfile(file):
        yield from (data for _, data in read_files(file))
        return
    with file.open("rb") as stream:
        if not is_dicom(stream.read(132)):
            return
    try:
        with file.open("rb") as stream:
            tags = [int(Tag(name)) for name in _IDENTITY]
            yield read_bounded(file.name, stream, header=True, tags=tags)
    except InputError:
        raise
    except Exception as error:
        # A damaged file makes pydicom fail in many ways.
        raise InputError(f"{file}: is a damaged DICOM file ({type(error).__name__})") from error


def _tag(header: Any, name: str) -> Any:
    """Return an attribute, empty where it is absent or cannot be decoded."""
    try:
        return header.get(name) or ""
    except Exception:
        return ""


def _is_something_else(header: Any) -> bool:
    """Tell whether a file says that it is no CT slice: another modality, or a scout."""
    return str(_tag(header, "Modality")) not in ("CT", "") or "LOCALIZER" in list(_tag(header, "ImageType"))


def _dicom_patient(header: Any, file: Path, source: Path, settings: SliceSettings) -> str:
    stated = str(_tag(header, "PatientID")).strip()
    if settings.patients == "auto" and stated:
        return stated
    return _first(file, source)


def _plain_patient(file: Path, every: list[Path], source: Path, settings: SliceSettings) -> str:
    """Return whose a volume file is: its folder where several folders hold some, else the file itself."""
    folders = {_first(other, source) for other in every if other.parent != source}
    by_folder = settings.patients == "folders" or (settings.patients == "auto" and len(folders) > 1)
    if by_folder and file.parent != source:
        return _first(file, source)
    return file.name.split(".")[0]


def _first(file: Path, source: Path) -> str:
    """Return the name of the first folder below ``source`` on the way to a file, or the file's own."""
    return file.relative_to(source).parts[0].split(".")[0]
