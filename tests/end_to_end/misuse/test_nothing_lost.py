"""No verb writes over what it reads, and a resume is of the same run: the real command line on small files."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from assimilation.io.archive import read_ensemble, write_fields
from tests.support.assimilation import tiny_prior
from tests.support.command_line import inside, mistake

FAST = ("--members", 2, "--steps", 2, "--seed", 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory, drifting_noise) -> Path:
    """One small file of every kind that verbs read."""
    folder = tmp_path_factory.mktemp("made")
    inside("phantom", "--out", folder / "volume.nii.gz", "--slices", 2, "--grid", 32)
    inside(
        "simulate", "scan", folder / "volume.nii.gz", "--out", folder / "scan.h5", "--views", 12, "--grid", 24
    )
    inside("convert", folder / "volume.nii.gz", "--out", folder / "series", "--format", "dicom")
    np.save(folder / "slices.npy", np.zeros((12, 32, 32), np.float32))
    shutil.copytree(drifting_noise, folder / "prior")
    whole = tiny_prior.fields(7, 1, 6)
    write_fields(whole.select(times=slice(0, 3)), folder / "before.nc")
    write_fields(whole.select(times=slice(3, None)), folder / "truth.nc")
    write_fields(whole.select(times=slice(3, None)), folder / "truth.zarr")
    inside("observe", folder / "truth.nc", "--out", folder / "obs.nc", "--seed", 1)
    inside("reconstruct", folder / "scan.h5", "--out", folder / "ct")
    prior = ("--prior", folder / "prior", *FAST)
    inside("assimilate", folder / "obs.nc", *prior, "--out", folder / "da", "format=zarr")
    return folder


@pytest.fixture
def files(made, tmp_path) -> Path:
    """A copy that a test may harm, in a folder that is not empty and not a run."""
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


def state(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


OVER = {
    "simulate": "simulate scan volume.nii.gz --out volume.nii.gz --grid 24",
    "simulate a slice of the series": "simulate scan series --out series/00001.dcm --grid 24",
    "convert": "convert volume.nii.gz --out volume.nii.gz",
    "convert a run": "convert ct --out ct/volume.nii.gz",
    "convert to its reference": "convert volume.nii.gz --reference series --out series/new --format dicom",
    "score": "score volume ct volume.nii.gz --json volume.nii.gz",
    "score a run": "score volume ct volume.nii.gz --json ct/volume.nii.gz",
    "reconstruct": "reconstruct scan.h5 --out . --overwrite",
    "reconstruct into a run with the input": "reconstruct ct/scan.h5 --out ct --overwrite",
    "sample": "sample ct-chest-256 --count 1 --steps 1 --beside slices.npy --out slices.npy",
    "assimilate": "assimilate obs.nc --prior prior --out . --overwrite",
    "assimilate into its prior": "assimilate obs.nc --prior prior --out prior --overwrite",
    "forecast into its start": "forecast da --prior prior --out da --overwrite",
    "observe": "observe truth.nc --out truth.nc",
    "observe and the truth": "observe truth.nc --out new.nc --truth truth.nc",
    "observe twice to one": "observe truth.nc --out new.nc --truth new.nc",
    "verify": "score ensemble da truth.nc --json truth.nc",
    "inspect": "inspect scan.h5 --png scan.h5",
    "a folder of another kind": "simulate system lorenz96 --out series.zarr --steps 2",
    "an archive with a stranger in it": "simulate system lorenz96 --out truth.zarr --steps 2",
}


@pytest.mark.parametrize("name", OVER)
def test_an_output_over_an_input_is_refused(files, monkeypatch, name):
    monkeypatch.chdir(files)
    shutil.copy("scan.h5", "ct/scan.h5")
    shutil.copytree("series", "series.zarr")
    Path("truth.zarr/notes.txt").write_text("mine")
    before = state(files)
    mistake(*OVER[name].split())
    assert state(files) == before


@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_links_to_an_input_are_the_input(files, monkeypatch, link):
    monkeypatch.chdir(files)
    out = Path("out.nii.gz")
    getattr(out, f"{link}_to")(files / "volume.nii.gz")
    before = state(files)
    mistake("convert", "volume.nii.gz", "--out", out)
    assert state(files) == before


@pytest.mark.parametrize("verb", ["reconstruct", "assimilate", "forecast", "demo", "train"])
def test_a_folder_with_a_config_that_is_no_run_is_not_emptied(files, monkeypatch, verb, tmp_path):
    monkeypatch.chdir(files)
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "config.yaml").write_text("name: a project of mine\n")
    (project / "src" / "thesis.tex").write_text("years")
    from omegaconf import OmegaConf

    from tests.support.priors.small_training import settings, write_data

    OmegaConf.save(OmegaConf.create(settings(write_data(tmp_path / "data"), steps=1)), "train.yaml")
    words = {
        "reconstruct": ("scan.h5",),
        "assimilate": ("obs.nc", "--prior", "prior"),
        "forecast": ("before.nc", "--prior", "prior"),
        "demo": (),
        "train": ("train.yaml",),
    }
    before = state(project)
    told = mistake(verb, *words[verb], "--out", project, "--overwrite")
    assert "no run" in told
    assert state(project) == before


def test_a_resume_with_other_data_is_refused_before_anything_is_written(files, monkeypatch):
    monkeypatch.chdir(files)
    before = state(files / "ct"), state(files / "da")
    inside("simulate", "scan", "volume.nii.gz", "--out", "scan.h5", "--views", 12, "--grid", 24, "--seed", 9)
    assert "scan: is not the same" in mistake("reconstruct", "scan.h5", "--out", "ct", "--resume")
    inside("observe", "truth.nc", "--out", "obs.nc", "--seed", 5)
    assimilate = ("assimilate", "obs.nc", "--prior", "prior", *FAST, "format=zarr", "--out", "da", "--resume")
    assert "observations: is not the same" in mistake(*assimilate)
    inside("observe", "truth.nc", "--out", "obs.nc", "--seed", 1)
    card = files / "prior" / "card.yaml"
    card.write_text(card.read_text().replace("citation:", "citation: another paper,"))
    assert "prior: is not the same" in mistake(*assimilate)
    assert (state(files / "ct"), state(files / "da")) == before


def test_another_version_does_not_go_on_with_a_run_unless_forced(files, monkeypatch):
    monkeypatch.chdir(files)
    for run, words in (
        ("ct", ("reconstruct", "scan.h5")),
        ("da", ("assimilate", "obs.nc", "--prior", "prior", *FAST, "format=zarr")),
    ):
        versions = files / run / "versions.json"
        versions.write_text(json.dumps({**json.loads(versions.read_text()), "tomocast": "0.0.1"}))
        before = state(files / run)
        assert "was begun with tomocast 0.0.1" in mistake(*words, "--out", run, "--resume")
        assert state(files / run) == before
        assert "warning: " in inside(*words, "--out", run, "--resume", "--force").stderr


def test_a_complete_run_without_its_result_is_not_complete(files, monkeypatch):
    monkeypatch.chdir(files)
    (files / "ct" / "volume.nii.gz").unlink()
    assert "volume.nii.gz is missing" in mistake("reconstruct", "scan.h5", "--out", "ct", "--resume")


def test_an_archive_that_lost_frames_is_not_finished(files, monkeypatch):
    """What a kill after the checkpoint leaves, with the growing archive gone."""
    from assimilation.inference.assimilator import Assimilator

    monkeypatch.chdir(files)
    run = ("assimilate", "obs.nc", "--prior", "prior", *FAST, "--out", "cut")
    whole = Assimilator.run

    def cut(self, *arguments, **keywords):
        for number, analysis in enumerate(whole(self, *arguments, **keywords)):
            if number == 2:
                raise KeyboardInterrupt
            yield analysis

    monkeypatch.setattr(Assimilator, "run", cut)
    inside(*run, status=130)
    monkeypatch.undo()
    monkeypatch.chdir(files)
    growing = files / "cut" / ".analysis.nc.growing"
    assert json.loads((growing / "done.json").read_text())["sums"]
    kept = shutil.copytree(growing, files / "kept")
    shutil.rmtree(growing)
    assert "holds 0 of" in mistake(*run, "--resume")
    shutil.copytree(kept, growing)
    chunk = next(path for path in sorted(growing.rglob("*")) if path.is_file() and "/c/" in str(path))
    content = chunk.read_bytes()
    chunk.unlink()
    assert "is not what was written" in mistake(*run, "--resume")
    chunk.write_bytes(content)
    done = growing / "done.json"
    text = done.read_text()
    for damaged in ("", "[]", text[:20], '{"times": 3}'):
        done.write_text(damaged)
        assert "cannot be continued" in mistake(*run, "--resume")
    done.write_text(text)
    checkpoint = files / "cut" / "checkpoint.pt"
    state_bytes = checkpoint.read_bytes()
    for damaged_bytes in (b"", state_bytes[:100], b"PK\x03\x04 foreign"):
        checkpoint.write_bytes(damaged_bytes)
        assert "checkpoint.pt" in mistake(*run, "--resume")
    checkpoint.write_bytes(state_bytes)
    inside(*run, "--resume")
    inside("assimilate", "obs.nc", "--prior", "prior", *FAST, "--out", "straight")
    cut_short, straight = (read_ensemble(files / name).members for name in ("cut", "straight"))
    np.testing.assert_array_equal(cut_short, straight)
