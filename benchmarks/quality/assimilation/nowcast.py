"""Nowcasts of radar events: one hour ahead, against extrapolation and STEPS.

    python benchmarks/quality/assimilation/nowcast.py --events FOLDER... --crop 96:224,112:240 \
        --methods eulerian lagrangian steps prior --members 8 --json FILE

Any radar folder: means over 2 km every 10 minutes, on a part of the composite. Four context frames, six leads; starts
are spread evenly over the frames of an event, or given. STEPS is that of pysteps, with motion by its Lucas-Kanade on
the same four frames; without pysteps its rows are left out, and a line says so. CRPS is the fair one; CSI is that of
the ensemble mean and, as "csi matched", of the probability-matched mean (Ebert 2001); spread is over the error of the
mean, corrected for the number of members.
"""

import argparse
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assimilation.baselines.advection import lagrangian_persistence
from assimilation.baselines.persistence import persisted
from assimilation.fields.fields import Ensemble, Fields
from assimilation.fields.products import probability_matched_mean
from assimilation.io.archive import read_ensemble, write_fields
from assimilation.io.registry import read_any_fields
from assimilation.run.observe import ObserveSettings, check_spans, observed_part
from assimilation.verification.verify import REFERENCE_TIME, VerifyOptions
from benchmarks.support.assimilation_runs import keep, number, report, scored, timed, tomocast
from benchmarks.support.steps import steps

METHODS = ("eulerian", "lagrangian", "steps", "prior")
THRESHOLDS = (0.5, 1.0, 5.0)
OPTIONS = VerifyOptions(thresholds=THRESHOLDS, scales=(1, 5), draws=200)


def rain(event: Path, chosen: argparse.Namespace) -> Fields:
    """Return an event at the prior's spacing and step."""
    settings = ObserveSettings(spacing=chosen.spacing, step_s=chosen.step, crop=chosen.crop)
    return observed_part(read_any_fields(event), settings, source=str(event))


def spread_starts(frames: int, chosen: argparse.Namespace) -> list[int]:
    """Return the first forecast frame of every start."""
    last = frames - chosen.leads
    if last < chosen.context:
        raise SystemExit(f"found {frames} frames, expected {chosen.context + chosen.leads} or more")
    if chosen.starts:
        return [start for start in chosen.starts if chosen.context <= start <= last]
    count = min(chosen.count, last - chosen.context + 1)
    return sorted({round(each) for each in np.linspace(chosen.context, last, count)})


def prior(
    start: Fields, times: np.ndarray, run: Path, chosen: argparse.Namespace, *, seed: int
) -> tuple[Ensemble, float]:
    """Return the nowcast of ``tomocast forecast``."""
    run.parent.mkdir(parents=True, exist_ok=True)
    given = run.with_suffix(".nc")
    write_fields(start, given)
    options = ["--prior", chosen.prior, "--frames", times.size, "--members", chosen.members, "--seed", seed]
    cpu = tomocast("forecast", given, *options, "--out", run, "--overwrite", *chosen.settings)
    return read_ensemble(run), cpu


def nowcast(method: str, start: Fields, times: np.ndarray, first: int, chosen: argparse.Namespace) -> Any:
    """Return the ensemble of one method from a start and its CPU seconds.

    Every start has a seed of its own: with one for all they would share the same eight errors of the motion.
    """
    if method == "prior":
        return prior(start, times, chosen.runs / f"start-{first}", chosen, seed=first)
    if method == "steps":
        return timed(lambda: steps(start, times, chosen.members, seed=first))
    baseline = lagrangian_persistence if method == "lagrangian" else persisted
    return timed(lambda: baseline(start, times))


def of_event(method: str, event: Path, chosen: argparse.Namespace) -> tuple[Ensemble, Fields, float]:
    """Return the nowcasts of every start as trajectories of one ensemble, their truth, and CPU seconds."""
    fields = rain(event, chosen)
    chosen = argparse.Namespace(**{**vars(chosen), "runs": chosen.runs / event.name})
    members, truths, cpu = [], [], 0.0
    for first in spread_starts(fields.times.size, chosen):
        start = fields.select(times=slice(first - chosen.context, first))
        future = fields.select(times=slice(first, first + chosen.leads))
        ensemble, used = nowcast(method, start, future.times, first, chosen)
        members.append(ensemble.members)
        truths.append(future.values)
        cpu += used
    times = fields.times[chosen.context : chosen.context + chosen.leads]
    attributes = {REFERENCE_TIME: str(fields.times[chosen.context - 1].astype("datetime64[s]"))}
    ensemble = Ensemble(np.concatenate(members), times, fields.variables, fields.grid, attributes)
    return ensemble, Fields(np.concatenate(truths), times, fields.variables, fields.grid), cpu


