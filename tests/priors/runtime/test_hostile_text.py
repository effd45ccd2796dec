"""Small texts that would cost much, and what the surroundings of a process can be."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from assimilation.fields.units import affine
from priors.runtime.config import read_yaml
from priors.runtime.errors import InputError
from priors.runtime.system.processes import process_group
from priors.runtime.system.seeds import generator_of
from priors.runtime.terminal import _Visible, visible
from priors.runtime.yaml_text import safe_yaml
from recon.io.scans.registry import read_scan
from recon.io.volumes.registry import read_volume
from recon.io.volumes.sidecar import read_sidecar

ROOT = Path(__file__).parents[3]
LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize("text", [LAUGHS, "a: " + "[" * 5000 + "]" * 5000, "a: [1\n"])
def test_yaml_that_unfolds_is_refused_at_once(tmp_path, text):
    for name, read in (
        ("v.yaml", lambda path: read_sidecar(path.with_suffix(".npy"))),
        ("s.yaml", read_scan),
    ):
        path = tmp_path / name
        path.write_text(text)
        for attempt in (read, read_yaml, safe_yaml):
            with pytest.raises(InputError):
                attempt(path)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for read in (read_yaml, read_scan, read_volume):
        with pytest.raises(InputError, match="file"):
            read(tmp_path / "pipe.yaml")


@pytest.mark.parametrize(
    "unit", ["9**9**9**9", "m^9^9^9", "m**(9**9**9)", "m**99999", "m*" * 200 + "m", "9" * 30]
)
def test_units_are_not_arithmetic(unit):
    with pytest.raises(InputError, match="found unit"):
        affine(unit, "m", label="x")


def test_seeds_beyond_32_bits_are_of_their_own():
    seeds = [1, 2**32 + 1, 2**40 + 1, 2**63 + 1, 2**64 - 1]
    drawn = {float(torch.rand(1, generator=generator_of(seed), dtype=torch.float64)) for seed in seeds}
    assert len(drawn) == len(seeds)
    assert torch.equal(
        torch.rand(4, generator=generator_of(7)), torch.rand(4, generator=torch.Generator().manual_seed(7))
    )


def test_escapes_are_shown():
    assert visible("a\x1b[2Jb\x9b31m\u202ec\td\n") == "a\\x1b[2Jb\\x9b31m\\u202ec\td\n"


def run(
    *words: object, closed: str = "", cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "tomocast", *map(str, words)]
    whole = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=whole, timeout=120)


def test_the_surroundings_of_a_process(tmp_path):
    done = run("phantom", "--out", tmp_path / "a.nii", NUMBA_NUM_THREADS="0")
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        ["error: NUMBA_NUM_THREADS: found '0' in the environment, expected a positive number of threads"],
    )
    # Names of ours in the current folder are not imported, and a closed standard error is no reason to fail.
    for name in ("recon", "priors", "configs", "assimilation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported a stranger')")
    small = ("phantom", "--slices", 1, "--grid", 16)
    assert run(*small, "--out", "b.nii", closed="2>&-", cwd=tmp_path, WORLD_SIZE="4").returncode == 0
    # Bytes that are no UTF-8, and an escape in a name that an error quotes.
    done = run(*small, "--out", os.fsdecode(b"c\xff.nii"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("inspect", "d\x1b[31m.nii", cwd=tmp_path)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    # ... and one in a name that a success tells.
    done = run(*small, "--out", "e\x1b[31m.nii", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "e\\x1b[31m.nii: 1 x 16 x 16 voxels\n")


@pytest.mark.parametrize("closed", ["| head -1", ">&-", ">&- 2>&-"])
def test_nobody_reads_what_is_printed(tmp_path, closed):
    script = f"set -o pipefail; {sys.executable} -m tomocast config show {closed}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == (1 if "head" in closed else 0)


def test_a_full_disk_behind_standard_output(tmp_path):
    done = run("config", "show", closed="> /dev/full", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: standard output: could not be written (No space left on device)\n"


def test_several_processes_need_the_address_of_the_first(monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match="MASTER_ADDR: is not set"), process_group():
        pass


def test_a_standard_stream_takes_text_only():
    """The writer of help texts tries bytes to find out what a stream takes."""
    stream = _Visible(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    for content in (b"", b"text"):
        with pytest.raises(TypeError, match="str"):
            stream.write(content)
