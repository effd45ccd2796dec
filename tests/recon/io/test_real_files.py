"""Every real CT volume and sinogram: it is read, and what is read agrees with an independent source."""

import io
import lzma
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import SimpleITK as sitk  # noqa: N813
import torch

from priors.runtime.errors import InputError
from recon.data.volume import LPS_TO_RAS
from recon.geometry.grid import Grid
from recon.io.scans.registry import read_scan
from recon.io.volumes.registry import read_volume
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.fbp.fbp import FBP
from tests.support.real_data import real_data

# From the data's own manifest: shape (z, y, x), voxel (z, y, x) mm, smallest and largest HU.
VOLUMES = [
    ("ct/covidctmd_cap002.zip", (48, 512, 512), (2.0, 0.6309, 0.6309), (-1024, 2105)),
    ("ct/nlst_101287.zip", (29, 512, 512), (10.0, 0.54, 0.54), (-2048, 2377)),
    ("ct/lungdx_A0002.zip", (30, 512, 512), (8.0, 0.6465, 0.6465), (-1024, 1548)),
    ("ct/alderson_phantom.zip", (10, 512, 512), (60.0, 1.3281, 1.3281), (-1024, 1854)),
    ("ct/catphan_slice_imageio_dicom_file01.dcm", (1, 512, 512), (3.0, 0.5801, 0.5801), (-1024, 2976)),
    ("ct/lungct_diagnosis_R_004.dcm", (1, 512, 512), (5.0, 0.8301, 0.8301), (-3024, 1748)),
    ("ct/totalseg_example_ct.nii.gz", (112, 101, 122), (3.0, 3.0, 3.0), (-1207, 3382)),
    ("ct/elastix_3DCT_lung_baseline.mha", (129, 157, 115), (2.5, 1.366, 1.366), (-2048, 1435)),
]
ARCS = ["", "_30", "_40", "_50", "_60", "_70", "_80", "_90"]


@pytest.mark.parametrize(("name", "shape", "voxel_mm", "span"), VOLUMES, ids=[row[0] for row in VOLUMES])
def test_volume_has_the_documented_shape_and_range(
    name: str, shape: tuple, voxel_mm: tuple, span: tuple
) -> None:
    image = read_volume(real_data(name))
    assert image.values.shape == shape
    assert image.voxel_mm == pytest.approx(voxel_mm, abs=1e-4)
    assert (image.values.min(), image.values.max()) == span
    assert image.unit == "HU"


@pytest.mark.parametrize("name", [row[0] for row in VOLUMES if not row[0].endswith(".zip")])
def test_single_files_equal_simpleitk(name: str) -> None:
    path = real_data(name)
    oracle, image = sitk.ReadImage(str(path)), read_volume(path)
    np.testing.assert_array_equal(image.values, sitk.GetArrayFromImage(oracle).astype(np.float32))
    origin = LPS_TO_RAS[:3, :3] @ oracle.GetOrigin()
    np.testing.assert_allclose(image.affine[:3, 3], origin, atol=1e-3)


def test_values_of_a_compressed_series_are_those_of_the_derived_slices() -> None:
    """The 48 DICOM slices are contiguous in the 131 slices of the derived file, which are their 2 x 2
    means."""
    with lzma.open(real_data("ct/slices256/validation/covidctmd_cap002.npy.xz")) as packed:
        derived = np.load(io.BytesIO(packed.read()))
    values = read_volume(real_data("ct/covidctmd_cap002.zip")).values
    means = np.maximum(values, -1024).reshape(48, 256, 2, 256, 2).mean((2, 4))
    distances = [abs(means[10] - slice_).mean() for slice_ in derived]
    start = int(np.argmin(distances)) - 10
    # The derived file is rounded to whole HU; slices ascend along z in both or descend in one of them.
    ascending = abs(means - derived[start : start + 48]).max() if start + 48 <= len(derived) else np.inf
    reverse = derived[::-1]
    start = int(np.argmin([abs(means[10] - slice_).mean() for slice_ in reverse])) - 10
    descending = abs(means - reverse[start : start + 48]).max() if start + 48 <= len(reverse) else np.inf
    assert min(ascending, descending) <= 1.0


def test_values_of_unknown_scale_are_refused_unless_stated(tmp_path: Path) -> None:
    source = real_data("ct/DM4CT_L506_000.tif")
    with pytest.raises(InputError, match="unknown unit"):
        read_volume(source)
    copy = tmp_path / source.name
    copy.write_bytes(source.read_bytes())
    (tmp_path / "DM4CT_L506_000.yaml").write_text(
        "unit: HU\nvoxel_mm: [1, 0.7, 0.7]\nvalue_range: [-1, 1]\nunit_range: [-1024, 2000]\n"
    )
    assert read_volume(copy).values.min() == pytest.approx(-1024, abs=0.1)


