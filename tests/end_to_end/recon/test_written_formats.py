"""A reconstruction in the formats asked for: the same voxels at the same places, as SimpleITK sees them."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import yaml

from recon.data.volume import Volume
from recon.io.volumes.registry import FORMATS, read_volume, write_nifti
from tests.recon.io.volumes.test_dicom_write import in_simpleitk, placed
from tests.support.command_line import inside, mistake
from tests.support.recon.series import thorax_like

SHAPE = (3, 20, 20)
WRITTEN = {kind.name: kind.endings for kind in FORMATS if kind.write is not None and kind.name != "nifti"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a scan of a patient who lies askew, written in every format."""
    folder = tmp_path_factory.mktemp("formats")
    values = thorax_like(SHAPE).astype(np.float32)
    write_nifti(folder / "askew.nii.gz", Volume(values, placed(3, (2.0, 2.0, 3.0)), "HU"))
    inside(
        "simulate", "scan", folder / "askew.nii.gz", "--views", 30, "--grid", 16, "--out", folder / "scan.h5"
    )
    asked = [word for name in WRITTEN for word in ("--format", name)]
    inside("reconstruct", folder / "scan.h5", "--method", "fbp", "--out", folder / "run", *asked)
    return folder / "run"


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_holds_the_same_volume(run: Path, name: str) -> None:
    copy = run / (f"volume{WRITTEN[name][0]}" if WRITTEN[name] else name)
    image, first = read_volume(copy), read_volume(run / "volume.nii.gz")
    # DICOM holds whole HU.
    np.testing.assert_array_equal(image.values, np.rint(first.values) if name == "dicom" else first.values)
    # NIfTI keeps its affine in float32 of up to 300 mm.
    np.testing.assert_allclose(image.affine, first.affine, atol=2e-4)
    assert image.unit == first.unit == "HU"


def test_dicom_and_nifti_of_a_run_overlay_in_simpleitk(run: Path) -> None:
    nifti, dicom = sitk.ReadImage(str(run / "volume.nii.gz")), in_simpleitk(run / "dicom")
    assert nifti.GetSize() == dicom.GetSize() == (16, 16, 3)
    for index in np.ndindex(nifti.GetSize()):
        points = [image.TransformIndexToPhysicalPoint(index) for image in (nifti, dicom)]
        np.testing.assert_allclose(*points, atol=2e-4)
        assert dicom[index] == np.rint(nifti[index])


def test_results_half_written_are_written_again(run: Path) -> None:
    (run / "metrics.json").unlink()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["formats"] == list(WRITTEN)
    inside("reconstruct", run.parent / "scan.h5", "-c", run / "config.yaml", "--out", run, "--resume")
    assert (run / "metrics.json").is_file()
    assert len(list((run / "dicom").iterdir())) == 3


def test_a_format_that_cannot_hold_the_result_is_refused_at_once(tmp_path: Path) -> None:
    np.save(tmp_path / "lines.npy", np.ones((12, 1, 16), np.float32))
    orbit = {"name": "parallel", "views": 12, "column_mm": 1.0}
    told = {"data": "lines.npy", "kind": "line-integrals", "orbit": orbit, "unit": "1/mm"}
    (tmp_path / "scan.yaml").write_text(yaml.safe_dump(told))
    command = [
        "reconstruct",
        tmp_path / "scan.yaml",
        "--method",
        "fbp",
        "--out",
        tmp_path / "run",
        "--format",
    ]
    assert "format dicom: found a volume in 1/mm, expected HU" in mistake(*command, "dicom")
    assert "found 'nift', expected one of nifti" in mistake(*command, "nift")
    assert not (tmp_path / "run").exists()
