"""The demonstration of data assimilation on the real command line, with the embedded prior, made short."""

import json

from tests.support.command_line import inside

SHORT = ["frames=3", *(f"runs.{name}.{key}" for name in ("lag-0", "lag-3", "lag-inf") for key in (
    "members=2", "overlap=null", "sampler.steps=6"))]  # fmt: skip


def test_it_prints_scores_and_leaves_a_report_for_every_lag(tmp_path):
    done = inside("demo", "assimilation", "--out", tmp_path / "demo", *SHORT)
    scores = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert set(scores) == {"last observation", "lag-0", "lag-3", "lag-inf"}
    for name in ("lag-0", "lag-3", "lag-inf"):
        assert f"report {tmp_path / 'demo' / name / 'report.html'}" in done.stdout
        assert "truth" in (tmp_path / "demo" / name / "report.html").read_text()
        # Two members and six noise levels already halve the error of what was seen last.
        assert scores[name]["rmse"] < 0.7 * scores["last observation"]["rmse"]