def test_tooth_has_its_published_centre_and_reprojects() -> None:
    data = read_scan(real_data("sinograms/tomopy_tooth.h5"))
    assert data.sinogram.shape == (181, 2, 640)
    # tomopy's documentation reconstructs this file with centre 296.
    assert data.provenance["centre_column"] == pytest.approx(296, abs=0.5)
    grid = Grid((1, 320, 320), (1.0, 2.0, 2.0))
    scan = data.geometry.rows(0, 1)
    line, weights = (torch.from_numpy(np.ascontiguousarray(a[:, :1])) for a in (data.sinogram, data.weights))
    projector = Projector(scan, grid)
    residual = projector(FBP()(Measurement(line, weights), projector, RunContext())) - line
    # A right geometry leaves noise and the edges that pixels of two columns cannot show.
    assert float(residual.norm() / line.norm()) < 0.06


@pytest.mark.parametrize("arc", ARCS)
def test_htc_arcs_agree_with_their_names(arc: str) -> None:
    data = read_scan(real_data(f"sinograms/htc2022/tb_subsample{arc}.mat"))
    degrees = int(arc[1:] or 30)
    assert data.sinogram.shape == (2 * degrees + 1, 1, 560)
    assert data.grid.shape == (1, 512, 512)
    assert data.grid.voxel_mm[2] == pytest.approx(0.1483, abs=1e-4)
    # All eight arcs are one scan with one tube current.
    assert data.provenance["photons_estimated_from_noise"] == pytest.approx(67000, rel=0.05)


@pytest.mark.parametrize("name", ["solid_disc_subsample73.mat", "ta_subsample73.mat"])
def test_htc_matlab_73_files(name: str) -> None:
    data = read_scan(real_data(f"sinograms/htc2022/{name}"))
    assert data.sinogram.shape == (61, 1, 560)
    assert data.sinogram.max() > 2


def test_htc_frame_is_that_of_the_published_image() -> None:
    """Of eight rotations and reflections of the published image of the disc, as it is fits its scan best."""
    data = read_scan(real_data("sinograms/htc2022/solid_disc_subsample73.mat"))
    path = real_data("sinograms/htc2022/htc2022_solid_disc_full_recon_fbp.mat")
    image = scipy.io.loadmat(path)["reconFullFbp"].astype(np.float32)
    projector, measured = Projector(data.geometry, data.grid), torch.from_numpy(data.sinogram)

    def residual(candidate: np.ndarray) -> float:
        projected = projector(torch.from_numpy(np.ascontiguousarray(candidate)[None]))
        # The scale is fitted: only the place of the disc is in question.
        scale = (projected * measured).sum() / (projected * projected).sum()
        return float((scale * projected - measured).norm() / measured.norm())

    turned = [np.rot90(image, k) for k in range(4)]
    residuals = [residual(candidate) for candidate in [*turned, *(np.flipud(t) for t in turned)]]
    assert int(np.argmin(residuals)) == 0
    # Measured 0.0294, and 0.0341 for the next best: the disc is only 1.2 and 2.7 pixels off centre.
    assert residuals[0] < 0.031
    assert sorted(residuals)[1] > 1.1 * residuals[0]


def test_htc_opposite_rays_agree() -> None:
    """A ray and the same ray run backwards measure one line integral: this tells which way the fan opens."""
    arcs = [read_scan(real_data(f"sinograms/htc2022/tb_subsample{arc}.mat")) for arc in ARCS]
    measured = np.concatenate([arc.sinogram[:, 0] for arc in arcs]).astype(np.float64)
    source = np.concatenate([arc.geometry.source_mm for arc in arcs])
    middle = np.concatenate([arc.geometry.detector_mm for arc in arcs])
    columns = measured.shape[1]
    offsets = np.arange(columns) - (columns - 1) / 2
    ends = middle[:, None] + offsets[:, None] * np.concatenate([arc.geometry.u_mm for arc in arcs])[:, None]
    rays, axis = ends - source[:, None], np.broadcast_to(-source[:, None], ends.shape)
    fan = np.degrees(np.arctan2(np.cross(axis, rays)[..., 2], (axis * rays).sum(axis=2)))
    place = np.degrees(np.arctan2(source[:, 1], source[:, 0]))
    # Sources lie half a degree apart; those of the gaps between the arcs stay empty.
    turn = np.full((720, columns), np.nan)
    first = place.min()
    turn[np.rint(2 * (place - first)).astype(int) % 720] = measured
    # The way back starts at place + 180 + 2 fan, and leaves its source at minus the fan angle.
    back = (2 * (place[:, None] + 180 + 2 * fan - first)) % 720
    below, part = np.floor(back).astype(int) % 720, back % 1
    mirrored = np.arange(columns)[::-1]
    partner = (1 - part) * turn[below, mirrored] + part * turn[(below + 1) % 720, mirrored]
    difference = (partner - measured)[np.isfinite(partner)]
    assert difference.size > measured.size / 2
    # Values reach 1.9. Measured 0.015: noise, interpolation at edges and a fifth of a column of shift. A fan
    # that opens the wrong way round leaves 0.109.
    assert np.sqrt(np.mean(difference**2)) < 0.025
