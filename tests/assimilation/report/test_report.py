"""The report: what it embeds, how small it stays, what it says of scores, that text cannot break it."""

import html.parser
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assimilation.fields.fields import Ensemble, Grid, Variable
from assimilation.io.archive import write_ensemble
from assimilation.observation.base import Observation, ObservationOperator, ObservationStream
from assimilation.report.assimilation_report import (
    OBSERVED,
    RunReport,
    report_page,
    write_report,
    write_run_report,
)
from assimilation.report.fields import decode, display, encode
from assimilation.report.observed import observed_fields
from assimilation.verification.verify import verify
from priors.runtime.errors import InputError
from priors.runtime.run_folder.record import open_run

BOX = Grid(np.arange(6.0), np.arange(8.0), "plane", "m", (True, True))
WAVE = Variable("wave", "K")


def some_ensemble(seed: int = 0, *, n: int = 1, m: int = 4, time: int = 5, grid: Grid = BOX) -> Ensemble:
    draw = np.random.default_rng(seed)
    members = draw.normal(size=(n, m, time, 1, *grid.shape)).astype(np.float32)
    times = np.datetime64("2000-01-01", "ns") + np.arange(time) * np.timedelta64(500, "ms")
    return Ensemble(members, times, (WAVE,), grid, {"title": "a run", "lag": "3"})


