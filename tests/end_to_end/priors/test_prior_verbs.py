"""Training, looking at a prior, drawing from it, and reconstructing with it, by the command line."""

import json

import numpy as np
import pytest

from priors.runtime.config import read_yaml
from tests.support.command_line import inside, mistake
from tests.support.recon.disc_scan import disc, disc_scan


def test_training_leaves_a_prior_and_its_record(trained):
    run = trained.parent
    assert {item.name for item in trained.iterdir()} >= {"card.yaml", "model.safetensors"}
    assert {item.name for item in run.iterdir()} >= {
        "config.yaml",
        "inputs.json",
        "versions.json",
        "metrics.json",
    }
    held_out = json.loads((run / "metrics.json").read_text())["held_out_psnr"]
    assert all(value > 5 for value in held_out.values())
    assert "tomocast train discs.yaml" in read_yaml(trained / "card.yaml")["training"]


def test_inspection_verifies_and_prints_the_card(trained):
    told = json.loads(inside("inspect", trained, "--json").stdout)
    assert told["verified"]
    assert told["parameters"] > 1000
    assert told["card"]["name"] == "discs"
    assert "sha256:" in inside("inspect", trained).stdout


def test_a_changed_weight_file_is_refused(trained, tmp_path):
    for name in ("card.yaml", "model.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(bytes(weights))
    line = mistake("inspect", tmp_path)
    assert "sha256" in line
    assert "the card expects" in line


def test_samples_are_written_in_physical_units(trained, tmp_path):
    words = ["sample", trained, "--count", 3, "--steps", 8, "--size", 32, "--seed", 2]
    inside(*words, "--out", tmp_path / "samples.npy")
    inside(*words, "--out", tmp_path / "page.png")
    samples = np.load(tmp_path / "samples.npy")
    assert samples.shape == (3, 32, 32)
    assert samples.std() > 50  # HU, not network units of order one
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    inside(*words, "--out", tmp_path / "again.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), samples)
    assert ".npy" in mistake(*words, "--out", tmp_path / "samples.txt")


@pytest.mark.parametrize("method", ["nerd-fast", "nerd-admm", "nerd-pdhg"])
def test_every_variant_reconstructs_with_it(trained, tmp_path, method):
    disc_scan(tmp_path, disc(), slices=3)
    few = ["method.fast.levels=3"]
    few += [] if method == "nerd-fast" else ["method.refine.levels=1", "method.refine.refine.iterations=2"]
    words = ["reconstruct", tmp_path / "scan.h5", "--method", method, "--prior", trained, *few]
    assert "network" in inside(*words, "--plan").stdout
    inside(*words, "--out", tmp_path / "run")
    figures = json.loads(
        inside("score", "volume", tmp_path / "run", tmp_path / "phantom.nii.gz", "--json", "-").stdout
    )
    assert figures["psnr_hu"] > 15
    recorded = json.loads((tmp_path / "run" / "inputs.json").read_text())["inputs"]
    assert recorded.keys() == {"scan", "prior"}


def test_training_data_that_is_absent_is_named(trained, tmp_path):
    assert "manifest.yaml" in mistake(
        "train", trained.parent / "config.yaml", "--out", tmp_path / "run", f"data={tmp_path}"
    )
