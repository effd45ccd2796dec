"""`tomocast inspect` on every real CT file: it opens, or is refused for the right reason."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from recon.data.volume import Volume
from recon.io.volumes.registry import write_volume
from tests.recon.io.scans.test_ct_pd import AXIAL, measured
from tests.support.command_line import inside, mistake
from tests.support.real_data import DATA, real_data
from tests.support.recon.ct_pd_encoder import write_ct_pd
from tests.support.recon.series import thorax_like, write_series

ARCS = ["", "_30", "_40", "_50", "_60", "_70", "_80", "_90"]
OPENS = {
    "ct/alderson_phantom.zip": ("CT volume", "10 x 512 x 512"),
    "ct/catphan_slice_imageio_dicom_file01.dcm": ("CT volume", "1 x 512 x 512"),
    "ct/covidctmd_cap002.zip": ("CT volume", "48 x 512 x 512"),
    "ct/elastix_3DCT_lung_baseline.mha": ("CT volume", "129 x 157 x 115"),
    "ct/lungct_diagnosis_R_004.dcm": ("CT volume", "1 x 512 x 512"),
    "ct/lungdx_A0002.zip": ("CT volume", "30 x 512 x 512"),
    "ct/nlst_101287.zip": ("CT volume", "29 x 512 x 512"),
    "ct/totalseg_example_ct.nii.gz": ("CT volume", "112 x 101 x 122"),
    "sinograms/tomopy_tooth.h5": ("CT scan", "181"),
    "sinograms/savu_24737": ("radiographs", "91 of 135 x 160"),
    "sinograms/htc2022/solid_disc_subsample73.mat": ("CT scan", "61"),
    "sinograms/htc2022/ta_subsample73.mat": ("CT scan", "61"),
    **{
        f"sinograms/htc2022/tb_subsample{arc}.mat": ("CT scan", str(2 * int(arc[1:] or 30) + 1))
        for arc in ARCS
    },
}
REFUSED = {
    "ct/DM4CT_L506_000.tif": "float32 values from -1 to 0.98046 of unknown unit",
    "ct/slices256/MANIFEST.csv": "expected also time",
    "ct/slices256/train/lungdx_A0002.npy.xz": "int16 values from -1024 to 1490 of unknown unit",
    "sinograms/sarepy_sinogram_360_neutron_image.tif": "read through a scan.yaml that names it",
    "sinograms/htc2022/htc2022_solid_disc_full_recon_fbp.mat": "found no CtDataLimited or CtDataFull",
    "sinograms/savu_24737/angles.txt": "unknown kind",
    "sinograms/savu_24737/raw_00000.tiff": "read through a scan.yaml that names it",
    "sinograms/savu_24737/dark_00001.tiff": "of unknown unit",
}


@pytest.mark.parametrize("name", OPENS)
def test_it_opens(name: str) -> None:
    kind, told = OPENS[name]
    done = json.loads(inside("inspect", real_data(name), "--json").stdout)
    assert done["kind"] == kind
    assert any(told in value for value in done["facts"].values())
    text = inside("inspect", real_data(name)).stdout if name.startswith("ct/lung") else ""
    assert str(DATA) not in text


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str) -> None:
    assert REFUSED[name] in mistake("inspect", real_data(name))


def test_no_file_of_the_data_is_forgotten() -> None:
    folders = [real_data("ct"), real_data("sinograms")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    known = {*OPENS, *REFUSED}
    alike = ("raw_", "flat_", "dark_")
    for path in files:
        name = path.relative_to(DATA).as_posix()
        packed = name.startswith("ct/slices256/") and name.endswith(".npy.xz")
        assert name in known or packed or path.name.startswith(alike), name


def test_swapped_fields_of_a_real_scan_are_told(tmp_path: Path) -> None:
    source = real_data("sinograms/savu_24737")
    for folder, names in (("right", ("dark", "flat")), ("swapped", ("flat", "dark"))):
        (tmp_path / folder).mkdir()
        shutil.copy(source / "raw_00000.tiff", tmp_path / folder)
        for name, other in zip(("dark", "flat"), names, strict=True):
            shutil.copy(source / f"{other}_00001.tiff", tmp_path / folder / f"{name}.tiff")
    assert "swapped" not in inside("inspect", tmp_path / "right").stdout
    assert "are they swapped?" in inside("inspect", tmp_path / "swapped").stdout


def test_other_kinds(tmp_path: Path) -> None:
    values = thorax_like((3, 8, 8))
    write_series(tmp_path / "two" / "a", values)
    write_series(tmp_path / "two" / "b", values[:2])
    told = inside("inspect", tmp_path / "two").stdout
    assert "several DICOM series" in told
    assert "2 CT files of 8 x 8" in told
    assert "SECRET" not in inside("inspect", tmp_path / "two" / "a").stdout
    write_volume(tmp_path / "a.zarr", Volume(values.astype(np.float32), np.eye(4), "HU"))
    write_volume(tmp_path / "a.h5", Volume(values.astype(np.float32), np.eye(4), "HU"))
    for name in ("a.zarr", "a.h5"):
        assert "3 x 8 x 8" in inside("inspect", tmp_path / name).stdout
    told = inside("inspect", write_ct_pd(tmp_path / "scan", AXIAL, measured(AXIAL))).stdout
    assert "DICOM-CT-PD" in told
    assert "cone, curved detector" in told
    tifffile.imwrite(tmp_path / "picture.tif", values[0].astype(np.uint8))
    assert "uint8 values from" in mistake("inspect", tmp_path / "picture.tif")


def test_convert_through_the_command_line(tmp_path: Path) -> None:
    volume, series = tmp_path / "a.nii.gz", tmp_path / "series"
    inside("phantom", "--slices", 2, "--grid", 32, "--out", volume)
    done = inside("convert", volume, "--out", series, "--format", "dicom")
    assert "rounded to whole HU" in done.stderr
    inside("convert", series, "--out", tmp_path / "b.nrrd")
    assert "2 x 32 x 32" in inside("inspect", tmp_path / "b.nrrd").stdout
    assert "found 'png', expected one of nifti" in mistake("convert", volume, "--out", "x", "--format", "png")
    assert "belong to DICOM only" in mistake(
        "convert", volume, "--out", tmp_path / "c.nii", "--reference", series, "--keep-patient"
    )
    assert "exists already" in mistake("convert", volume, "--out", series, "--format", "dicom")
