"""The report: what it embeds, how small it stays, that text cannot break it."""

import html.parser
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from priors.runtime.errors import InputError
from recon.report.reconstruction import Report, render, write_report
from recon.report.volumes import HU_WINDOWS, decode, display, encode

LPS = np.diag([-1.5, -1.5, 2.0, 1.0])


def embedded(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def shown(data: dict, index: int = 0) -> np.ndarray:
    codes = data["volumes"][index]["codes"]
    return decode(codes, tuple(data["shape"]), offset=data["offset"], scale=data["scale"])


@given(seed=st.integers(0, 2**16), scale=st.floats(0.01, 50.0))
@settings(max_examples=25, deadline=None)
def test_codes_return_the_values_up_to_half_a_step(seed, scale):
    values = np.random.default_rng(seed).uniform(-1024, 3000, (3, 4, 5)).astype(np.float32)
    offset = -1024.0
    reach = offset + scale * 65535
    back = decode(encode(values, offset, scale), values.shape, offset=offset, scale=scale)
    # float32 holds 3000 to 2e-4.
    assert np.abs(back - np.minimum(values, reach)).max() <= scale / 2 + 1e-3


def test_a_patient_is_shown_from_the_feet_with_the_right_side_left():
    values = np.zeros((4, 6, 8), np.float32)
    values[0, 1, 2] = 500
    turned = {
        "as scanned": (values, LPS),
        "x to the right": (values[:, :, ::-1].copy(), np.diag([1.5, -1.5, 2.0, 1.0])),
        "z downward": (values[::-1].copy(), np.diag([-1.5, -1.5, -2.0, 1.0])),
    }
    for label, (array, affine) in turned.items():
        data = display({label: array}, affine, unit="HU").data
        assert shown(data)[0, 1, 2] == pytest.approx(500, abs=0.5), label
        assert data["voxel_mm"] == [2.0, 1.5, 1.5]


def test_axes_swapped_in_the_file_are_put_in_place():
    values = np.zeros((4, 6, 8), np.float32)
    values[0, 1, 2] = 500
    # Stored with y fastest: index order (y, x, z) of the same patient.
    affine = np.array([[0, -1.5, 0, 0], [-1.2, 0, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1.0]])
    data = display({"a": np.ascontiguousarray(values.transpose(0, 2, 1))}, affine, unit="HU").data
    assert data["shape"] == (4, 6, 8)
    assert data["voxel_mm"] == pytest.approx([2.0, 1.2, 1.5])
    assert shown(data)[0, 1, 2] == pytest.approx(500, abs=0.5)
    assert [axis["axis"] for axis in data["axes"]] == ["z", "x", "y"]


def test_a_specimen_keeps_its_axes_and_gets_windows_from_its_values():
    values = np.linspace(0, 0.05, 4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    data = display({"a": values}, np.eye(4), unit="1/mm").data
    assert np.abs(shown(data) - values).max() < 0.05 / 4095
    assert data["planes"][0] == "z plane"
    assert data["windows"]["Full"] == pytest.approx((0, 0.05), abs=1e-6)


def test_a_large_noisy_volume_is_reduced_and_says_so():
    values = np.random.default_rng(0).normal(0, 200, (32, 64, 64)).astype(np.float32)
    small = display({"a": values}, LPS, unit="HU", limit_bytes=20_000)
    assert sum(len(volume["codes"]) for volume in small.data["volumes"]) <= 20_000
    assert "averaged" in small.note
    assert np.prod(small.data["shape"]) < values.size
    assert display({"a": values}, LPS, unit="HU").note == ""


def test_a_chest_of_64_slices_stays_below_eight_megabytes_at_full_resolution():
    from scipy import ndimage

    draw = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(draw.normal(0, 1, (64, 256, 256)).astype(np.float32), 6)
    values = 400 * smooth / smooth.std() + draw.normal(0, 40, smooth.shape).astype(np.float32)
    page = render(Report("x", {"a": values.astype(np.float32)}, LPS))
    assert len(page) < 8_000_000
    assert embedded(page)["shape"] == [64, 256, 256]


def report(**changes) -> Report:
    values = np.random.default_rng(2).normal(0, 300, (3, 12, 14)).astype(np.float32)
    base = {"title": "ScanGeometry", "volumes": {"fbp": values}, "affine": LPS}
    return Report(**{**base, **changes})


def test_text_is_escaped_and_cannot_be_a_placeholder_or_end_the_script():
    nasty = '</script><img src=x onerror="1">{{js}}&'
    page = render(
        report(
            title=nasty,
            volumes={nasty: np.zeros((2, 3, 4), np.float32)},
            facts={nasty: nasty},
            configuration=nasty,
            scores={nasty: {"psnr_hu": None, "reasons": {"psnr_hu": nasty}}},
            curves={nasty: [(0.0, 1.0)]},
        )
    )
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert embedded(page)["volumes"][0]["label"] == nasty
    html.parser.HTMLParser().feed(page)


def test_nothing_is_fetched_and_nothing_points_outside():
    page = render(report())
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", page)
    assert "{{" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_scores_show_numbers_and_the_reason_for_a_missing_one():
    row = {
        "psnr_hu": 31.234,
        "ssim_3d": None,
        "window_hu": [-1000.0, 1000.0],
        "reasons": {"ssim_3d": "too thin"},
    }
    page = render(report(scores={"fbp": row}))
    assert "<td>31.23</td>" in page
    assert 'title="too thin"' in page
    assert "[-1000, 1000] HU" in page


def test_the_windows_are_the_usual_ones():
    assert HU_WINDOWS["Soft tissue"] == (-160.0, 240.0)
    assert set(embedded(render(report()))["windows"]) == {"Full", "Lung", "Soft tissue", "Bone"}


def test_a_report_in_a_file_instead_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        write_report(tmp_path / "file" / "report.html", report())
