"""``tomocast tune``: settings chosen on scans whose volumes are known, written for ``reconstruct -c``."""

import json

import pytest
import torch

from recon.run.jobs import settings
from recon.run.problem.pose import read_problem
from recon.run.solving.watch import Reference, read_reference
from tests.support.command_line import inside, mistake
from tests.support.recon.disc_scan import disc, disc_scan


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A small scan and the phantom behind it."""
    return disc_scan(tmp_path_factory.mktemp("tune"), disc())


def tuned(scan, method, *words):
    out = scan / f"tuned-{method}"
    common = ["tune", method, "--scans", scan / "scan.h5", "--references", scan / "phantom.nii.gz"]
    return out, json.loads(inside(*common, "--out", out, "--json", "-", *words).stdout)


def test_weights_of_tv_follow_the_derivative(scan):
    words = ["method.weight=0.02", "method.iterations=40"]
    out, found = tuned(scan, "tv", "--keys", "weight", "--evaluations", "3", *words)
    before, after = found["before"], found["after"]
    assert before["settings"] == {"weight": 0.02}
    # So little total variation leaves the noise: the error falls with the weight, and says so.
    assert before["derivatives"]["weight"] < 0
    assert after["rmse_hu"] < 0.9 * before["rmse_hu"]
    # The settings found are what reconstruct takes; it makes the same volume and hence the same error.
    inside("reconstruct", scan / "scan.h5", "-c", out / "tuned.yaml", "--out", scan / "again")
    scored = ["score", "volume", scan / "again", scan / "phantom.nii.gz", "--json", "-"]
    assert json.loads(inside(*scored).stdout)["rmse_hu"] == pytest.approx(after["rmse_hu"], rel=1e-3)


def test_samplers_are_compared_and_a_search_is_continued(scan, trained):
    words = ["--keys", "ladder.start_hu", "--prior", trained, "method.ladder.levels=2"]
    out, found = tuned(scan, "pnp-hqs", *words, "--evaluations", "2")
    assert [row["derivatives"] for row in found["evaluations"]] == [{}, {}]
    log = out / "evaluations.jsonl"
    first = log.read_text()
    # A kill may cut the last line: it is made again, the one before is not.
    log.write_text(first.splitlines(keepends=True)[0] + first.splitlines()[1][:20])
    _, again = tuned(scan, "pnp-hqs", *words, "--evaluations", "3", "--resume")
    assert again["evaluations"][:2] == found["evaluations"]
    assert len(again["evaluations"]) == 3
    assert log.read_text().startswith(first)


@pytest.mark.parametrize(
    ("method", "words", "told"),
    [
        ("tv", [], "keys: found none"),
        ("tv", ["--keys", "wieght"], "tv has no setting 'wieght'"),
        ("tv", ["--keys", "iterations"], "'iterations' is 400, expected a number above 0"),
        ("cgls", ["--keys", "chi2", "--references", ""], "1 scans and 0 references"),
    ],
)
def test_mistakes_are_one_line(scan, method, words, told):
    common = ["tune", method, "--scans", scan / "scan.h5", "--references", scan / "phantom.nii.gz"]
    assert told in mistake(*common, "--out", scan / "wrong", *words)
    assert not (scan / "wrong").exists()


def test_the_slope_of_the_error_is_its_finite_difference(scan):
    problem = read_problem(scan / "scan.h5", settings("reconstruct", None, {"method.name": "tv"}, None))
    reference = Reference(problem, read_reference(scan / "phantom.nii.gz"))
    generator = torch.Generator().manual_seed(0)
    shape = problem.grid.shape
    # Some voxels lie beyond the window of scores on either side, where nothing changes.
    x = 0.02 + 0.02 * torch.randn(shape, generator=generator, dtype=torch.float64)
    way = 1e-7 * torch.randn(shape, generator=generator, dtype=torch.float64)

    def error(at):
        return float(reference.difference(at).square().mean(dtype=torch.float64))

    expected = error(x + way) - error(x - way)
    assert float((reference.slope(x) * 2 * way).sum()) == pytest.approx(expected, rel=1e-4)
