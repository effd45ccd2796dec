"""What is installed: a wheel that works outside the source tree, and no package that breaks others."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from priors.card.loading import APART

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built without network by the hatchling of this environment."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_code_configurations_priors_and_report_assets(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= {
        "tomocast/cli.py",
        "recon/report/reconstruction.py",
        "priors/card/loading.py",
        "assimilation/__init__.py",
    }
    # No top-level name but ours: another package may well have a folder "configs".
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {
        "tomocast",
        "recon",
        "assimilation",
        "priors",
    }
    for folder in ("configs", "data_manifests"):
        held = {f"tomocast/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob("*.yaml")}
        assert len(held) > 5
        assert names >= held
    assert "tomocast/__init__.pyi" in names
    for folder, pattern in (
        ("assimilation/report/assets", "*"),
        ("priors/runtime/report/page_assets", "*"),
        ("recon/report/assets", "*"),
        ("priors/pretrained", "*/*"),
    ):
        files = [path for path in (ROOT / folder).rglob(pattern) if path.is_file()]
        held = {path.relative_to(ROOT).as_posix() for path in files if path.parent.name not in APART}
        assert names >= held, folder
    # What is not under the licence of the program stays in the repository.
    apart = {path.parent.name for path in (ROOT / "priors" / "pretrained").glob("*/LICENCE")}
    assert apart == APART.keys()
    assert not any(f"pretrained/{folder}/" in name for name in names for folder in apart)
    assert not any(name.startswith(("tests/", "benchmarks/", "runs/")) or ".pyc" in name for name in names)


def test_the_installed_wheel_runs_outside_the_source_tree(wheel, tmp_path):
    """Unpacked into an empty folder that replaces the source tree on the path: the same as installing it."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    script = (
        "import sys, tomocast, recon; assert 'reconstruct' in dir(tomocast);"
        "assert recon.__file__.startswith(sys.argv[1]), recon.__file__;"
        "from recon.run import jobs; from priors.card import embedded_names;"
        "from priors.runtime.report.page import Page;"
        "assert (jobs.CONFIGS / 'demo.yaml').is_file(); assert jobs.CONFIGS.parent.name == 'tomocast';"
        "from priors.datasets.manifest import names; assert 'sevir' in names();"
        "from priors.runtime.config import read_yaml; assert read_yaml('configs/recon/tv.yaml');"
        "pages = [Page(name, 'x', {}, {}, '', '').render() for name in ('recon', 'assimilation')];"
        "assert all('canvas' in page and 'inflated' in page for page in pages);"
        "print(*embedded_names());"
        "from priors.card import find_prior; from priors.runtime.errors import InputError\n"
        "try: find_prior('radar-rain')\n"
        "except InputError as error: assert 'radar-rain-open' in str(error), error\n"
        "else: raise AssertionError('found')"
    )
    command = [sys.executable, "-c", script, str(site)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    embedded = {path.parent.name for path in (ROOT / "priors" / "pretrained").glob("*/card.yaml")}
    assert set(done.stdout.split()) == embedded - APART.keys()


def test_torchvision_is_not_installed():
    """Beside a CPU build of torch its only available build breaks other packages (see CONTRIBUTING.md)."""
    assert importlib.util.find_spec("torchvision") is None


def test_pins_are_complete_and_portable():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    assert not any("+" in version for version in pins.values())
    assert "tomocast" not in pins
    assert pins.keys() >= {"torch", "numpy", "numba", "monai", "pydantic", "typer"}
