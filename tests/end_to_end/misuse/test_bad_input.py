"""What a user can get wrong: every case is one clear line on standard error and exit status 2."""

import json
import shutil

import h5py
import nibabel
import numpy as np
import pytest

from tests.support.command_line import inside, mistake
from tests.support.recon.disc_scan import disc_scan


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A volume and a scan that work."""
    folder = tmp_path_factory.mktemp("good")
    x, y = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32), indexing="ij")
    disc = np.where(x**2 + 2 * y**2 < 0.6, 40.0 + 700 * (x**2 + y**2 < 0.04), -1000.0)
    return disc_scan(folder, disc, field_mm=384.0)


@pytest.fixture
def place(good, tmp_path):
    """A copy that a test may spoil."""
    for name in ("phantom.nii.gz", "scan.h5"):
        shutil.copy(good / name, tmp_path / name)
    return tmp_path


def spoil_counts(place, change) -> None:
    with h5py.File(place / "scan.h5", "r+") as file:
        counts = file["counts"][...]
        change(counts)
        file["counts"][...] = counts


def replace_dataset(place, name, values) -> None:
    with h5py.File(place / "scan.h5", "r+") as file:
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=values).attrs.update(attributes)


OPTIONS = [
    (["reconstruct"], "Missing argument"),
    (["reconstrukt", "scan.h5"], "No such command"),
    (["reconstruct", "scan.h5", "--metod", "fbp"], "--metod"),
    (["reconstruct", "scan.h5"], "--out"),
    (["reconstruct", "scan.h5", "--out", "run", "--method", "nerd"], "did you mean 'nerd-"),
    (["reconstruct", "scan.h5", "--out", "run", "method.filtr=hann"], "did you mean 'filter'"),
    (["reconstruct", "scan.h5", "--out", "run", "method.cutoff=2"], "method.cutoff: found 2"),
    (["reconstruct", "scan.h5", "--out", "run", "--seed", "-1"], "seed"),
    (["reconstruct", "scan.h5", "--out", "run", "--method", "nerd-fast", "--prior", "nobody"], "nobody"),
    (["reconstruct", "scan.h5", "--out", "run", "--prior", "nobody"], "method.prior: unknown key"),
    (["reconstruct", "none.h5", "--out", "run"], "none.h5: does not exist"),
    (["reconstruct", "scan.h5", "--out", "run", "-c", "none.yaml"], "none.yaml: cannot be read"),
    (["reconstruct", "scan.h5", "--out", "run", "--slices", "7:9"], "slices: found '7:9'"),
    (["reconstruct", "scan.h5", "--out", "run", "--views", "every second"], "views: found 'every second'"),
    (["reconstruct", "scan.h5", "--out", "run", "--views", "::2", "--views-step", "2"], "not both"),
    (["reconstruct", "scan.h5", "--out", "run", "--grid", "200000"], "memory: even a slab of one slice"),
    (["reconstruct", "phantom.nii.gz", "--out", "run"], "phantom.nii.gz: unknown kind"),
    (["reconstruct", "scan.h5", "--out", "scan.h5/run"], "cannot be used as a run folder"),
    (["simulate", "scan", "phantom.nii.gz", "--out", "x.h5", "--i0", "-5"], "i0: found -5"),
    (["simulate", "scan", "phantom.nii.gz", "--out", "x.h5", "--orbit", "none.yaml"], "none.yaml"),
    (
        ["simulate", "scan", "phantom.nii.gz", "--out", "x.h5", "orbit.name=spiral"],
        "orbit.name: found 'spiral'",
    ),
    (["simulate", "scan", "phantom.nii.gz", "--out", "x.h5", "orbit.arc_deg=6.2832"], "radians"),
    (["simulate", "scan", "phantom.nii.gz", "--out", "scan.h5/x.h5"], "cannot be written"),
    (["score", "volume", "phantom.nii.gz", "none.nii.gz"], "none.nii.gz: does not exist"),
    (["score", "volume", "phantom.nii.gz", "phantom.nii.gz", "--window", "5", "5"], "window_hu"),
    (["score", "volume", "phantom.nii.gz", "phantom.nii.gz", "--mask", "head"], "mask: found 'head'"),
    (["config", "print"], "No such command 'print'"),
    (["config", "show", "--job", "cook"], "job: found 'cook'"),
    (["inspect", "nobody"], "nobody"),
]


@pytest.mark.parametrize(("words", "says"), OPTIONS, ids=[" ".join(words) for words, _ in OPTIONS])
def test_an_option_or_a_name(place, monkeypatch, words, says):
    monkeypatch.chdir(place)
    assert says in mistake(*words)
    # Nothing half-made is left behind.
    assert {item.name for item in place.iterdir()} == {"phantom.nii.gz", "scan.h5"}


DATA = {
    "NaN counts": (lambda place: spoil_counts(place, lambda c: c.__setitem__((3, 0, 5), np.nan)), "NaN"),
    "negative counts": (
        lambda place: spoil_counts(place, lambda c: c.__setitem__((3, 0, 5), -9)),
        "negative",
    ),
    "no counts": (lambda place: spoil_counts(place, lambda c: c.fill(0)), "zero"),
    "a dark view": (lambda place: spoil_counts(place, lambda c: c[4].fill(0)), "view 4"),
    "swapped axes": (
        lambda place: replace_dataset(place, "counts", np.full((2, 12, 64), 9e4, np.float32)),
        "axes swapped",
    ),
    "another shape": (
        lambda place: replace_dataset(place, "counts", np.full((12, 2, 7), 9e4, np.float32)),
        "expected (view, row, column)",
    ),
    "a truncated file": (
        lambda place: (place / "scan.h5").write_bytes((place / "scan.h5").read_bytes()[:4000]),
        "damaged or truncated",
    ),
    "an empty file": (lambda place: (place / "scan.h5").write_bytes(b""), "is empty"),
}


@pytest.mark.parametrize("kind", DATA)
def test_a_spoilt_scan(place, kind):
    spoil, says = DATA[kind]
    with h5py.File(place / "scan.h5") as file:
        assert file["counts"].shape == (12, 2, 64)
    spoil(place)
    line = mistake("reconstruct", place / "scan.h5", "--out", place / "run")
    assert says in line
    assert "scan.h5" in line
    assert not (place / "run").exists()


def test_a_volume_that_is_not_in_hounsfield_units_is_not_scored(place):
    np.save(place / "slices.npy", np.linspace(-1, 1, 2 * 16 * 16, dtype=np.float32).reshape(2, 16, 16))
    assert "slices" in mistake("score", "volume", place / "slices.npy", place / "phantom.nii.gz")


def test_volumes_that_do_not_overlap_are_not_scored(place):
    image = nibabel.load(place / "phantom.nii.gz")
    affine = image.affine.copy()
    affine[:3, 3] += 5000
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), place / "far.nii.gz")
    assert "overlap" in mistake("score", "volume", place / "phantom.nii.gz", place / "far.nii.gz")


def test_every_mistake_in_a_configuration_is_told_at_once(place):
    (place / "bad.yaml").write_text("method: {name: tv, wieght: 1, iterations: 0}\nsed: 3\n")
    line = mistake("reconstruct", place / "scan.h5", "--out", place / "run", "-c", place / "bad.yaml")
    for part in ("did you mean 'weight'", "method.iterations: found 0", "did you mean 'seed'"):
        assert part in line


def test_a_run_that_did_not_finish_is_not_scored(place):
    (place / "run").mkdir()
    (place / "run" / "config.yaml").write_text("seed: 0\n")
    assert "--resume" in mistake("score", "volume", place / "run", place / "phantom.nii.gz")


def test_a_full_disk_is_told(place):
    """A file that cannot grow stands for a full disk: the limit makes the kernel refuse the write."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        line = mistake("simulate", "scan", place / "phantom.nii.gz", "--out", place / "x.h5", "--grid", 32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert "x.h5" in line
    assert not (place / "x.h5").exists()


def test_the_good_scan_is_good(place):
    inside("reconstruct", place / "scan.h5", "--out", place / "run")
    assert json.loads((place / "run" / "metrics.json").read_text())["grid"] == [2, 32, 32]
