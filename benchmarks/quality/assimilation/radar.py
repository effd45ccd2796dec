"""Rain over Switzerland on 11 July 2016, an event no prior was trained on: one-hour nowcasts, and sparse pixels.

    python benchmarks/quality/assimilation/radar.py nowcast --json runs/radar-bench/nowcast.json
    python benchmarks/quality/assimilation/radar.py pixels --json runs/radar-bench/pixels.json

Means over 2 km, every 10 minutes, on a part of the composite (``--crop``). Nowcasts: four context frames, six leads,
several starts; Eulerian and Lagrangian persistence, STEPS (pysteps; motion by its Lucas-Kanade on the same four
frames) and the prior. Pixels: a tenth of them, new ones each frame, against the last observation of every pixel
and optimal interpolation with statistics from the event of 15 May 2015.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assimilation.baselines.advection import lagrangian_persistence
from assimilation.baselines.optimal_interpolation import OptimalInterpolation
from assimilation.baselines.persistence import held_observations, persisted
from assimilation.fields.fields import Ensemble, Fields
from assimilation.io.archive import read_ensemble, write_fields
from assimilation.io.observations.files import write_observations
from assimilation.io.registry import read_any_fields
from assimilation.observation.instruments import Points
from assimilation.observation.observing import observe
from assimilation.observation.stream import GriddedStream
from assimilation.run.observe import ObserveSettings, observed_part
from assimilation.verification.verify import REFERENCE_TIME, VerifyOptions
from benchmarks.support.assimilation_runs import (
    keep,
    number,
    read,
    report,
    row,
    scored,
    table,
    timed,
    tomocast,
)
from benchmarks.support.real_data import real_data
from benchmarks.support.steps import steps

EVENT, TRAINING = "weather/radar_mch_20160711", "weather/radar_mch_20150515"
CONTEXT, LEADS = 4, 6
CROP = "96:224,112:240"  # cells of 2 km: 256 km within the range of the radars
OPTIONS = VerifyOptions(thresholds=(0.5, 2.0), scales=(1, 5, 11), draws=200)


def rain(event: str, crop: str) -> Fields:
    """Return an event at the prior's spacing and step."""
    settings = ObserveSettings(spacing=2.0, step_s=600.0, crop=crop)
    return observed_part(read_any_fields(real_data(event)), settings, source=event)


def prior(start: Fields, times: np.ndarray, chosen: argparse.Namespace, run: Path) -> tuple[Ensemble, float]:
    """Return the nowcast of ``tomocast forecast``."""
    run.parent.mkdir(parents=True, exist_ok=True)
    given = run.with_suffix(".nc")
    write_fields(start, given)
    options = ["--prior", chosen.prior, "--frames", times.size, "--members", chosen.members]
    cpu = tomocast("forecast", given, *options, "--out", run, "--overwrite", *chosen.settings)
    return read_ensemble(run), cpu


def nowcast(method: str, fields: Fields, chosen: argparse.Namespace) -> tuple[Ensemble, Fields, float]:
    """Return the nowcasts of every start as trajectories of one ensemble, their truth, and CPU seconds."""
    members, truths, cpu = [], [], 0.0
    for first in chosen.starts:
        start = fields.select(times=slice(first - CONTEXT, first))
        future = fields.select(times=slice(first, first + LEADS))
        if method == "prior":
            ensemble, used = prior(start, future.times, chosen, chosen.runs / f"start-{first}")
        elif method == "steps":
            ensemble, used = timed(lambda s=start, f=future: steps(s, f.times, chosen.members))
        elif method == "lagrangian":
            ensemble, used = timed(lambda s=start, f=future: lagrangian_persistence(s, f.times))
        else:
            ensemble, used = timed(lambda s=start, f=future: persisted(s, f.times))
        members.append(ensemble.members)
        truths.append(future.values)
        cpu += used
    times = fields.times[CONTEXT : CONTEXT + LEADS]
    attributes = {REFERENCE_TIME: str(fields.times[CONTEXT - 1].astype("datetime64[s]"))}
    together = Ensemble(np.concatenate(members), times, fields.variables, fields.grid, attributes)
    return together, Fields(np.concatenate(truths), times, fields.variables, fields.grid), cpu


