"""Pictures of one time of each data set: truth, observations, mean and spread of the analysis.

    python benchmarks/figures/analyses.py navier-stokes runs/ns-bench/points/lag-inf --place 10
    python benchmarks/figures/analyses.py era5 runs/era5-bench/lag-inf --place 20
    python benchmarks/figures/analyses.py radar runs/radar-bench/start-9 --place 2

The run folder is one the benchmarks left (of a forecast the start is shown); the truth is made or read again.
Writes docs/images/assimilation/NAME.png.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from assimilation.fields.fields import Fields
from assimilation.io.archive import read_ensemble, read_fields
from assimilation.verification.matching import match

LOOKS = {
    "navier-stokes": {"cmap": "RdBu_r", "label": "vorticity, 1/s"},
    "era5": {"cmap": "RdYlBu_r", "label": "2 m temperature, K"},
    "radar": {"cmap": "viridis", "label": "rain rate, mm/h (square root scale)"},
}


def truth_of(name: str, frames: int) -> Fields:
    """Return the truth the benchmark of this name used."""
    if name == "navier-stokes":
        import navier_stokes as benchmark

        from assimilation.systems.base import simulate

        return simulate(benchmark.SYSTEM, trajectories=1, frames=frames, seed=benchmark.TRUTH_SEED)
    from assimilation.io.registry import read_any_fields
    from benchmarks.support.real_data import real_data

    if name == "era5":
        return read_any_fields(real_data("weather/era5_uk_2t_20190301-0322.grib"))
    import radar as rain

    return rain.rain(rain.EVENT, rain.CROP)


def draw(name: str, run: Path, place: int, out: Path) -> None:
    """Write the picture."""
    ensemble = read_ensemble(run)
    seen = run / "observed.nc"
    forecast = not seen.exists()
    given = read_fields(run.with_suffix(".nc") if forecast else seen).values[0, -1 if forecast else place, 0]
    truth = truth_of(name, ensemble.times.size)
    if ensemble.members.shape[0] > 1:
        ensemble = type(ensemble)(
            ensemble.members[:1], ensemble.times, ensemble.variables, ensemble.grid, ensemble.attributes
        )
    matched = match(ensemble, truth)
    members = matched.ensemble.read(0, place)[:, 0]
    panels = {
        "truth": matched.truth.read(0, place)[0, 0],
        "start" if forecast else "observations": given,
        "forecast mean" if forecast else "analysis mean": members.mean(axis=0),
        "one member": members[0],
        "spread": members.std(axis=0, ddof=1),
        "error of the mean": np.abs(members.mean(axis=0) - matched.truth.read(0, place)[0, 0]),
    }
    figure, axes = plt.subplots(2, 3, figsize=(12, 7.4), layout="constrained")
    grid, scale = matched.ensemble.grid, np.sqrt if name == "radar" else np.asarray
    low, high = np.nanpercentile(scale(panels["truth"]), [0.5, 99.5])
    top = np.nanpercentile(panels["error of the mean"], 99)
    for axis, (title, field) in zip(axes.flat, panels.items(), strict=True):
        size = title in ("spread", "error of the mean")
        style = {"cmap": "magma", "vmin": 0, "vmax": top} if size else {"vmin": low, "vmax": high}
        style = {"cmap": LOOKS[name]["cmap"], **style}
        image = axis.pcolormesh(grid.x, grid.y, field if size else scale(field), **style)
        axis.set_title(title)
        axis.set_aspect(1 / np.cos(np.deg2rad(grid.y.mean())) if grid.kind == "sphere" else 1)
        axis.set_facecolor("0.85")
        figure.colorbar(image, ax=axis, shrink=0.8)
    time = np.datetime_as_string(matched.ensemble.times[place], unit="s")
    figure.suptitle(f"{LOOKS[name]['label']}, {time}")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=list(LOOKS))
    parser.add_argument("run", type=Path)
    parser.add_argument("--place", type=int, default=10, help="which of the run's times")
    parser.add_argument("--out", type=Path, help="PNG to write")
    chosen = parser.parse_args()
    out = chosen.out or Path("docs/images/assimilation") / f"{chosen.name}.png"
    draw(chosen.name, chosen.run, chosen.place, out)
    print(out)


if __name__ == "__main__":
    main()
