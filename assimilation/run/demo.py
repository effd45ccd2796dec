"""The demonstration: turbulence nobody trained on, a tenth of its points, and one prior at several lags.

truth.nc (a system with a known law) -> observed.nc -> one run folder per lag, with the truth in its report -> scores
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from assimilation.baselines.persistence import held_observations
from assimilation.io.archive import analysis_path, read_ensemble, read_fields
from assimilation.io.streams import read_observations
from assimilation.report.assimilation_report import RunReport, write_report
from assimilation.run import jobs
from assimilation.run.observe import ObserveSettings, observe_file
from assimilation.run.settings import AssimilateSettings
from assimilation.run.simulate import simulate_to_file
from assimilation.systems import AnySystem, NavierStokes
from assimilation.verification.metrics import SCORES, SPREAD_SKILL
from assimilation.verification.verify import verify
from priors.runtime.report.tables import number, text_table
from priors.runtime.run_folder.record import RunFolder, open_run
from priors.runtime.system.seeds import Seed

BASELINE = "last observation"


class DemoSettings(BaseModel):
    """The demonstration: a system, how it is observed, and one assimilation per entry of ``runs``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: AnySystem = NavierStokes()
    frames: int = Field(12, ge=2)
    seed: Seed = 0
    observe: ObserveSettings = ObserveSettings()
    runs: dict[str, AssimilateSettings] = Field(min_length=1)


def run(demo: DemoSettings, out: Path, *, overwrite: bool) -> None:
    """Run the demonstration in the folder ``out`` and print scores and where the reports are.

    Raises:
        InputError: the folder cannot be used, or the settings do not fit each other.
    """
    with open_run(out, overwrite=overwrite) as folder:
        _run(demo, folder, overwrite=overwrite)


def _run(demo: DemoSettings, folder: RunFolder, *, overwrite: bool) -> None:
    folder.claim("truth.nc", "observed.nc")
    folder.write_config(demo)
    truth, observed = folder.file("truth.nc"), folder.file("observed.nc")
    simulate_to_file(demo.system, truth, trajectories=1, frames=demo.frames, seed=demo.seed)
    observe_file(truth, demo.observe, observed)
    scores: dict[str, dict[str, Any]] = {BASELINE: _baseline(truth, observed)}
    for name, settings in demo.runs.items():
        metrics = jobs.run(settings, {"observations": observed}, folder.file(name), overwrite=overwrite)
        scores[name] = {**_scored(folder.file(name), truth), "seconds": metrics["seconds"]}
    folder.write_json(jobs.METRICS, scores)
    print(table(scores))
    for name in demo.runs:
        print(f"report {folder.file(name) / jobs.REPORT}")


def table(scores: dict[str, dict[str, Any]]) -> str:
    """Return the scores as aligned text, one run per line, in the unit of the field."""
    columns = {metric.key: metric.heading for metric in SCORES if metric.summary} | {"seconds": "Time (s)"}
    rows = ((name, [number(row.get(key)) for key in columns]) for name, row in scores.items())
    return text_table("run", list(columns.values()), rows)


def _baseline(truth: Path, observed: Path) -> dict[str, Any]:
    """Return the scores of what needs no prior: every point as the nearest one was last seen."""
    fields = read_fields(truth)
    stream = read_observations(observed, grid=fields.grid, variables=fields.variables)
    figures = verify(held_observations(stream), fields)
    return {**figures, SPREAD_SKILL.key: None}


def _scored(run_folder: Path, truth: Path) -> dict[str, Any]:
    """Return the scores of a run and write its report again, with the truth in it."""
    ensemble, fields = read_ensemble(analysis_path(run_folder)), read_fields(truth)
    figures = verify(ensemble, fields)
    report = RunReport(ensemble, truth=fields, scores=figures)
    write_report(RunFolder(run_folder).file(jobs.REPORT), report)
    return figures
