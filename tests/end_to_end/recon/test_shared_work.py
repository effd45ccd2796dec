"""``torchrun`` with two processes reconstructs what one process does."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.support.command_line import inside, torchrun

METHODS = {
    "tv": ["--method", "tv", "method.iterations=20"],
    "nerd-fast": ["--method", "nerd-fast", "--prior", "ct-chest-256", "method.fast.levels=2"],
}


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    inside("phantom", "slices=6", "grid=96", "pixel_mm=4.0", "--out", folder / "body.nii.gz")
    inside(
        "simulate", "scan", folder / "body.nii.gz", "--views", 12, "--grid", 48, "--out", folder / "scan.h5"
    )
    return folder / "scan.h5"


def volume(run: Path) -> np.ndarray:
    return np.asarray(nibabel.load(run / "volume.nii.gz").dataobj, dtype=np.float64)


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_reconstruct_the_volume_of_one(method: str, scan: Path, tmp_path: Path) -> None:
    inside("reconstruct", scan, *METHODS[method], "--out", tmp_path / "alone")
    torchrun("reconstruct", scan, *METHODS[method], "--out", tmp_path / "together")
    alone, together = volume(tmp_path / "alone"), volume(tmp_path / "together")
    # Slices are shared, so float32 sums run in another order; HU of water is 1000.
    assert abs(together - alone).max() < 0.1
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in (tmp_path / "together").iterdir()} == names
    inside("reconstruct", scan, *METHODS[method], "--out", tmp_path / "together", "--resume")
