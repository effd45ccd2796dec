"""A report opened from disk in headless Chromium, which must not report an error."""

import base64
import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--window-size=1300,1400",
]

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs chromium and chromedriver (Debian: chromium chromium-driver)",
)


def opened(report: Path) -> Iterator[webdriver.Chrome]:
    """Yield a browser that shows the file once it is ready; no console error may come while it is used."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={report.parent / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.get(report.as_uri())
    wait(lambda: driver.execute_script("return document.body.dataset.ready") == "true")
    yield driver
    errors = driver.get_log("browser")
    driver.quit()
    assert errors == []


def wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there in time"
        time.sleep(0.02)


def canvas(driver: webdriver.Chrome, name: str) -> np.ndarray:
    """Return the RGB values (y, x, 3) of a canvas, after the frames that draw it."""
    text = driver.execute_async_script(
        "const done = arguments[1];"
        "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() =>"
        " done(document.getElementById(arguments[0]).toDataURL()), 30)));",
        name,
    )
    picture = Picture.open(io.BytesIO(base64.b64decode(text.split(",")[1])))
    return np.asarray(picture.convert("RGB")).astype(int)
