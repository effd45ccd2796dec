"""The adapters of other projectors: values where they run, their arguments where they do not."""

import dataclasses

import numpy as np
import pytest
import torch

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, FanCurved, FanFlat, HelicalCone, Parallel
from recon.inspect.backends import describe_backends
from recon.operators.backends import FAMILY
from recon.operators.backends.astra_toolbox import volume_vectors
from recon.operators.backends.torch_radon import Arguments, arguments
from recon.operators.projector import Projector
from tests.support.recon.analytic import body, rasterise

VOLUME = Grid((3, 48, 40), (2.0, 1.3, 1.3), (0.0, 2.0, -3.0))
IMAGE = rasterise(body(20), VOLUME).float().expand(VOLUME.shape)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture
def astra() -> None:
    pytest.importorskip("astra", reason="ASTRA is not installed")


@pytest.mark.usefixtures("astra")
def test_astra_projects_stacks_of_parallel_views_as_we_do() -> None:
    scan = Parallel(views=13, start_deg=1, column_mm=1.1, offset_columns=0.3).fit(VOLUME).geometry()
    theirs, ours = (Projector(scan, VOLUME, backend=name) for name in ("astra", "numba"))
    y = ours(IMAGE)
    # Design target: ASTRA's positions are float32.
    assert relative(theirs(IMAGE), y) < 5e-5
    assert relative(theirs.adjoint(y), ours.adjoint(y)) < 5e-5
    assert not theirs.matched
    assert ours.matched


@pytest.mark.usefixtures("astra")
def test_astra_projects_fans_with_another_interpolation() -> None:
    scan = FanFlat(views=13, sod_mm=90, sdd_mm=160, offset_columns=0.5).fit(VOLUME).geometry()
    theirs, ours = (Projector(scan, VOLUME, backend=name) for name in ("astra", "numba"))
    # Lengths in pixels against linear interpolation: the same integrals up to the edges of the phantom.
    assert relative(theirs(IMAGE), ours(IMAGE)) < 2e-2
    with pytest.raises(InputError, match="cannot fade"):
        theirs.distance_weighted_adjoint(ours(IMAGE))


@pytest.mark.usefixtures("astra")
def test_astra_refuses_what_it_cannot_do_here() -> None:
    curved = FanCurved(views=3, sod_mm=90, sdd_mm=160).fit(VOLUME).geometry()
    with pytest.raises(InputError, match="astra: it has no curved detectors"):
        Projector(curved, VOLUME, backend="astra")
    wide = Grid((1, 8, 8), (1.0, 1.0, 1.5))
    scan = Parallel(views=3).fit(wide).geometry()
    with pytest.raises(InputError, match="need square pixels"):
        Projector(scan, wide, backend="astra")
    if not torch.cuda.is_available():
        cone = CircularCone(views=3, sod_mm=90, sdd_mm=160).fit(VOLUME).geometry()
        with pytest.raises(InputError, match="need CUDA"):
            Projector(cone, VOLUME, backend="astra")


def test_vectors_for_astra_hold_source_detector_and_steps() -> None:
    scan = CircularCone(angles_deg=(90.0,), sod_mm=60, sdd_mm=100, offset_rows=1.0).fit(VOLUME).geometry()
    source, centre, u, v = volume_vectors(scan).reshape(4, 3)
    np.testing.assert_allclose(source, [-60, 0, 0], atol=1e-9)
    np.testing.assert_allclose(centre, scan.detector_mm[0])
    np.testing.assert_allclose([u[1], v[2]], [np.linalg.norm(scan.u_mm), np.linalg.norm(scan.v_mm)])


def their_rays(found: Arguments, scan) -> tuple[np.ndarray, np.ndarray]:
    """Return sources (view, 3) and detector elements (view, row, column, 3) by torch-radon's formulas."""
    beam, solid = found.beam, found.solid
    a = np.asarray(beam["angles"])[:, None, None]
    rows, columns = scan.shape
    width = beam["det_spacing_u"] if solid else beam["det_spacing"]
    x = ((np.arange(columns) - (columns - 1) / 2) * width)[None, None, :: -1 if solid else 1]
    cosine, sine, out = np.cos(a), np.sin(a), beam.get("det_dist", 0.0)
    if not solid:
        source = beam.get("src_dist", 0.0) * np.stack([sine, cosine], -1)[:, 0, 0]
        at = np.stack([x * cosine - out * sine, -x * sine - out * cosine], -1)
        return np.pad(source, ((0, 0), (0, 1))), np.pad(at, ((0, 0),) * 3 + ((0, 1),))
    z = beam["base_z"] + beam["pitch"] * a / (2 * np.pi)
    source = np.concatenate([beam["src_dist"] * np.stack([sine, -cosine], -1)[:, 0, 0], z[:, 0]], -1)
    up = ((np.arange(rows) - (rows - 1) / 2) * beam["det_spacing_v"])[None, :, None]
    flat = (x * cosine - out * sine, x * sine + out * cosine, up + z)
    return source, np.stack(np.broadcast_arrays(*flat), -1)


@pytest.mark.parametrize(
    "orbit",
    [
        Parallel(views=5, start_deg=4),
        FanFlat(views=5, start_deg=4, sod_mm=90, sdd_mm=160),
        CircularCone(views=5, start_deg=4, sod_mm=90, sdd_mm=160),
        HelicalCone(views_per_turn=6, pitch_mm=8.0, sod_mm=90, sdd_mm=160),
    ],
    ids=["parallel", "fan", "cone", "helix"],
)
def test_arguments_for_torch_radon_give_the_same_rays(orbit) -> None:
    scan = orbit.fit(VOLUME).geometry()
    found = arguments(VOLUME, scan)
    assert isinstance(found, Arguments)
    source, at = their_rays(found, scan)
    rows, columns = scan.shape
    c, r = np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2
    u, v = scan.u_mm[:, None, None], scan.v_mm[:, None, None]
    expected = scan.detector_mm[:, None, None] + c[None, None, :, None] * u + r[None, :, None, None] * v
    if scan.sliced:
        expected, at = expected[:, :1, :, :2], at[..., :2]
    np.testing.assert_allclose(at, np.broadcast_to(expected, at.shape), atol=1e-6)
    if not scan.parallel:
        np.testing.assert_allclose(source[:, :2], scan.source_mm[:, :2], atol=1e-6)
    if not scan.sliced:
        np.testing.assert_allclose(source[:, 2], scan.source_mm[:, 2], atol=1e-6)
    assert found.volume["center"][:2] == (-3.0, 2.0)


def test_torch_radon_refuses_offsets_and_bent_detectors() -> None:
    fan = {"views": 5, "sod_mm": 90.0, "sdd_mm": 160.0}
    assert "offsets" in str(arguments(VOLUME, FanFlat(**fan, offset_columns=2).fit(VOLUME).geometry()))
    assert "curved" in str(arguments(VOLUME, FanCurved(**fan).fit(VOLUME).geometry()))
    scan = FanFlat(**fan).fit(VOLUME).geometry()
    bent = dataclasses.replace(scan, source_mm=scan.source_mm * np.linspace(1, 1.1, 5)[:, None])
    assert "circle" in str(arguments(VOLUME, bent))


def test_inspect_names_every_backend_and_why_it_is_missing() -> None:
    found = describe_backends()
    for backend in FAMILY:
        told = found.facts[backend.name]
        assert ("NOT available" in told) == (backend.availability() is not None)
        assert ("UNMATCHED" in told) == (not backend.matched)
    assert found.kind == "projector backends"
