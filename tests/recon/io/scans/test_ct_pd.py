"""DICOM-CT-PD written by the encoder of the published table: the rays that come back see the same object."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.geometry.scan import ScanGeometry
from recon.io.scans.registry import read_scan
from recon.io.volumes.registry import read_volume
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.fbp.fbp import FBP
from tests.support.recon.ct_pd_encoder import Gantry, write_ct_pd

TURNS = np.linspace(0.3, 0.3 + 4 * np.pi, 21)
AXIAL = Gantry(TURNS, np.full(21, -35.0))
HELICAL = Gantry(TURNS, -35.0 + 4.0 * (TURNS - 0.3))
# Angle, height and radius of a focal spot that jumps between two places, as large as on real tubes.
FLYING = np.array([[0.0008, 0.35, 0.0], [-0.0008, -0.35, 3.0]])
GANTRIES = {
    "axial": AXIAL,
    "helical": HELICAL,
    "flat": dataclasses.replace(HELICAL, shape="FLAT"),
    "flying": dataclasses.replace(HELICAL, shifts=FLYING, mode="FFSXYZ"),
    "flying over a flat detector": dataclasses.replace(HELICAL, shifts=FLYING, mode="FFSXYZ", shape="FLAT"),
    "downwards": dataclasses.replace(HELICAL, heights=HELICAL.heights[::-1], angles=-TURNS),
}
# Balls in the format's left-handed frame (x right, y up, z into the gantry): no symmetry of any kind.
BALLS = [((12.0, 3.0, -33.0), 9.0, 0.02), ((-8.0, 14.0, -20.0), 6.0, 0.05), ((3.0, -15.0, -5.0), 7.0, 0.03)]


def through_balls(start: np.ndarray, end: np.ndarray, balls: list) -> np.ndarray:
    """Return line integrals along rays from ``start`` through ``end`` (..., 3)."""
    direction = (end - start) / np.linalg.norm(end - start, axis=-1, keepdims=True)
    total = np.zeros(direction.shape[:-1])
    for centre, radius, mu in balls:
        offset = np.array(centre) - start
        along = (offset * direction).sum(-1)
        miss = (offset**2).sum(-1) - along**2
        total += 2 * mu * np.sqrt(np.maximum(radius**2 - miss, 0))
    return total


def measured(gantry: Gantry) -> np.ndarray:
    views = range(len(gantry.angles))
    return np.stack([through_balls(gantry.focal_spot(k), gantry.elements(k), BALLS) for k in views])


def elements(geometry: ScanGeometry, view: int) -> np.ndarray:
    """Return the centres (row, column, 3) of our detector, from the words of ``recon.geometry.scan``."""
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in geometry.shape)
    source, middle, u, v = (getattr(geometry, n)[view] for n in ("source_mm", "detector_mm", "u_mm", "v_mm"))
    if geometry.detector == "flat":
        return np.asarray(middle + columns[None, :, None] * u + rows[:, None, None] * v)
    level = middle - source
    level = level - (level @ v) / (v @ v) * v
    reach = np.linalg.norm(level)
    angle = columns[:, None] * np.linalg.norm(u) / reach
    turned = np.cos(angle) * level + np.sin(angle) * reach * u / np.linalg.norm(u)
    return np.asarray(middle - level + turned[None] + rows[:, None, None] * v)


def seen(data: Scan) -> np.ndarray:
    """Return the balls' line integrals along the rays of a scan that was read: z turned round, right-handed."""
    balls = [((x, y, -z), radius, mu) for (x, y, z), radius, mu in BALLS]
    views = range(data.geometry.views)
    return np.stack(
        [through_balls(data.geometry.source_mm[k], elements(data.geometry, k), balls) for k in views]
    )


