"""What cannot be right is an error in one line with status 2, before anything is written, unless ``--force``.

Every case is a small file with one absurd thing in it, through the real command line.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import xarray

from assimilation.io.archive import write_fields
from tests.support.assimilation import tiny_prior
from tests.support.command_line import inside, mistake

POSES = ("source_mm", "detector_mm", "u_mm", "v_mm")
Change = Callable[[h5py.File], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory, drifting_noise) -> Path:
    """A scan, a volume, a prior, fields and observations that are in order."""
    folder = tmp_path_factory.mktemp("nonsense")
    inside("phantom", "--out", folder / "volume.nii.gz", "--slices", 2, "--grid", 32)
    inside(
        "simulate", "scan", folder / "volume.nii.gz", "--out", folder / "scan.h5", "--views", 12, "--grid", 24
    )
    shutil.copytree(drifting_noise, folder / "prior")
    whole = tiny_prior.fields(7, 1, 6)
    write_fields(whole.select(times=slice(0, 3)), folder / "start.nc")
    write_fields(whole.select(times=slice(3, None)), folder / "truth.nc")
    inside("observe", folder / "truth.nc", "--out", folder / "obs.nc", "--seed", 1)
    return folder


@pytest.fixture
def files(made, tmp_path, monkeypatch) -> Path:
    """A copy that a test may spoil, as the current folder."""
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def attribute(group: str, key: str, value: object) -> Change:
    def change(file: h5py.File) -> None:
        file[group].attrs[key] = value

    return change


def poses(make: Callable[[np.ndarray], np.ndarray], *names: str) -> Change:
    def change(file: h5py.File) -> None:
        for name in names or POSES:
            file[f"geometry/{name}"][...] = make(file[f"geometry/{name}"][()])

    return change


def shuffled(file: h5py.File) -> None:
    counts = file["counts"][()]
    file["counts"][...] = np.random.default_rng(0).permutation(counts.ravel()).reshape(counts.shape)


SCANS: dict[str, tuple[Change, str]] = {
    "every angle the same": (poses(lambda a: np.repeat(a[:1], len(a), 0)), "all 12 views have the same pose"),
    "angles of other views": (
        poses(lambda a: np.tile(a[: len(a) // 2], (2, 1))),
        "6 of 12 views have the pose of another view but differ",
    ),
    "a grid beside the beam": (attribute("volume", "centre_mm", (0, 1e4, 0)), "rays meet it from"),
    "voxels smaller than atoms": (attribute("volume", "voxel_mm", (1e-9,) * 3), "found voxels of 1e-09"),
    "voxels larger than countries": (attribute("volume", "voxel_mm", (1e9,) * 3), "found voxels of 1e+09"),
    "pixels larger than countries": (poses(lambda a: a * 1e9, "u_mm"), "detector pixels of 1e+09 mm"),
    "more photons than ever": (attribute("counts", "i0", 1e30), "the smallest line integrals are 57.5"),
    "water that stops nothing": (attribute("/", "mu_water_per_mm", 1e-38), "mu_water: found 1e-38"),
    "pixels in any order": (shuffled, "% of the line integrals unexplained"),
}


@pytest.mark.parametrize("name", SCANS)
def test_scans(files, name):
    change, said = SCANS[name]
    with h5py.File("scan.h5", "a") as file:
        change(file)
    line = mistake("reconstruct", "scan.h5", "--out", "out", "--method", "tv", "method.iterations=20")
    assert said in line
    assert "--force" in line
    assert not (files / "out" / "metrics.json").exists()
    assert not (files / "out" / "volume.nii.gz").exists()


@pytest.mark.parametrize("name", ["every angle the same", "voxels larger than countries"])
def test_a_plan_refuses_what_the_job_refuses(files, name):
    change, said = SCANS[name]
    with h5py.File("scan.h5", "a") as file:
        change(file)
    assert said in mistake("reconstruct", "scan.h5", "--plan")


def test_forced_it_goes_on_and_says_so_in_the_record(files):
    with h5py.File("scan.h5", "a") as file:
        SCANS["angles of other views"][0](file)
    done = inside("reconstruct", "scan.h5", "--out", "out", "--force")
    assert "warning: angles: 6 of 12 views" in done.stderr
    assert any(
        "angles: 6 of 12" in text for text in json.loads(Path("out/metrics.json").read_text())["warnings"]
    )


def test_a_result_that_overflows_is_refused_even_when_forced(files):
    with h5py.File("scan.h5", "a") as file:
        SCANS["water that stops nothing"][0](file)
    done = inside("reconstruct", "scan.h5", "--out", "out", "--force", status=2)
    assert "values in HU overflow" in done.stderr


def test_the_same_scan_twice_is_no_nonsense(files):
    with h5py.File("scan.h5", "a") as file:
        counts = file["counts"][()]
        poses(lambda a: np.tile(a[: len(a) // 2], (2, 1)))(file)
        file["counts"][...] = np.tile(counts[: len(counts) // 2], (2, 1, 1))
    inside("reconstruct", "scan.h5", "--out", "out")


@pytest.mark.parametrize("voxel", [1e-9, 1e9])
def test_volumes(files, voxel):
    image = nibabel.load("volume.nii.gz")
    absurd = nibabel.Nifti1Image(np.asarray(image.dataobj), np.diag([voxel] * 3 + [1.0]))
    nibabel.save(absurd, "absurd.nii.gz")
    for words in (
        ("simulate", "scan", "absurd.nii.gz", "--out", "new.h5"),
        ("convert", "absurd.nii.gz", "--out", "new.nii.gz"),
        ("score", "volume", "volume.nii.gz", "absurd.nii.gz"),
    ):
        assert f"found voxels of {voxel:.4g}" in mistake(*words)
    assert not list(files.glob("new.*"))


SETTINGS = {
    "an error of the model without bound": "reconstruct scan.h5 --out out --method nerd-fast method.model_error=.inf",
    "photons beyond counting": "simulate scan volume.nii.gz --out new.h5 background=1e30",
    "noise beyond counting": "simulate scan volume.nii.gz --out new.h5 electronic_sd=1e30",
    "pixels of a phantom": "phantom --out new.nii.gz pixel_mm=1e30",
    "a system that stands still": "simulate system lorenz96 --out new.nc --frames 2 system.forcing=1e30",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(files, name):
    mistake(*SETTINGS[name].replace("system.forcing", "forcing").split())
    assert not list(files.glob("new.*"))


def spoil(source: str, make: Callable[[np.ndarray], np.ndarray], sigma: float | None = None) -> None:
    """Write ``bad.nc``: the values of a file changed."""
    with xarray.open_dataset(source, engine="h5netcdf", decode_times=False) as opened:
        data = opened.load()
    data["depth"].values[...] = make(data["depth"].values)
    if sigma is not None:
        data["depth"].attrs["sigma"] = sigma
    for item in data.variables.values():
        item.encoding = {}
    data.to_netcdf("bad.nc", engine="h5netcdf")


def one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: np.where(values == np.nanmax(values), np.float32(value), values)


FIELDS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float | None, str]] = {
    "nothing observed": (lambda v: v * np.nan, None, "found no value at any time"),
    "everything infinite": (lambda v: v * np.inf, None, "values are infinite"),
    "one infinite": (one(np.inf), None, "1 values are infinite"),
    "ten deviations away": (lambda v: v + 20, None, "deviations of prior 'drifting-noise' away"),
    "1e4 deviations away": (lambda v: v + 2e4, 2e4, "deviations of prior 'drifting-noise' away"),
    "1e15 deviations away": (lambda v: v + 2e15, 2e15, "deviations of prior 'drifting-noise' away"),
    "an error beyond numbers": (lambda v: v, 1e30, "sigma: found 1e+30"),
    "an error below numbers": (lambda v: v, 1e-30, "sigma: found 1e-30"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_observations(files, name):
    make, sigma, said = FIELDS[name]
    spoil("obs.nc", make, sigma)
    run = ("assimilate", "bad.nc", "--prior", "prior", "--members", 2, "--steps", 2, "--out", "out")
    for extra in ((), ("gross_error=null",)):
        assert said in mistake(*run, *extra)
    assert not (files / "out").exists()


def test_observations_that_nearly_all_are_gross_errors(files):
    spoil("obs.nc", lambda v: np.where(np.arange(v.shape[-1]) > 3, v + 1e4, v))
    run = ("assimilate", "bad.nc", "--prior", "prior", "--members", 2, "--steps", 2, "--out", "out")
    assert "are gross errors, expected fewer than half" in mistake(*run)
    done = inside(*run, "--force")
    assert "warning: observations:" in done.stderr
    assert "gross errors, expected" in json.loads(Path("out/metrics.json").read_text())["warnings"][0]


def test_the_log_counts_frames_with_observations(files):
    def first_missing(values: np.ndarray) -> np.ndarray:
        values[..., 0, :, :] = np.nan
        return values

    spoil("obs.nc", first_missing)
    inside("assimilate", "bad.nc", "--prior", "prior", "--members", 2, "--steps", 2, "--out", "out")
    assert "2 with observations" in Path("out/log.txt").read_text()


@pytest.mark.parametrize("name", ["one infinite", "ten deviations away", "1e15 deviations away"])
def test_starts_and_backgrounds(files, name):
    make, _, said = FIELDS[name]
    spoil("start.nc", make)
    small = ("--prior", "prior", "--members", 2, "--steps", 2, "--out", "out")
    assert said in mistake("forecast", "bad.nc", *small, "--frames", 2)
    assert said in mistake("assimilate", "obs.nc", "--background", "bad.nc", *small, "gross_error=null")
    assert not (files / "out").exists()


@pytest.mark.parametrize("name", ["everything infinite", "one infinite"])
def test_truths(files, name):
    make, _, said = FIELDS[name]
    spoil("truth.nc", make)
    assert said in mistake("score", "ensemble", "truth.nc", "bad.nc")
    assert said in mistake("observe", "bad.nc", "--out", "new.nc")
    spoil("truth.nc", FIELDS["nothing observed"][0])
    assert "every value is missing" in mistake("observe", "bad.nc", "--out", "new.nc")
    assert not (files / "new.nc").exists()
