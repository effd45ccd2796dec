"""2 m temperature over the United Kingdom from a twentieth of its points, 19 to 22 March 2019, hourly.

    python benchmarks/quality/assimilation/era5.py --json runs/era5-bench/scores.json

The GRIB file is read through cfgrib. Stations are fixed random points, error 0.5 K. Optimal interpolation takes its
statistics (hourly climatology, covariance, correlation in time) from 1 to 18 March, as the prior does.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from assimilation.baselines.climatology import climatology
from assimilation.baselines.optimal_interpolation import OptimalInterpolation
from assimilation.baselines.persistence import held_observations
from assimilation.fields.fields import Ensemble, Fields
from assimilation.io.archive import read_ensemble
from assimilation.io.observations.files import write_observations
from assimilation.io.registry import read_any_fields
from assimilation.observation.instruments import Points
from assimilation.observation.observing import Observed, observe
from assimilation.observation.stream import GriddedStream
from benchmarks.support.assimilation_runs import keep, read, report, row, scored, table, timed, tomocast
from benchmarks.support.real_data import real_data

SPLIT = np.datetime64("2019-03-19T00:00")


def climate_ensemble(training: Fields, truth: Fields) -> Ensemble:
    """Return the hourly climatology as one member."""
    climate = climatology(training)
    states = np.stack([climate.at(time) for time in truth.times]).astype(np.float32)
    return Ensemble(states[None, None], truth.times, truth.variables, truth.grid, {})


def measure(
    method: str, observed: Observed, training: Fields, truth: Fields, chosen: argparse.Namespace
) -> tuple[Ensemble, float]:
    """Return the analyses of one method and their CPU seconds."""
    stream = GriddedStream(observed)
    if method == "persistence":
        return timed(lambda: held_observations(stream))
    if method == "climatology":
        return timed(lambda: climate_ensemble(training, truth))
    if method.startswith("oi"):
        after = 3 if method == "oi-smoother" else 0
        return timed(
            lambda: OptimalInterpolation.fitted(training, before=3, after=after).run(
                stream, members=chosen.members, seed=0
            )
        )
    observations, run = chosen.runs / "observations.nc", chosen.runs / method
    write_observations(observed, observations)
    options = ["--prior", chosen.prior, "--lag", method.removeprefix("lag-"), "--members", chosen.members]
    cpu = tomocast("assimilate", observations, *options, "--out", run, "--overwrite", *chosen.settings)
    return read_ensemble(run), cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    methods = ["persistence", "climatology", "oi", "oi-smoother", "lag-0", "lag-inf"]
    parser.add_argument("--methods", nargs="+", default=methods)
    parser.add_argument("--fraction", type=float, default=0.05)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--hours", type=int, default=96, help="of the period, from 19 March 0 UTC")
    parser.add_argument("--skip", type=int, default=6, help="hours left out of the scores")
    parser.add_argument("--prior", default="era5-uk-t2m")
    parser.add_argument("--settings", nargs="*", default=[], help="key=value for tomocast assimilate")
    parser.add_argument("--runs", type=Path, default=Path("runs/era5-bench"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="file for the table")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    fields = read_any_fields(real_data("weather/era5_uk_2t_20190301-0322.grib"))
    later = fields.times >= SPLIT
    training, truth = (
        fields.select(times=fields.times[~later]),
        fields.select(times=fields.times[later][: chosen.hours]),
    )
    instrument = Points(fraction=chosen.fraction, fixed=True)
    observed = observe(truth, instrument, sigma="0.5 K", seed=4)
    rows = {}
    for method in chosen.methods:
        ensemble, cpu = measure(method, observed, training, truth, chosen)
        rows[method] = entry = row(scored(ensemble, truth, skip=chosen.skip), cpu)
        keep(chosen.json, method, entry)
        print(table({method: entry}).splitlines()[-1], flush=True)
    report(table(read(chosen.json) or rows), chosen.markdown)


if __name__ == "__main__":
    main()