@pytest.mark.parametrize("kind", GANTRIES)
def test_the_rays_that_come_back_see_the_same_object(tmp_path: Path, kind: str) -> None:
    gantry = GANTRIES[kind]
    lines = measured(gantry)
    assert (lines > 0).mean() > 0.1
    data = read_scan(write_ct_pd(tmp_path / "scan", gantry, lines))
    assert (data.geometry.beam, data.geometry.shape) == ("cone", (4, 24))
    assert data.geometry.detector == ("flat" if gantry.shape == "FLAT" else "curved")
    # Stored in 16 bits: half a step, and the slope's ten digits.
    np.testing.assert_allclose(data.sinogram, lines, atol=lines.max() / 60000)
    error = abs(seen(data) - lines).max()
    # Geometry is in float32 (3e-5 of 540 mm); the steepest ball grows by mu 2 sqrt(2 r d) over d mm of its edge.
    edge = 2 * 0.05 * np.sqrt(2 * 9.0 * 1e-4)
    if kind == "flying":
        # Rays are off by at most the misfit of a column of 2.5 mm on the detector, half of it at the ball.
        assert 0 < data.provenance["ray_error_columns"] < 0.01
        edge = 2 * 0.05 * np.sqrt(2 * 9.0 * 2.5 * 0.01)
    assert error < edge


def test_ray_errors_on_a_clinical_scanner_are_small(tmp_path: Path) -> None:
    """The dimensions of a Somatom Definition: 736 columns of 1.2858 mm, source at 595 mm, detector at 1085.6 mm."""
    clinical = Gantry(
        TURNS[:2], HELICAL.heights[:2], rows=2, columns=736, row_mm=1.0947, column_mm=1.2858,
        radius_mm=595.0, depth_mm=1085.6, central=(369.625, 1.5), shifts=np.array([[8e-4, 0.35, 4.7]]),
    )  # fmt: skip
    data = read_scan(write_ct_pd(tmp_path / "scan", clinical, np.ones((2, 2, 736))))
    assert data.provenance["ray_error_columns"] < 0.06
    far = dataclasses.replace(clinical, shifts=np.array([[0.0, 0.0, 40.0]]))
    with pytest.raises(InputError, match="rays would be off by"):
        read_scan(write_ct_pd(tmp_path / "far", far, np.ones((2, 2, 736))))


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_syntax_order_and_archive_do_not_matter(tmp_path: Path, implicit: bool, transposed: bool) -> None:
    lines = measured(HELICAL)
    folder = write_ct_pd(tmp_path / "scan", HELICAL, lines, implicit=implicit, transposed=transposed)
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    first, second = read_scan(folder), read_scan(tmp_path / "scan.zip")
    np.testing.assert_array_equal(first.sinogram, second.sinogram)
    np.testing.assert_allclose(first.sinogram, lines, atol=lines.max() / 60000)
    np.testing.assert_array_equal(first.geometry.source_mm, second.geometry.source_mm)


def test_photons_per_column_weigh_the_rays(tmp_path: Path) -> None:
    lines, photons = measured(AXIAL), np.linspace(1e4, 2e4, 24)
    data = read_scan(write_ct_pd(tmp_path / "scan", AXIAL, lines, photons=photons))
    np.testing.assert_allclose(data.weights, photons * np.exp(-data.sinogram), rtol=1e-5)
    assert data.mu_water == pytest.approx(0.0192)
    assert data.unit == "HU"
    assert "SECRET" not in str(data.provenance)


@pytest.mark.parametrize(
    ("position", "right", "head"), [("HFS", -1, -1), ("FFS", 1, 1), ("HFP", 1, -1), ("FFP", -1, 1)]
)
def test_the_patient_lies_as_stated(tmp_path: Path, position: str, right: int, head: int) -> None:
    """Seen from the table: head first and supine the patient's left is at the right and the head is away."""
    folder = write_ct_pd(tmp_path / "scan", AXIAL, measured(AXIAL), PatientPosition=position)
    frame = read_scan(folder).frame
    assert (frame[0, 0], frame[2, 2]) == (right, head)
    assert np.linalg.det(frame) == pytest.approx(1.0)


