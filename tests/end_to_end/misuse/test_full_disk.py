"""A disk that fills up: one line, status 2, nothing half-written, no crash; and the run continues when there is room.

Twice: every file may have so many bytes and no more (``RLIMIT_FSIZE``, everywhere), and a real file system of some
pages in memory (where the test may mount one).
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from assimilation.io.archive import write_fields
from tests.support.assimilation import tiny_prior
from tests.support.command_line import inside
from tests.support.limited import Answer, Command, run_limited
from tests.support.priors.small_training import settings, write_data

ROOM = 24 * 1024
DA = "--prior {made}/prior --members 2 --steps 2"
COMMANDS = {
    **{
        f"convert to {out}": (f"convert {{made}}/volume.nii.gz --out new{out}", 1500)
        for out in (".nii.gz", ".npz", ".mha", ".nrrd", ".h5", ".zarr", ".tif")
    },
    "convert to DICOM": ("convert {made}/volume.nii.gz --out new --format dicom", 1500),
    "phantom": ("phantom --out new.nii.gz --slices 4 --grid 64", 1500),
    "simulate scan": ("simulate scan {made}/volume.nii.gz --out new.h5 --views 24 --grid 32", 4000),
    "simulate to NetCDF": ("simulate system lorenz96 --out new.nc --steps 400", 8000),
    "simulate to Zarr": ("simulate system lorenz96 --out new.zarr --steps 40 size=2000", 4000),
    "observe": ("observe {made}/truth.nc --out new.nc", 8000),
    "observe to a table": ("observe {made}/truth.nc --out new.csv operator.fraction=1", 8000),
    "observe to Parquet": ("observe {made}/truth.nc --out new.parquet operator.fraction=1", 4000),
    "score": ("score volume {made}/volume.nii.gz {made}/volume.nii.gz --json new.json", 20),
    "reconstruct, its record": ("reconstruct {made}/scan.h5 --out new", 40),
    "reconstruct, its state": (
        "reconstruct {made}/scan.h5 --out new --method tv checkpoint_s=0",
        9000,
    ),
    "reconstruct, its report": ("reconstruct {made}/scan.h5 --out new", 20_000),
    "assimilate, its record": (f"assimilate {{made}}/obs.nc --out new {DA}", 40),
    "assimilate, its state": (f"assimilate {{made}}/obs.nc --out new {DA}", 5000),
    "forecast to Zarr": (f"forecast {{made}}/truth.nc --out new --frames 2 {DA} format=zarr", 700),
    "train, its state": ("train {made}/train.yaml --out new", 9000),
}
"""What is done, and the size of file at which it fails."""
ON_A_SMALL_DISK = (
    *("convert to .mha", "convert to DICOM", "simulate to NetCDF", "simulate to Zarr"),
    *("reconstruct, its state", "assimilate, its state", "train, its state"),
)
RESUMED = ("reconstruct, its state", "assimilate, its state")


@pytest.fixture(scope="module")
def made(tmp_path_factory, drifting_noise) -> Path:
    folder = tmp_path_factory.mktemp("made")
    inside("phantom", "--out", folder / "volume.nii.gz", "--slices", 4, "--grid", 48)
    inside(
        "simulate", "scan", folder / "volume.nii.gz", "--out", folder / "scan.h5", "--views", 12, "--grid", 32
    )
    shutil.copytree(drifting_noise, folder / "prior")
    fields = tiny_prior.fields(7, 1, 3)
    fields.values[...] += np.random.default_rng(0).normal(size=fields.values.shape).astype(np.float32)
    write_fields(fields, folder / "truth.nc")
    inside("observe", folder / "truth.nc", "--out", folder / "obs.nc")
    OmegaConf.save(OmegaConf.create(settings(write_data(folder / "data"), steps=10)), folder / "train.yaml")
    return folder


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Iterator[Path | None]:
    """A file system of some pages, None where it cannot be mounted."""
    folder = tmp_path_factory.mktemp("disk")
    options = ("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder))
    mounted = os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def answers(made, disk, tmp_path_factory) -> dict[str, tuple[Answer, list[str], Path]]:
    """What every command answered and left behind; all in one process."""
    folder = tmp_path_factory.mktemp("limited")
    commands, places = [], {}
    for name, (words, largest) in COMMANDS.items():
        places[name] = folder / name
        commands.append(Command(words.format(made=made).split(), str(folder / name), largest))
    for name in ON_A_SMALL_DISK if disk is not None else ():
        places[f"disk: {name}"] = disk / name
        commands.append(Command(COMMANDS[name][0].format(made=made).split(), str(disk / name)))
    for place in places.values():
        place.mkdir()
    found = run_limited(commands, cwd=folder)
    return {
        name: (answer, sorted(path.name for path in places[name].rglob("*")), places[name])
        for name, answer in zip(places, found, strict=True)
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_cannot_grow(answers, name):
    answer, left, _ = answers[name]
    check(answer, left, name)


@pytest.mark.parametrize("name", ON_A_SMALL_DISK)
def test_a_disk_that_is_full(answers, disk, name):
    if disk is None:
        pytest.skip("a file system in memory cannot be mounted here")
    answer, left, _ = answers[f"disk: {name}"]
    check(answer, left, name)
    assert "No space left on device" in answer.err


@pytest.mark.parametrize("name", RESUMED)
def test_with_room_the_run_goes_on(answers, made, monkeypatch, name):
    _, _, place = answers[name]
    monkeypatch.chdir(place)
    inside(*COMMANDS[name][0].format(made=made).split(), "--resume")
    assert (place / "new" / "metrics.json").exists()


def check(answer: Answer, left: list[str], name: str) -> None:
    assert answer.status == 2, answer
    lines = answer.err.splitlines()
    assert lines[-1].startswith("error: "), answer.err
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert not [one for one in left if one.startswith(".partial") or one == "run.lock"], left
    if "reconstruct" in name or "assimilate" in name or "train" in name or "forecast" in name:
        assert "metrics.json" not in left
    else:
        assert not left
