"""Small files that promise much: refused in one line, within bounded memory and processor time.

All commands run in one process that may allocate half a gigabyte beyond its libraries; each file, read without a bound,
would take more than that, or minutes.
"""

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5netcdf
import h5py
import nibabel
import numpy as np
import pytest
import zarr
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tests.support.limited import Answer, Command, run_limited

ROOM = 2**29
SECONDS = 20.0
"""Of processor time per file: a busy machine and an unbounded reader (one to five minutes) are told apart."""
ZEROS = 3 * 2**28
SHAPE = (4096, 1024, 1024)


def deflated() -> bytes:
    """Return raw deflated zeros: less than a megabyte of three quarters of a gigabyte."""
    packer, block = zlib.compressobj(1, zlib.DEFLATED, -15), bytes(2**22)
    return b"".join([packer.compress(block) for _ in range(ZEROS // len(block))] + [packer.flush()])


def gzipped(head: bytes, zeros: bytes) -> bytes:
    """Return a gzip member of some bytes and, in the same stream, the zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return gzip.compress(b"")[:10] + packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + zeros


def npy_header() -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {SHAPE}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npy_xz(path: Path, zeros: bytes) -> None:
    import lzma

    path.write_bytes(lzma.compress(npy_header() + bytes(1000)))


def npz(path: Path, zeros: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("values.npy", npy_header())
    content = path.read_bytes()
    size = struct.pack("<I", len(npy_header()))
    # The directory of the archive says that the member unpacks to 3 GB.
    place = content.index(b"PK\x01\x02") + 24
    assert content[place : place + 4] == size
    path.write_bytes(content[:place] + struct.pack("<I", 3 * 2**30) + content[place + 4 :])


def nifti(path: Path, zeros: bytes) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((2048, 2048, 2048))
    header.set_data_dtype(np.int16)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(gzipped(header.binaryblock + bytes(4), zeros))


def nrrd(path: Path, zeros: bytes) -> None:
    head = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 8 8 8\nendian: little\nencoding: gzip\n\n"
    path.write_bytes(head + gzipped(b"", zeros))


def fmi(path: Path, zeros: bytes) -> None:
    head = b"P5\n# obstime 202001010000\n# metersperpixel_x 1000\n8 8 255\n"
    path.write_bytes(gzipped(head, zeros))


def dicom_head(syntax: str) -> bytes:
    import io

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    write_file_meta_info(stream, meta, enforce_standard=True)
    return bytes(128) + b"DICM" + stream.getvalue()


def dicom_deflated(path: Path, zeros: bytes) -> None:
    path.write_bytes(dicom_head(DeflatedExplicitVRLittleEndian) + zeros)


def dicom_of_zeros(path: Path, zeros: bytes) -> None:
    """A file with a hole: nothing on the disk."""
    with path.open("wb") as stream:
        stream.write(dicom_head(ExplicitVRLittleEndian))
        stream.truncate(2**31)


def dicom_archive(path: Path, zeros: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("0.dcm", dicom_head(ExplicitVRLittleEndian) + bytes(2**24))
        for number in range(1, 40):
            archive.writestr(f"{number}.dcm", dicom_head(ExplicitVRLittleEndian) + bytes(2**23))


def hdf5_scan(path: Path, zeros: bytes) -> None:
    from recon.data.noise import Exposure
    from recon.data.scan import Scan
    from recon.geometry.grid import Grid
    from recon.geometry.orbits import Parallel
    from recon.io.scans.registry import write_scan

    grid = Grid((2, 8, 8), (1.0, 1.0, 1.0))
    geometry = Parallel(views=4, columns=12).fit(grid).geometry()
    counts = np.full((4, 2, 12), 500, np.float32)
    write_scan(path, Scan.from_counts(geometry, grid, counts=counts, exposure=Exposure(1000.0)))
    with h5py.File(path, "a") as file:
        attributes = dict(file["counts"].attrs)
        del file["counts"]
        file.create_dataset("counts", SHAPE, "f4", chunks=(1, 1024, 1024), compression="gzip")
        file["counts"].attrs.update(attributes)


def data_exchange(path: Path, zeros: bytes) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("exchange/data", SHAPE, "f4", chunks=(1, 1024, 1024), compression="gzip")
        data[0] = 500.0
        for name, value in (("data_white", 1000.0), ("data_dark", 10.0)):
            file.create_dataset(f"exchange/{name}", (1, *SHAPE[1:]), "f4", fillvalue=value)
        file["exchange/theta"] = np.linspace(0, 180, SHAPE[0], endpoint=False)


def hdf5_volume(path: Path, zeros: bytes) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update(format="tomocast-volume", version=1, unit="HU")
        file["affine"] = np.eye(4)
        file.create_dataset("values", SHAPE, "f4", chunks=(1, 1024, 1024), compression="gzip")


def zarr_volume(path: Path, zeros: bytes) -> None:
    group = zarr.create_group(str(path), zarr_format=3)
    group.create_array("0", shape=SHAPE, dtype="float32", chunks=(1, 1024, 1024))


def netcdf(path: Path, zeros: bytes) -> None:
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"time": 4096, "y": 1024, "x": 1024}
        times = file.create_variable("time", ("time",), data=np.arange(4096))
        times.attrs.update(units="seconds since 2000-01-01", standard_name="time")
        for name in ("y", "x"):
            axis = file.create_variable(name, (name,), data=np.arange(1024.0))
            axis.attrs.update(units="km", standard_name=f"projection_{name}_coordinate", axis=name.upper())
        values = file.create_variable(
            "depth", ("time", "y", "x"), "f4", chunks=(1, 1024, 1024), compression="gzip"
        )
        values.attrs.update(units="m", sigma=0.1)


def tiff(path: Path, strip: bytes, side: int) -> None:
    """One page of unsigned 8-bit numbers in one strip of deflate."""
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 273: 200, 277: 1, 278: side, 279: len(strip)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(head.ljust(200, b"\0") + strip)


def tiff_of_zeros(path: Path, zeros: bytes) -> None:
    tiff(path, zeros, 1 << 15)


def tiff_that_promises(path: Path, zeros: bytes) -> None:
    tiff(path, zeros[:1000], 1 << 31)


def parquet(path: Path, zeros: bytes) -> None:
    """Rows of one observation again and again."""
    import pyarrow
    import pyarrow.parquet

    row = {"time": "2020-01-01", "y": 0.0, "x": 0.0, "variable": "vorticity", "value": 0.0, "sigma": 1.0}
    table = pyarrow.table({name: [value] * 200_000 for name, value in row.items()})
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(200):
            writer.write_table(table)


PRIOR = ("--prior", "ns-vorticity-64")
READ_VOLUME, READ_SCAN = ["convert", "{}", "--out", "new.mha"], ["reconstruct", "{}", "--out", "new"]
READ_FIELDS = ["observe", "{}", "--out", "new.nc"]
FILES: dict[str, tuple[Callable[[Path, bytes], None], list[list[str]]]] = {
    "a.npy.xz": (npy_xz, [READ_VOLUME]),
    "b.npz": (npz, [READ_VOLUME]),
    "c.nii.gz": (nifti, [READ_VOLUME]),
    "d.nrrd": (nrrd, [READ_VOLUME]),
    "e.dcm": (dicom_deflated, [READ_VOLUME, ["inspect", "{}"]]),
    "f.dcm": (dicom_of_zeros, [READ_VOLUME, ["inspect", "{}"]]),
    "g.zip": (dicom_archive, [READ_VOLUME]),
    "h.h5": (hdf5_scan, [READ_SCAN]),
    "i.h5": (data_exchange, [READ_SCAN]),
    "j.h5": (hdf5_volume, [READ_VOLUME]),
    "k.zarr": (zarr_volume, [READ_VOLUME]),
    "l.nc": (netcdf, [READ_FIELDS, ["assimilate", "{}", *PRIOR, "--out", "new"]]),
    "m.tif": (tiff_of_zeros, [READ_VOLUME]),
    "n.tif": (tiff_that_promises, [READ_VOLUME]),
    "o.parquet": (parquet, [["assimilate", "{}", *PRIOR, "--out", "new"]]),
    "202001010000_fmi.radar.pgm.gz": (fmi, [READ_FIELDS]),
}
COMMANDS = [
    (name, [word.format(name) for word in words]) for name, (_, each) in FILES.items() for words in each
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, Answer]:
    """What every command answered, and that nothing was written."""
    folder = tmp_path_factory.mktemp("costly")
    zeros = deflated()
    for name, (write, _) in FILES.items():
        write(folder / name, zeros)
    found = run_limited([Command(words) for _, words in COMMANDS], room=ROOM, cwd=folder)
    assert not list(folder.glob("new*"))
    assert not list(folder.glob(".partial*"))
    return {" ".join(words): answer for (_, words), answer in zip(COMMANDS, found, strict=True)}


@pytest.mark.parametrize("command", [" ".join(words) for _, words in COMMANDS])
def test_small_files_cost_little(answers, command):
    answer = answers[command]
    assert answer.status == 2, answer
    lines = answer.err.splitlines()
    assert [line.startswith("error: ") for line in lines] == [True], answer.err
    assert answer.seconds < SECONDS, answer