def pixels(method: str, fields: Fields, chosen: argparse.Namespace) -> tuple[Ensemble, Fields, float]:
    """Return analyses from a tenth of the pixels."""
    observed = observe(fields, Points(fraction=0.1), sigma="0.1", seed=4)
    stream = GriddedStream(observed)
    if method == "persistence":
        ensemble, cpu = timed(lambda: held_observations(stream))
    elif method == "oi":
        training = rain(TRAINING, chosen.crop)
        ensemble, cpu = timed(
            lambda: OptimalInterpolation.fitted(training).run(stream, members=chosen.members, seed=0)
        )
        ensemble.members[:] = np.maximum(ensemble.members, 0)
    else:
        observations, run = chosen.runs / "observations.nc", chosen.runs / f"pixels-{method}"
        chosen.runs.mkdir(parents=True, exist_ok=True)
        write_observations(observed, observations)
        options = ["--prior", chosen.prior, "--lag", method.removeprefix("lag-"), "--members", chosen.members]
        cpu = tomocast("assimilate", observations, *options, "--out", run, "--overwrite", *chosen.settings)
        ensemble = read_ensemble(run)
    return ensemble, fields, cpu


def by_lead(rows: dict[str, dict[str, Any]]) -> str:
    """Return CRPS, CSI and FSS of every method by lead as a Markdown table."""
    leads = [f"{int(lead // 60)} min" for lead in next(iter(rows.values()))["by_lead"]["lead_s"]]
    lines = ["| method, score | " + " | ".join(leads) + " |", "|---" * (len(leads) + 1) + "|"]
    for name, entry in rows.items():
        series = entry["by_lead"]
        events = {q: series["thresholds"][q] for q in series["thresholds"]}
        told = {"CRPS mm/h": series["crps"]}
        for q, event in events.items():
            told |= {f"CSI {q} mm/h": event["csi"], f"FSS {q} mm/h, 10 km": event["fss"]["5"]}
        lines += [
            f"| {name}, {key} | " + " | ".join(number(v) for v in values) + " |"
            for key, values in told.items()
        ]
    return "\n".join(lines)


def by_event(rows: dict[str, dict[str, Any]]) -> str:
    """Return CSI and FSS of every method as a Markdown table."""
    thresholds = list(next(iter(rows.values()))["thresholds"])
    titles = [f"{score}, {q} mm/h" for q in thresholds for score in ("CSI", "FSS over 10 km")]
    lines = ["| method | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for name, entry in rows.items():
        events = [entry["thresholds"][q] for q in thresholds]
        values = [v for event in events for v in (event["csi"], event["fss"]["5"])]
        lines.append(f"| {name} | " + " | ".join(number(v) for v in values) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["nowcast", "pixels"])
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--crop", default=CROP, help="cells of 2 km, Y0:Y1,X0:X1")
    parser.add_argument("--starts", type=int, nargs="+", default=[4, 9, 14], help="first forecast frames")
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--frames", type=int, default=20, help="of the pixels task")
    parser.add_argument("--prior", default="radar-rain")
    parser.add_argument("--settings", nargs="*", default=[], help="key=value for tomocast")
    parser.add_argument("--runs", type=Path, default=Path("runs/radar-bench"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="file for the tables")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    fields = rain(EVENT, chosen.crop)
    cast = chosen.task == "nowcast"
    default = (
        ["eulerian", "lagrangian", "steps", "prior"] if cast else ["persistence", "oi", "lag-0", "lag-inf"]
    )
    rows: dict[str, dict[str, Any]] = {}
    for method in chosen.methods or default:
        part = fields if cast else fields.select(times=slice(0, chosen.frames))
        ensemble, truth, cpu = (nowcast if cast else pixels)(method, part, chosen)
        scores = scored(ensemble, truth, skip=0 if cast else 2, options=OPTIONS)
        rows[method] = row(scores, cpu) | {
            "thresholds": scores["thresholds"],
            "by_lead": scores.get("by_lead"),
        }
        keep(chosen.json, method, rows[method])
        print(table({method: rows[method]}).splitlines()[-1], flush=True)
    held = read(chosen.json) or rows
    report(table(held) + "\n\n" + (by_lead if cast else by_event)(held), chosen.markdown)


if __name__ == "__main__":
    main()