def correlation(ensemble: Ensemble, truth: Fields) -> list[float]:
    """Return the correlation of the ensemble mean with the truth in log(1 + r / 0.5), by lead."""
    found = []
    for lead in range(truth.times.size):
        seen = truth.values[:, lead, 0]
        mean = ensemble.members[:, :, lead, 0].mean(axis=1)
        valid = np.isfinite(seen) & np.isfinite(mean)
        pair = [np.log1p(np.maximum(each[valid], 0) / 0.5) for each in (mean, seen)]
        found.append(float(np.corrcoef(*pair)[0, 1]) if min(each.std() for each in pair) > 0 else np.nan)
    return found


def matched(ensemble: Ensemble) -> Ensemble:
    """Return the probability-matched mean of every forecast and lead, as an ensemble of one."""
    n, _, leads = ensemble.members.shape[:3]
    planes = [
        [probability_matched_mean(ensemble.members[i, :, lead, 0]) for lead in range(leads)] for i in range(n)
    ]
    return replace(ensemble, members=np.array(planes, np.float32)[:, None, :, None])


def entry(ensemble: Ensemble, truth: Fields, cpu: float) -> dict[str, Any]:
    """Return the scores of one method in one event."""
    scores = scored(ensemble, truth, options=OPTIONS)
    series = scores["by_lead"]
    held = {"crps": series["crps"], "spread_skill": series["spread_skill"], "bias": series["bias"]}
    for threshold, event in series["thresholds"].items():
        held |= {f"csi {threshold}": event["csi"], f"fss {threshold}": event["fss"]["5"]}
    alone = scored(matched(ensemble), truth, options=OPTIONS)["by_lead"]["thresholds"]
    held |= {f"csi matched {threshold}": event["csi"] for threshold, event in alone.items()}
    held["correlation"] = correlation(ensemble, truth)
    return {
        "lead_s": series["lead_s"],
        "starts": scores["trajectories"],
        "members": scores["members"],
        "cpu_s": cpu,
        "largest": float(np.nanmax(ensemble.members)),
        "largest_of_truth": float(np.nanmax(truth.values)),
        **held,
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return every score of every method by lead as a Markdown table."""
    leads = [f"{int(lead // 60)} min" for lead in next(iter(rows.values()))["lead_s"]]
    lines = ["| score | event, method | " + " | ".join(leads) + " |", "|---" * (len(leads) + 2) + "|"]
    names = ["crps", *(f"{score} {q:g}" for q in THRESHOLDS for score in ("csi", "csi matched", "fss"))]
    for name in (*names, "correlation", "spread_skill", "bias"):
        lines += [
            f"| {name} | {key} | " + " | ".join(map(number, held[name])) + " |" for key, held in rows.items()
        ]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", nargs="+", type=Path, required=True, help="radar folders")
    parser.add_argument("--crop", type=check_spans, help="cells after --spacing, Y0:Y1,X0:X1")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--context", type=int, default=4)
    parser.add_argument("--leads", type=int, default=6)
    parser.add_argument("--count", type=int, default=3, help="starts of each event")
    parser.add_argument("--starts", type=int, nargs="+", help="first forecast frames, instead of --count")
    parser.add_argument("--spacing", type=float, default=2.0, help="km")
    parser.add_argument("--step", type=float, default=600.0, help="seconds")
    parser.add_argument("--prior", default="radar-rain")
    parser.add_argument("--settings", nargs="*", default=[], help="key=value for tomocast")
    parser.add_argument("--runs", type=Path, default=Path("runs/nowcast-bench"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="file for the table")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    torch.set_num_threads(1)
    methods = list(chosen.methods)
    if "steps" in methods and importlib.util.find_spec("pysteps") is None:
        methods.remove("steps")
        print("steps: pysteps is not installed (pip install tomocast[bench]); its rows are left out")
    rows: dict[str, dict[str, Any]] = {}
    for event in chosen.events:
        for method in methods:
            key = f"{event.name}, {method}"
            rows[key] = entry(*of_event(method, event, chosen))
            keep(chosen.json, key, rows[key])
            print(f"{key}: CRPS {' '.join(map(number, rows[key]['crps']))}", flush=True)
    report(table(rows), chosen.markdown)


if __name__ == "__main__":
    main()
