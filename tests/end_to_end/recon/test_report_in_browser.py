"""The report in a real browser: it loads from a file without a console error and its controls work."""

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from recon.report.reconstruction import Report, write_report
from tests.support.browser import canvas, needs_browser, opened, wait

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of a volume that differs in every slice, opened from disk."""
    folder = tmp_path_factory.mktemp("report")
    z, y, x = np.meshgrid(*(np.arange(n) for n in (6, 20, 24)), indexing="ij")
    values = (40.0 * z + 20.0 * y - 15.0 * x - 300).astype(np.float32)
    report = Report(
        "Scan & <result>",
        {"nerd": values, "fbp": values + np.float32(150)},
        np.diag([-1.5, -1.5, 3.0, 1.0]),
        facts={"Method": "nerd-admm"},
        curves={"chi2": [(float(i), 2.0 ** (8 - i)) for i in range(9)]},
        scores={"nerd": {"psnr_hu": 31.0, "ssim_3d": None, "reasons": {"ssim_3d": "too thin"}}},
        configuration="seed: 0\n",
        versions={"tomocast": "0"},
    )
    write_report(folder / "report.html", report)
    yield from opened(folder / "report.html")


def pixels(driver, name: str) -> np.ndarray:
    """Return the grey values a canvas shows."""
    return canvas(driver, name)[..., 0]


def press(driver, label: str) -> None:
    driver.find_element(By.XPATH, f"//button[normalize-space()='{label}']").click()


def pressed(driver) -> list[str]:
    return [b.text for b in driver.find_elements(By.CSS_SELECTOR, "#presets button[aria-pressed=true]")]


def test_it_loads_without_a_console_error(page):
    assert page.title == "Scan & <result>"
    assert page.get_log("browser") == []
    assert "Voxel (z, y, x) = (3, 10, 12): -160 HU" in page.find_element(By.ID, "readout").text


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_slider_changes_the_slice(page, plane):
    before = pixels(page, plane)
    slider = page.find_element(By.ID, f"{plane}-slice")
    was = int(slider.get_attribute("value"))
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    after = pixels(page, plane)
    assert int(slider.get_attribute("value")) == was + 2
    # Two slices on are 80 HU (axial), 40 (coronal), -30 (sagittal) away: at least 3.8 gray levels.
    change = np.abs(after - before)
    assert np.mean(change >= 2) > 0.8
    sign = -1 if plane == "sagittal" else 1
    assert sign * np.median(after - before) > 0


def test_presets_change_the_gray_values(page):
    shown = {}
    for label in ("Full", "Lung", "Soft tissue", "Bone"):
        press(page, label)
        shown[label] = pixels(page, "axial")
        assert pressed(page) == [label]
    for label in ("Lung", "Soft tissue", "Bone"):
        assert np.abs(shown[label] - shown["Full"]).mean() > 3
    press(page, "Full")


def test_the_free_window_replaces_the_preset(page):
    press(page, "Full")
    before = pixels(page, "coronal")
    level = page.find_element(By.ID, "level")
    level.send_keys(*[Keys.PAGE_UP] * 2)
    assert float(level.get_attribute("value")) > 0
    assert pixels(page, "coronal").mean() < before.mean()
    assert pressed(page) == []
    press(page, "Full")


def test_another_volume_can_be_chosen(page):
    before = pixels(page, "axial")
    press(page, "fbp")
    # 150 HU are 19 of 255 gray levels in the full window of 2000 HU.
    assert np.median(pixels(page, "axial") - before) == pytest.approx(19, abs=2)
    press(page, "nerd")


def test_a_click_moves_the_crosshair(page):
    plane = page.find_element(By.ID, "axial")
    webdriver.ActionChains(page).move_to_element_with_offset(plane, 5, 5).click().perform()
    wait(lambda: "10, 12)" in page.find_element(By.ID, "readout").text)
    corner = plane.size["width"] // 2 - 3
    webdriver.ActionChains(page).move_to_element_with_offset(plane, corner, 5).click().perform()
    wait(lambda: "10, 23)" in page.find_element(By.ID, "readout").text)


def test_every_control_has_a_name(page):
    controls = page.find_elements(By.CSS_SELECTOR, "input, button, canvas, svg")
    # What is hidden, such as the controls of draws in a run without any, has no name to be read aloud.
    shown = [control for control in controls if control.is_displayed()]
    assert len(shown) > len(controls) // 2
    for control in shown:
        assert control.accessible_name, control.get_attribute("outerHTML")
