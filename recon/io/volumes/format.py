"""What a file format of volumes is: how it is recognised, read and, where that is offered, written.

A format is one file of this package that ends in a `VolumeFormat`; ``recon.io.volumes.registry`` lists them all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recon.data.volume import Volume


@dataclass(frozen=True)
class ReadOptions:
    """Options of a reader beyond the path.

    Attributes:
        series: SeriesInstanceUID, or its ending, of the DICOM series to read where there are several.
        allow_gaps: interpolate slices that are missing between others, instead of refusing the volume.
    """

    series: str | None = None
    allow_gaps: bool = False


@dataclass(frozen=True)
class WriteOptions:
    """Options of a writer beyond the path.

    Attributes:
        reference: a DICOM series the volume belongs to: its study and frame of reference are kept.
        keep_patient: copy patient and study identification from ``reference``.
    """

    reference: Path | None = None
    keep_patient: bool = False


Read = Callable[[Path, ReadOptions], Volume]
Write = Callable[[Path, Volume, WriteOptions], tuple[str, ...]]
"""Writes an image and returns what a person should know about it, such as clipped values."""


@dataclass(frozen=True)
class VolumeFormat:
    """A file format.

    Attributes:
        name: what ``--format`` calls it.
        title: what a message calls it.
        endings: lower-case endings of names; the first is the one written.
        claims: tells from the path and the first bytes of a file (empty for a folder) whether it is of this kind.
        read: returns the image in a file or folder.
        write: writes an image, or None where only reading is offered.
    """

    name: str
    title: str
    endings: tuple[str, ...]
    claims: Callable[[Path, bytes], bool]
    read: Read
    write: Write | None = None

    def named(self, path: Path) -> bool:
        """Tell whether the name of ``path`` has an ending of this format."""
        return path.name.lower().endswith(self.endings)