def embedded(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def shown(data: dict, key: str, place: int = 0) -> np.ndarray:
    panel = next(one for one in data["panels"] if one["key"] == key)
    limits = panel["ranges"][0]
    arguments = {name: limits[name] for name in ("low", "high", "gamma")}
    return decode(panel["codes"][place], tuple(data["shape"]), **arguments)


@given(st.integers(0, 2**16), st.floats(-100, 100), st.floats(0.01, 1000), st.sampled_from([1.0, 2.0]))
@settings(max_examples=30, deadline=None)
def test_codes_return_the_values_up_to_half_a_step(seed, low, width, gamma):
    draw = np.random.default_rng(seed)
    share = draw.random((2, 3, 4))
    values = low + width * share
    values[draw.random(values.shape) < 0.2] = np.nan
    back = decode(
        encode(values, low, low + width, gamma=gamma), values.shape, low=low, high=low + width, gamma=gamma
    )
    assert np.array_equal(np.isnan(back), np.isnan(values))
    # Half a code is 1 / 508 of the range; the square stretches it by at most 2.
    assert np.nanmax(np.abs(back - values), initial=0) <= width * (gamma / 508 + 1e-3) + 1e-5 * abs(low)


def test_mean_spread_increment_and_error_are_what_they_say():
    ensemble = some_ensemble(n=2)
    truth = replace(ensemble.mean(), values=ensemble.members[:, 0] + np.float32(0.5))
    data, note = display(ensemble, truth, None)
    mean = ensemble.mean().values[:, :, 0]
    expected = {
        "mean": mean,
        "truth": truth.values[:, :, 0],
        "error": mean - truth.values[:, :, 0],
        "spread": ensemble.spread().values[:, :, 0],
        "member-1": ensemble.members[:, 1, :, 0],
    }
    for key, values in expected.items():
        panel = next(one for one in data["panels"] if one["key"] == key)
        limits = panel["ranges"][0]
        for place in (0, 1):
            clipped = np.clip(values[place], limits["low"], limits["high"])
            step = (limits["high"] - limits["low"]) / 254
            assert np.abs(shown(data, key, place) - clipped).max() <= 0.51 * step, key
    change = shown(data, "increment")
    assert np.isnan(change[0]).all()
    limits = next(one for one in data["panels"] if one["key"] == "increment")["ranges"][0]
    clipped = np.clip(np.diff(mean[0], axis=0), limits["low"], limits["high"])
    assert np.abs(change[1:] - clipped).max() <= 0.51 * (limits["high"] - limits["low"]) / 254
    assert note == "3 of 4 members are shown."


def test_a_large_run_is_reduced_and_says_so():
    grid = Grid(np.arange(300.0), np.arange(400.0), "plane", "m")
    ensemble = some_ensemble(m=5, time=12, grid=grid)
    data, note = display(ensemble, None, None, limit_bytes=300_000)
    assert sum(len(text) for panel in data["panels"] for text in panel["codes"]) <= 300_000
    assert "averaged" in note
    assert "1 of 5 members" in note
    # What is averaged away of white noise is averaged away of its deviation too.
    assert np.nanstd(shown(data, "member-0")) < 0.7


@pytest.mark.parametrize(
    ("variable", "shift", "colours"),
    [
        (Variable("rain", "mm/h", minimum=0.0), None, "rain"),
        (Variable("temperature", "K"), 280.0, "plain"),
        (Variable("vorticity", "s-1"), 0.0, "signed"),
    ],
)
def test_colours_suit_the_variable(variable, shift, colours):
    ensemble = some_ensemble()
    members = np.maximum(ensemble.members, 0) if shift is None else ensemble.members + np.float32(shift)
    data, _ = display(replace(ensemble, members=members, variables=(variable,)), None, None)
    ranges = {panel["key"]: panel["ranges"][0] for panel in data["panels"]}
    assert ranges["mean"]["colours"] == colours
    assert ranges["mean"] == ranges["member-0"]
    assert ranges["increment"]["low"] == -ranges["increment"]["high"]
    assert ranges["spread"]["low"] == 0


@pytest.mark.parametrize("value", [0.0, np.nan, 5.0])
def test_fields_without_contrast_or_values_are_normal(value):
    ensemble = some_ensemble()
    flat = replace(ensemble, members=np.full_like(ensemble.members, value))
    data = embedded(report_page(RunReport(flat)).render())
    assert np.array_equal(shown(data, "mean"), np.full((5, 6, 8), value, np.float32), equal_nan=True)


def test_a_single_member_and_a_single_time_are_normal():
    data = embedded(report_page(RunReport(some_ensemble(m=1, time=1))).render())
    assert [panel["key"] for panel in data["panels"]] == ["mean", "member-0"]


def test_a_row_of_points_is_shown_over_time():
    grid = Grid(np.zeros(1), np.arange(8.0), "plane", "1", (False, True))
    ensemble = some_ensemble(grid=grid, time=7)
    data = embedded(report_page(RunReport(ensemble)).render())
    assert data["strip"]
    assert data["shape"] == [1, 7, 8]
    mean = ensemble.mean().values[0, :, 0, 0]
    assert np.corrcoef(shown(data, "mean")[0].ravel(), mean.ravel())[0, 1] > 0.999


class PointAndBlock(ObservationOperator):
    def __call__(self, state: torch.Tensor) -> torch.Tensor:
        return torch.stack([state[..., 0, 1, 2], state[..., 0, 3:5, 4:6].mean((-2, -1))], dim=-1)


class Points(ObservationStream):
    """Two points of every other frame, and a block average."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.times, self.variables, self.grid = ensemble.times[::2], ensemble.variables, ensemble.grid
        self.trajectories = 1

    def at(self, trajectory: int, index: int) -> Observation | None:
        if index == 1:
            return None

        values = torch.tensor([3.0, -2.0]) + index
        return Observation(values, torch.ones(2), PointAndBlock())


def test_observations_are_placed_on_the_points_they_depend_on():
    ensemble = some_ensemble()
    found = observed_fields(Points(ensemble), ensemble).values[0, :, 0]
    expected = np.full((5, 6, 8), np.nan, np.float32)
    for frame, index in ((0, 0), (4, 2)):
        expected[frame, 1, 2] = 3 + index
        expected[frame, 3:5, 4:6] = -2 + index
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_run_folder_gets_its_report_and_verification_adds_to_it(tmp_path):
    ensemble = some_ensemble()
    folder = open_run(tmp_path / "run")
    folder.file("config.yaml").write_text("prior: a-prior\n")
    write_ensemble(ensemble, folder.file("analysis.nc"))
    write_run_report(folder, folder.file("analysis.nc"), stream=Points(ensemble), figures={"seconds": 1.5})
    page = folder.file("report.html").read_text()
    assert "a-prior" in page
    assert "&quot;seconds&quot;: 1.5" in page
    assert "Scores" not in page
    assert {"mean", "observations"} <= {panel["key"] for panel in embedded(page)["panels"]}
    truth = ensemble.member(0)
    report = RunReport(ensemble, truth=truth, scores=verify(ensemble, truth))
    write_report(folder.file("report.html"), report)
    page = folder.file("report.html").read_text()
    assert "a-prior" in page
    assert "Rank of the truth among the members" in page
    assert {"truth", "error", "observations"} <= {panel["key"] for panel in embedded(page)["panels"]}
    assert (folder.path / OBSERVED).exists()


class Checker(html.parser.HTMLParser):
    """Collects tags, and what would be requested from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.outside = 0, []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.outside += [v for k, v in attrs if k in ("src", "href", "action") and not v.startswith("data:,")]


def test_text_cannot_break_the_page_and_nothing_is_requested():
    nasty = "</script><script>alert(1)</script><!-- {{js}} & \"'"
    ensemble = some_ensemble()
    ensemble = replace(
        ensemble, variables=(Variable(nasty, nasty),), attributes={"title": nasty, "prior": nasty}
    )
    scores = verify(ensemble, ensemble.member(1))
    checker = Checker()
    report = RunReport(ensemble, config={"a": nasty}, provenance={"b": nasty}, scores=scores)
    checker.feed(report_page(report).render())
    assert checker.scripts == 2
    assert checker.outside == []


def test_a_truth_of_another_grid_is_refused():
    other = some_ensemble(grid=Grid(np.arange(6.0) + 0.3, np.arange(8.0), "plane", "m")).member(0)
    with pytest.raises(InputError, match="truth: y"):
        report_page(RunReport(some_ensemble(), truth=other))
