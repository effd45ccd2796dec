"""``tomocast compare``: one scan, several methods, one table that goes on after a refusal."""

import json
import shutil

import h5py
import pytest

from tests.support.command_line import inside, mistake
from tests.support.recon.disc_scan import disc, disc_scan

METHODS = "fbp,pnp-hqs"


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A small scan and the phantom behind it."""
    return disc_scan(tmp_path_factory.mktemp("compare"), disc())


def test_rows_report_and_resume(scan, trained):
    out = scan / "out"
    words = [
        "compare",
        scan / "scan.h5",
        "--methods",
        METHODS,
        "--prior",
        trained,
        "--out",
        out,
        "--json",
        "-",
    ]
    words += ["--reference", scan / "phantom.nii.gz", "pnp-hqs:method.ladder.levels=2"]
    rows = json.loads(inside(*words).stdout)
    assert [row["method"] for row in rows] == ["fbp", "pnp-hqs"]
    assert [row["network_calls"] for row in rows] == [0, 2]
    for row in rows:
        assert row["psnr_hu"] > 10
        # Slices of a volume of two are whole windows; its coronal and sagittal planes are not wide enough for one.
        assert row["ssim_axial"] > 0.1
        assert row["cpu_seconds"] > 0
        assert row["peak_memory_bytes"] > 2**26
    assert (out / "report.html").stat().st_size > 10_000
    curve = json.loads((out / "runs" / "pnp-hqs" / "metrics.json").read_text())["curves"][
        "rmse_hu by network calls"
    ]
    assert [calls for calls, _ in curve] == [1, 2]
    # The last estimate is the result: its error on the window of 2000 HU is what the score says.
    assert curve[-1][1] == pytest.approx(2000 / 10 ** (rows[1]["psnr_hu"] / 20), rel=1e-3)
    run = out / "runs" / "fbp" / "volume.nii.gz"
    before = run.stat().st_mtime_ns
    again = json.loads(inside(*words, "--resume").stdout)
    assert run.stat().st_mtime_ns == before
    assert [row["psnr_hu"] for row in again] == [row["psnr_hu"] for row in rows]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--methods", "fbp,nothing"], "nothing"),
        (["--methods", ""], "found none"),
        (["--methods", "fbp", "tv:method.iterations=3"], "tv is not compared"),
    ],
)
def test_mistakes_are_one_line(scan, words, told):
    assert told in mistake("compare", scan / "scan.h5", "--out", scan / "wrong", *words)
    assert not (scan / "wrong").exists()


def test_it_does_not_write_over_its_inputs(scan):
    told = mistake("compare", scan / "scan.h5", "--methods", "fbp", "--out", scan)
    assert "contains the input" in told


def test_rows_of_two_scans_are_not_mixed(scan, tmp_path):
    mine, out = tmp_path / "scan.h5", tmp_path / "out"
    shutil.copy(scan / "scan.h5", mine)
    words = ("compare", mine, "--methods", "fbp", "--out", out)
    inside(*words)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with h5py.File(mine, "r+") as file:
        file.attrs["note"] = "another scan"
    assert "scan: is not the same" in mistake(*words, "--resume")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
