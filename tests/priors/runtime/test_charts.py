"""Charts: their curves pass through their points, stay inside the picture and choose their axes."""

import re

import numpy as np
import pytest

from priors.runtime.report.charts import HEIGHT, WIDTH, bars, lines


@pytest.mark.parametrize(
    "values", [[1.0], [2.0, 2.0], [1e-3, 1e4, 3.0], [-1.0, 5.0], [float("nan"), 1.0, 2.0]]
)
def test_every_curve_stays_inside_its_chart(values):
    drawn = lines(
        "chi2 & more",
        list(map(float, range(len(values)))),
        {"chi2": values},
        x_label="iteration",
        logarithmic="auto",
    )
    points = re.search(r'points="([^"]*)"', drawn)[1].split()
    assert len(points) == sum(np.isfinite(values))
    for point in points:
        x, y = map(float, point.split(","))
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    assert "chi2 &amp; more" in drawn


def test_an_axis_is_logarithmic_where_values_span_decades() -> None:
    falling = lines("chi2", [0.0, 1.0, 2.0], {"chi2": [100.0, 10.0, 1.0]}, x_label="n", logarithmic="auto")
    y = [float(pair.split(",")[1]) for pair in re.search(r'points="([^"]*)"', falling)[1].split()]
    # Equal factors are equal steps, up to the printed tenth.
    assert y[1] - y[0] == pytest.approx(y[2] - y[1], abs=0.2)
    assert "logarithmic" in falling
    for values in ([1.0, 2.0, 3.0], [-100.0, 1.0, 50.0]):
        assert "logarithmic" not in lines(
            "a", [0.0, 1.0, 2.0], {"a": values}, x_label="n", logarithmic="auto"
        )


def test_whole_numbers_have_whole_ticks() -> None:
    drawn = lines("a", [0.0, 1.0, 2.0], {"a": [0.1, 0.2, 0.3]}, x_label="n")
    below = re.findall(r'text-anchor="middle">([^<]*)<', drawn)
    assert below == ["0", "1", "2"]


def test_lines_pass_through_their_points():
    figure = lines(
        "a",
        [0.0, 1.0, 2.0, 3.0],
        {"up": [0.0, 1.0, 2.0, 4.0], "gap": [1.0, None, float("nan"), 2.0]},
        x_label="t",
    )
    paths = [
        [tuple(map(float, pair.split(","))) for pair in text.split()]
        for text in re.findall(r'points="(.*?)"', figure)
    ]
    assert [len(path) for path in paths] == [4, 2]
    heights = np.array([y for _, y in paths[0]])
    # SVG counts downward; equal steps of value are equal steps of height, up to the printed tenth.
    assert np.diff(heights)[0] < 0
    assert np.diff(heights)[2] == pytest.approx(2 * np.diff(heights)[0], abs=0.2)
    assert lines("empty", [0.0], {"none": [float("nan")]}, x_label="t") == ""


def test_bars_are_as_high_as_their_values():
    figure = bars("a", [0.1, 0.4, 0.2], level=1 / 3, x_label="rank")
    heights = [float(text) for text in re.findall(r'<rect[^>]* height="(.*?)"', figure)]
    assert heights[1] / heights[0] == pytest.approx(4, rel=0.02)
    assert bars("a", [], level=1.0, x_label="rank") == ""