def test_one_row_on_a_circle_is_a_fan_that_fbp_reconstructs(tmp_path: Path) -> None:
    gantry = Gantry(
        np.linspace(0, 2 * np.pi, 120, endpoint=False), np.zeros(120), rows=1, columns=128, column_mm=0.7,
        row_mm=1.0, central=(65.0, 1.0),
    )  # fmt: skip
    flat = [((x, y, 0.0), radius, mu) for (x, y, _), radius, mu in BALLS]
    views = range(120)
    lines = np.stack([through_balls(gantry.focal_spot(k), gantry.elements(k), flat) for k in views])
    data = read_scan(write_ct_pd(tmp_path / "scan", gantry, lines, DataCollectionDiameter="40"))
    assert data.geometry.beam == "fan"
    assert data.grid.shape == (1, 512, 512)
    grid = dataclasses.replace(data.grid, shape=(1, 128, 128), voxel_mm=(1.0, 0.3125, 0.3125))
    projector = Projector(data.geometry, grid)
    measurement = Measurement(torch.from_numpy(data.sinogram), torch.from_numpy(data.weights))
    image = FBP()(measurement, projector, RunContext())[0].numpy()
    for (x, y, _), _, mu in flat:
        column, row = (int(np.argmin(abs(grid.coordinates(axis) - at))) for axis, at in ((2, x), (1, y)))
        # Balls 12 to 18 mm across on columns of 0.4 mm: the plateau is flat to a few percent.
        assert image[row - 3 : row + 4, column - 3 : column + 4].mean() == pytest.approx(mu, rel=0.05)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"DetectorShape": "SPHERICAL"}, "found 'SPHERICAL', expected CYLINDRICAL or FLAT"),
        ({"LogFlag": "NO"}, "LogFlag: found NO"),
        ({"DetectorCentralElement": None}, r"\(7031,1033\) DetectorCentralElement is missing"),
        ({"DetectorCentralElement": [1.0]}, "expected 2 numbers"),
        ({"ConstantRadialDistance": 200.0}, "expected the axis between them"),
        ({"WaterAttenuationCoefficient": "0.192"}, "expected about 0.02 per mm"),
        ({"NumberofDetectorRows": 5}, r"found pixels of shape \(24, 4\), expected \(5, 24\)"),
        ({"RescaleSlope": None}, "RescaleSlope and RescaleIntercept are missing"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, change: dict, told: str) -> None:
    folder = write_ct_pd(tmp_path / "scan", AXIAL, measured(AXIAL), **change)
    with pytest.raises(InputError, match=told):
        read_scan(folder)


def test_projections_are_no_volume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds projection data"):
        read_volume(write_ct_pd(tmp_path / "scan", AXIAL, measured(AXIAL)))


COUNTED = 24 - 10.25
"""Where columns are counted as GE does: from the other end and from 0."""


@pytest.mark.parametrize(
    ("maker", "true", "read"),
    [
        # The data say which reading is right, whoever made the scanner; other makers follow the table.
        ("GE MEDICAL SYSTEMS", COUNTED, COUNTED),
        ("GE MEDICAL SYSTEMS", 10.25, 10.25),
        ("SIEMENS", 10.25, 10.25),
        ("", 10.25, 10.25),
    ],
)
def test_the_central_column_is_counted_as_its_maker_does(
    tmp_path: Path, maker: str, true: float, read: float
) -> None:
    gantry = Gantry(
        np.linspace(0, 2 * np.pi, 120, endpoint=False), np.zeros(120), rows=1, columns=24, column_mm=4.0,
        row_mm=1.0, central=(true, 1.0),
    )  # fmt: skip
    flat = [((x, y, 0.0), radius, mu) for (x, y, _), radius, mu in BALLS]
    lines = np.stack([through_balls(gantry.focal_spot(k), gantry.elements(k), flat) for k in range(120)])
    stated = dataclasses.replace(gantry, central=(10.25, 1.0))
    data = read_scan(write_ct_pd(tmp_path / "scan", stated, lines, Manufacturer=maker))
    known = Projector(read_scan(write_ct_pd(tmp_path / "plain", gantry, lines)).geometry, data.grid)
    np.testing.assert_allclose(data.geometry.detector_mm, known.geometry.detector_mm, atol=1e-3)
    told = " ".join(data.warnings)
    assert ("opposite rays" in told) == (maker.startswith("GE") and true == 10.25)
