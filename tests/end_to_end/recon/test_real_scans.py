"""Real files from end to end: a DICOM zip simulated and scored, and two measured scans without ground truth."""

import json

import nibabel
import numpy as np

from tests.support.command_line import inside
from tests.support.real_data import real_data


def test_a_dicom_zip_is_scanned_reconstructed_and_scored(tmp_path):
    patient = real_data("ct/covidctmd_cap002.zip")
    size = ["--slices", "20:24", "--views", 90, "--grid", 128, "--seed", 1]
    inside("simulate", "scan", patient, "--out", tmp_path / "scan.h5", *size)
    inside(
        "reconstruct",
        tmp_path / "scan.h5",
        "--method",
        "fbp",
        "--out",
        tmp_path / "run",
        "method.filter=hann",
    )
    figures = json.loads(inside("score", "volume", tmp_path / "run", patient, "--json", "-").stdout)
    # 90 views of 128 columns at 1e5 photons are easy: below 25 dB something is misplaced.
    assert figures["psnr_hu"] > 25
    # A window per axis: a few slices have a value too.
    assert 0 < figures["ssim_coronal"] < 1
    text = "".join(
        path.read_text() for path in (tmp_path / "run").iterdir() if path.suffix in (".json", ".yaml", ".txt")
    )
    assert str(patient.parent) not in text


def test_every_sixth_view_of_a_measured_tooth(tmp_path):
    scan = real_data("sinograms/tomopy_tooth.h5")
    inside(
        "reconstruct", scan, "--method", "fbp", "--out", tmp_path / "run", "--views-step", 6, "--grid", 320
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["views"] == 31
    assert metrics["held_out"]["views"] == 150
    assert metrics["unit"] == "1/mm"
    values = nibabel.load(tmp_path / "run" / "volume.nii.gz").get_fdata()
    # A tooth in air: positive inside, near zero at the corners of the slice.
    assert np.percentile(values, 99) > 5 * abs(np.median(values[:30, :30]))
    assert "z plane" in (tmp_path / "run" / "report.html").read_text()


def test_a_limited_angle_fan_scan(tmp_path):
    scan = real_data("sinograms/htc2022/tb_subsample_90.mat")
    inside("reconstruct", scan, "--method", "fbp", "--out", tmp_path / "run", "--grid", 128)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["beam"] == "fan"
    assert metrics["grid"] == [1, 128, 128]
    assert 0 < metrics["relative_residual"] < 1
