"""`tomocast train`, `sample` and `inspect` as a person runs them, SIGKILL included."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from typer.testing import CliRunner

from priors.commands.inspect import describe_prior
from priors.runtime.errors import InputError
from tests.support.priors.small_training import STEPS, settings
from tomocast import cli

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def config(tmp_path_factory, small_data) -> Path:
    path = tmp_path_factory.mktemp("config") / "discs.yaml"
    OmegaConf.save(OmegaConf.create(settings(small_data, steps=STEPS)), path)
    return path


def start(*arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "tomocast", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def call(*arguments):
    """Run a verb in this process and return (what it printed, the exception or None)."""
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], standalone_mode=False)
    return done.stdout, done.exception


def refusal(*arguments) -> str:
    _, error = call(*arguments)
    assert isinstance(error, InputError), error
    assert "\n" not in str(error)
    return str(error)


def test_a_run_killed_at_any_time_resumes_to_the_same_prior(config, small_prior, tmp_path):
    cut = tmp_path / "cut"
    process = start("train", config, "--out", cut)
    end = time.monotonic() + 300
    while not (cut / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cut / "prior").exists()
    printed, error = call("train", config, "--out", cut, "--resume")
    assert error is None, error
    assert "prior discs" in printed
    # The prior of the session comes from the same configuration, never interrupted.
    first, second = (load_file(run / "model.safetensors") for run in (small_prior, cut / "prior"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert {item.name for item in cut.iterdir() if not item.name.startswith(".partial")} >= {
        "checkpoint.pt",
        "training.jsonl",
        "tensorboard",
        "config.yaml",
        "versions.json",
        "metrics.json",
        "samples.png",
        "prior",
    }
    figures = json.loads((cut / "metrics.json").read_text())
    assert figures["held_out_psnr"].keys() == {"0.1", "0.5", "1.0"}
    assert figures["resumed"] is True
    assert figures["peak_memory_bytes"] > 2**20
    assert list((cut / "tensorboard").iterdir())
    assert "already holds" in refusal("train", config, "--out", cut)
    other = refusal("train", config, "seed=9", "--out", cut, "--resume")
    assert "seed was 0 when the run began, found 9" in other


def test_the_plan_is_printed_and_nothing_written(config, tmp_path):
    printed, error = call("train", config, "--plan", "--out", tmp_path / "run", "--json", "-")
    assert error is None
    assert not (tmp_path / "run").exists()
    plan = json.loads(printed)
    assert plan["fits"]
    assert plan["seconds"] > 0
    assert plan["total_bytes"] == sum(plan["bytes"].values())


def test_layers_and_overrides_reach_the_run(config, tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text("seed: 4\noptimisation: {steps: 3}\n")
    printed, error = call("train", config, "optimisation.ema=0.5", "-c", more, "--print-config")
    assert error is None
    told = OmegaConf.create(printed)
    assert (told.seed, told.optimisation.steps, told.optimisation.ema) == (4, 3, 0.5)
    assert told.optimisation.learning_rate == 1e-2


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimisation.step=3", "did you mean 'steps'"),
        ("data=nowhere", "nowhere/manifest.yaml: not found"),
        ("crops=[{size: 64, batch: 1}]", "larger than the slices"),
        ("codec.scale=1e7", "does not fit the codec"),
        ("initial=ct-nothing", "prior 'ct-nothing'"),
        ("crops=[{size: 40, batch: 100000000}]", "memory: this job needs"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(config, tmp_path, override, told):
    assert told in refusal("train", config, override, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_can_start_from_a_prior_of_the_same_network(config, small_prior):
    _, error = call("train", config, f"initial={small_prior}", "--plan")
    assert error is None
    told = refusal("train", config, f"initial={small_prior}", "network.channels=[16,32]", "--out", "unused")
    assert "initial: prior 'discs'" in told
    assert not Path("unused").exists()


def test_the_exit_status_of_a_mistake_is_2(config, tmp_path):
    process = start("train", config, "crops=[]", "--out", tmp_path / "run")
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert told.startswith("error: ")
    assert "crops" in told
    assert "Traceback" not in told
    assert printed == ""


def test_samples_are_written_as_values_and_as_a_page(small_prior, small_data, tmp_path):
    values, page = tmp_path / "s.npy", tmp_path / "s.png"
    common = ["--count", 2, "--steps", 4, "--seed", 3, "--size", 24]
    assert call("sample", small_prior, "--out", values, *common)[1] is None
    array = np.load(values)
    assert array.shape == (2, 24, 24)
    assert array.dtype == np.float32
    # HU: in network units nothing would lie below -10.
    assert -5000 < array.min() < -300
    beside = ["--beside", small_data / "held_out.npy"]
    assert call("sample", small_prior, "--out", page, *common, *beside)[1] is None
    assert page.read_bytes()[:4] == b"\x89PNG"
    assert "expected .npy" in refusal("sample", small_prior, "--out", tmp_path / "s.jpg")
    (tmp_path / "no.npy").write_bytes(b"")
    told = refusal("sample", small_prior, "--out", page, *common, "--beside", tmp_path / "no.npy")
    assert "cannot be read as a NumPy array" in told


def test_inspect_tells_what_a_prior_is(small_prior):
    text = describe_prior(str(small_prior))
    assert "trained_on: random discs" in text
    assert "parameters, sha256 as on the card" in text
    assert "held-out denoising PSNR" in text
    printed, error = call("inspect", small_prior, "--json")
    assert error is None
    told = json.loads(printed)
    assert told["verified"] is True
    assert told["card"]["name"] == "discs"
    assert "neither an embedded prior" in refusal("inspect", "nothing-like-it")
