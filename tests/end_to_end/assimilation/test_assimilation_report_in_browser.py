"""The report of an assimilation in a real browser: no console error, and its controls work."""

import time

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.report.assimilation_report import RunReport, write_report
from assimilation.verification.verify import verify
from tests.support.browser import canvas, needs_browser, opened, wait

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of fields that differ in every frame, variable, trajectory and member, opened from disk."""
    folder = tmp_path_factory.mktemp("report")
    grid = Grid(np.arange(12.0), np.arange(16.0), "plane", "m", (True, True))
    y, x = np.meshgrid(grid.y, grid.x, indexing="ij")
    n, m, f, k = np.meshgrid(*(np.arange(count) for count in (2, 3, 6, 2)), indexing="ij")
    level = (2.0 * f + 5 * k + 3 * n + (m - 1))[..., None, None]
    members = (level + 0.1 * x - 0.2 * y + 250).astype(np.float32)
    times = np.datetime64("2000-01-01", "ns") + np.arange(6) * np.timedelta64(1, "h")
    variables = (Variable("warmth", "K"), Variable("damp", "K"))
    ensemble = Ensemble(members, times, variables, grid, {"title": "Run & <title>", "lag": "0"})
    truth = Fields(members[:, 1] + np.float32(0.5), times, variables, grid)
    seen = truth.values.copy()
    seen[..., ::2, :] = np.nan
    seen[..., ::3] = np.nan
    report = RunReport(
        ensemble,
        config={"lag": 0},
        provenance={"versions": {"tomocast": "0"}},
        truth=truth,
        scores=verify(ensemble, truth),
        observations=Fields(seen, times, variables, grid),
    )
    write_report(folder / "report.html", report)
    yield from opened(folder / "report.html")


def pixels(driver, name: str) -> np.ndarray:
    """Return what a panel shows."""
    return canvas(driver, f"panel-{name}")


def press(driver, group: str, label: str) -> None:
    driver.find_element(By.XPATH, f"//*[@id='{group}']//button[normalize-space()='{label}']").click()


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of pixels of another colour."""
    return float((np.abs(before - after).max(-1) > 2).mean())


def test_it_loads_without_a_console_error(page):
    assert page.title == "Run & <title>"
    assert page.get_log("browser") == []
    shown = [item.text for item in page.find_elements(By.CSS_SELECTOR, "figcaption")]
    for label in (
        "Truth",
        "Analysis mean",
        "Spread",
        "Increment over the analysis before",
        "Observations",
    ):
        assert label in shown
    assert len(page.find_elements(By.CSS_SELECTOR, ".chart")) >= 10


def test_the_slider_changes_the_frame(page):
    before, was = pixels(page, "mean"), page.find_element(By.ID, "time").text
    assert "2000-01-01 00:00:00 (1 of 6)" in was
    page.find_element(By.ID, "frame").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    wait(lambda: "02:00:00 (3 of 6)" in page.find_element(By.ID, "time").text)
    assert changed(before, pixels(page, "mean")) > 0.8
    page.find_element(By.ID, "frame").send_keys(Keys.HOME)
    wait(lambda: "(1 of 6)" in page.find_element(By.ID, "time").text)
    assert changed(before, pixels(page, "mean")) == 0


def test_play_runs_and_pause_stops(page):
    press(page, "clock", "Play")
    wait(lambda: "(1 of 6)" not in page.find_element(By.ID, "time").text)
    press(page, "clock", "Pause")
    held = page.find_element(By.ID, "time").text
    time.sleep(1)
    assert page.find_element(By.ID, "time").text == held
    page.find_element(By.ID, "frame").send_keys(Keys.HOME)
    wait(lambda: "(1 of 6)" in page.find_element(By.ID, "time").text)


@pytest.mark.parametrize(
    ("group", "first", "second", "panel"),
    [
        ("variables", "warmth", "damp", "mean"),
        ("trajectories", "1", "2", "truth"),
        ("members", "1", "3", "member"),
    ],
)
def test_another_part_can_be_chosen(page, group, first, second, panel):
    before = pixels(page, panel)
    press(page, group, second)
    after = pixels(page, panel)
    pressed = page.find_elements(By.CSS_SELECTOR, f"#{group} button[aria-pressed=true]")
    assert [button.text for button in pressed] == [second]
    press(page, group, first)
    if group != "variables":  # the two variables differ by a constant, and so do their ranges
        assert changed(before, after) > 0.8
    assert changed(before, pixels(page, panel)) == 0


def test_north_is_up(page):
    # Values fall with y and rise with x; viridis is darkest at low values: the top left corner.
    shown = pixels(page, "truth").sum(-1)
    height, width = shown.shape
    assert shown[: height // 6, : width // 6].mean() < shown[-height // 6 :, -width // 6 :].mean()


def test_observed_points_can_be_hidden(page):
    before = pixels(page, "mean")
    page.find_element(By.ID, "observed").click()
    after = pixels(page, "mean")
    assert 0 < changed(before, after) < 0.4
    page.find_element(By.ID, "observed").click()
    assert changed(before, pixels(page, "mean")) == 0


def test_values_are_read_under_the_pointer(page):
    panel = page.find_element(By.ID, "panel-mean")
    webdriver.ActionChains(page).move_to_element_with_offset(panel, 1, 1).perform()
    wait(lambda: "At y" in page.find_element(By.ID, "readout").text)
    values = [item.text for item in page.find_elements(By.CSS_SELECTOR, "figcaption output")]
    # Around the middle, x = 8 and y = 5 of frame 0: 250 + 0.8 - 1.0 (three digits are shown).
    assert values[1] == "250"
    assert values[3].startswith("1")


def test_every_control_has_a_name(page):
    for control in page.find_elements(By.CSS_SELECTOR, "input, button, canvas, svg"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
