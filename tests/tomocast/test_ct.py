"""The public face of CT does what the command line does, on NumPy and torch, in either precision."""

import subprocess
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch

import tomocast as tc
from priors.runtime.errors import InputError, InputWarning
from tests.support.command_line import inside

ORBIT = {"columns": 40, "column_mm": 3.0, "rows": 3, "row_mm": 3.0}


@pytest.fixture(scope="module")
def orbit():
    return tc.orbits.Parallel(views=40, **ORBIT)


@pytest.fixture(scope="module")
def projector(orbit):
    return tc.Projector(orbit.geometry(), orbit.grid())


@pytest.fixture(scope="module")
def truth(orbit):
    """A cylinder of water in 1/mm, in double precision."""
    z, y, x = np.meshgrid(*(orbit.grid().coordinates(axis) for axis in range(3)), indexing="ij")
    return np.where((x / 1.2) ** 2 + y**2 < 40**2, 0.02, 0.0) + 0 * z


@pytest.fixture(scope="module")
def scan(projector, orbit, truth):
    lines = projector(truth)
    return tc.Scan(lines + np.random.default_rng(0).normal(0, 0.01, lines.shape), orbit.geometry())


def test_importing_it_loads_nothing_heavy():
    look = "import sys, tomocast; print({'numpy', 'torch', 'pydantic', 'xarray', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_public_name_can_be_had():
    assert all(getattr(tc, name) is not None for name in tc.__all__)
    with pytest.raises(AttributeError):
        tc.nothing  # noqa: B018


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_in_arrays_out_and_the_adjoint_is_exact(projector, dtype):
    generator = np.random.default_rng(1)
    x = generator.standard_normal(projector.domain).astype(dtype)
    y = generator.standard_normal(projector.range).astype(dtype)
    ax, aty = projector(x), projector.T(y)
    assert isinstance(ax, np.ndarray)
    assert ax.dtype == aty.dtype == dtype
    # Sums of some 10^4 products: rounding of one precision times their root.
    tolerance = 100 * np.finfo(dtype).eps
    assert abs((ax * y).sum() - (x * aty).sum()) < tolerance * np.linalg.norm(ax) * np.linalg.norm(y)
    assert projector.T.T is projector


def test_tensors_stay_tensors_and_carry_gradients(projector, truth):
    x = torch.from_numpy(truth).requires_grad_(True)
    projector(x).square().sum().backward()
    expected = 2 * projector.T(projector(truth))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-10, atol=1e-10 * expected.max())


def test_odd_memory_is_taken(projector, truth):
    reversed_x = truth[:, :, ::-1]
    np.testing.assert_array_equal(projector(reversed_x), projector(reversed_x.copy()))
    frozen = truth.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(projector(frozen), projector(truth))
    with pytest.raises(InputError, match="int64"):
        projector(truth.astype(int))
    with pytest.raises(InputError, match="expected volume"):
        projector(truth[0])


def test_a_bare_sinogram_is_a_scan(scan, orbit):
    assert scan.sinogram.dtype == np.float32
    assert scan.grid == orbit.grid()
    # Noise of 0.01 is that of 10^4 photons; the edges of so few columns look like noise too.
    i0 = scan.weights * np.exp(scan.sinogram)
    np.testing.assert_allclose(i0, i0.mean(), rtol=1e-4)
    assert 2e3 < i0.mean() < 2e4
    assert "40 views of 3 x 40, parallel beam" in repr(scan)
    with pytest.raises(InputError, match="axes swapped"):
        tc.Scan(scan.sinogram.transpose(1, 0, 2), orbit.geometry())


def test_a_reconstruction_is_a_volume_that_tells_what_it_is(scan, truth, tmp_path):
    volume = tc.reconstruct(scan, "tv", iterations=40)
    assert volume.grid == scan.grid
    np.testing.assert_array_equal(volume.affine, scan.affine(scan.grid))
    assert volume.unit == "HU"
    water = volume.values[1][truth[1] > 0]
    assert abs(np.median(water)) < 60  # 0.02 / mm is 1.6 % above water's attenuation here
    assert 0.3 < volume.metrics["chi2_per_ray"] < 3
    told = repr(volume)
    assert "3 x 40 x 40 (z, y, x)" in told
    assert "HU" in told
    assert "affine to RAS mm: 3 0 0 -58.5" in told
    assert "voxel_mm=(3.0, 3.0, 3.0)" in told
    volume.save(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(nibabel.load(tmp_path / "out.nii.gz").affine, volume.affine)
    again = tc.read_volume(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(again.values, volume.values)
    with pytest.raises(InputError, match="ends in one of"):
        volume.save(tmp_path / "out.txt")


def test_it_is_the_command_lines_result(scan, tmp_path):
    from recon.io.scans.registry import write_scan

    write_scan(tmp_path / "scan.h5", scan)
    inside("reconstruct", tmp_path / "scan.h5", "--method", "sirt", "--grid", 20, "--out", tmp_path / "run")
    volume = tc.reconstruct(tmp_path / "scan.h5", "sirt", settings={"grid": 20})
    run = nibabel.load(tmp_path / "run" / "volume.nii.gz")
    np.testing.assert_array_equal(run.get_fdata().transpose(2, 1, 0), volume.values)
    offset = volume.values + np.float32(10)
    figures = tc.score(tc.Volume(offset, volume.affine), tmp_path / "run")
    assert figures["rmse_hu"] == pytest.approx(10, rel=1e-3)


def test_mistakes_are_told(scan):
    with pytest.raises(InputError, match="did you mean 'tv'"):
        tc.reconstruct(scan, "tvv")
    with pytest.raises(InputError, match="did you mean 'iterations'"):
        tc.reconstruct(scan, "tv", iteration=3)
    with pytest.raises(InputError, match="does not exist"):
        tc.read_scan("none.h5")
    with pytest.raises(InputError, match="expected HU"):
        tc.score(tc.Volume(np.zeros((2, 3, 4)), np.eye(4), "1/mm"), "x.nii.gz")


def test_what_cannot_be_right_is_an_error_unless_forced(scan, projector):
    pose = scan.geometry
    same = {
        name: np.repeat(getattr(pose, name)[:1], pose.views, 0)
        for name in ("source_mm", "detector_mm", "u_mm", "v_mm")
        if getattr(pose, name) is not None
    }
    turned = replace(scan, geometry=replace(pose, **same))
    with pytest.raises(InputError, match=r"all 40 views have the same pose.*force=True"):
        tc.reconstruct(turned)
    with pytest.warns(InputWarning, match="all 40 views have the same pose"):
        forced = tc.reconstruct(turned, force=True)
    assert any("same pose" in text for text in forced.metrics["warnings"])
    # An operator that does not see constants sees nothing of them: the solution is air everywhere.
    blind = tc.LinearOperator(
        lambda x: x - x.mean(), lambda y: y - y.mean(), grid=projector.grid, range=projector.domain
    )
    with pytest.raises(InputError, match=r"expected an object.*force=True"):
        tc.reconstruct_with(blind, np.ones(projector.domain, np.float32), "cgls")
