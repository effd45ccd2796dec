"""A forecast for every frame that arrives in a folder, each in a run folder of its own.

OUT/20160711T220500Z/    run folder of the forecast from the frame of this time, as ``tomocast forecast`` writes it
OUT/arrivals.json        which files have been dealt with
OUT/log.txt              what happened

Late frames get their own forecast from what was there up to their time; damaged files are read again when they change;
gaps are filled along the motion, as ``forecast`` does; what is complete is not computed again.
"""

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from assimilation.fields.fields import Ensemble, Fields
from assimilation.inference.domain import reach_of, step_of
from assimilation.io.archive import write_fields
from assimilation.run import jobs
from assimilation.run.problem import read_state
from assimilation.run.settings import ForecastSettings
from assimilation.run.watch.arrivals import Arrivals, Moment
from priors.card import Prior, load_prior
from priors.diffusion.denoiser import resolved_device
from priors.runtime.errors import InputError
from priors.runtime.files.protect import check_output
from priors.runtime.run_folder.privacy import without_paths

RECORD, LOG, START = "arrivals.json", "log.txt", ".start-"
LEAST = 2
"""Frames without which no motion is seen: a first frame waits for the next one."""
LEAST_FREE = 100 << 20


@dataclass(frozen=True)
class WatchOptions:
    """How a folder is watched.

    Attributes:
        watch: go on for ever; else one forecast from what is there now.
        poll_s: seconds between two looks at the folder.
        idle_s: end after so many seconds without a new frame; None never does.
        backlog: frames that are there at the very first start and get a forecast.
    """

    watch: bool = False
    poll_s: float = 5.0
    idle_s: float | None = None
    backlog: int = 1


class Watch:
    """The loop over a folder."""

    def __init__(self, folder: Path, out: Path, settings: ForecastSettings, options: WatchOptions) -> None:
        """Check folder and settings, and load the prior once to find what is wrong with it.

        Raises:
            InputError: the folder does not exist, the output lies in it, or the prior cannot be loaded.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: found no folder, expected one into which frames are written")
        check_output(out, [folder], folder=True)
        self.out, self.settings, self.options = out, settings, options
        self.prior: Prior = load_prior(settings.prior, device=resolved_device(settings.device).type)
        out.mkdir(parents=True, exist_ok=True)
        # What a program that was killed left behind; one that ends otherwise removes its own.
        for stale in out.glob(f"{START}*"):
            shutil.rmtree(stale, ignore_errors=True)
        self.arrivals = Arrivals(folder, out / RECORD, settings.rain)
        self._told: dict[str, str] = {}

    def run(self, *, sleep: Callable[[float], None] = time.sleep) -> int:
        """Forecast what arrives and return the number of forecasts.

        Raises:
            InputError: the folder is gone; without ``watch``, there is nothing to forecast from.
        """
        done, idle, first = 0, 0.0, self.arrivals.first
        while True:
            fresh = self.arrivals.look()
            self._tell_damage()
            if first and fresh:
                done += self._begin(fresh)
                first = False
            else:
                done += sum(self.forecast(moment) for moment in fresh)
            if not self.options.watch:
                if not (done or self._newest_is_done()):
                    raise InputError(
                        f"{self.arrivals.folder}: found no frames that a forecast can start from"
                    )
                return done
            idle = 0.0 if fresh else idle + self.options.poll_s
            if self.options.idle_s is not None and idle >= self.options.idle_s:
                return done
            sleep(self.options.poll_s)

    def forecast(self, moment: Moment) -> bool:
        """Forecast from a frame and what came before it; tell whether there is a forecast of it now."""
        target = self.out / run_name(moment.time)
        try:
            if (target / jobs.METRICS).exists():
                self.log(f"{moment.file.name}: the forecast from {_text(moment.time)} is there")
            else:
                start = self._start(moment)
                if start is None:
                    self.log(
                        f"{moment.file.name}: {_text(moment.time)} is the only frame in reach; no forecast"
                    )
                    self.arrivals.finish(moment)
                    return False
                self._run(start, target)
                self.log(f"{moment.file.name}: forecast from {_text(moment.time)} in {target.name}")
        except InputError as error:
            # One frame that cannot be used must not end the loop; a full disk would fail every frame.
            self.log(f"{moment.file.name}: no forecast: {error}")
            if _disk_is_full(self.out):
                raise
            self.arrivals.finish(moment)
            return False
        self.arrivals.finish(moment)
        return True

    def log(self, text: str) -> None:
        """Print a line, and append it to the log."""
        print(text, file=sys.stderr)
        with (self.out / LOG).open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {without_paths(text)}\n")

    def _begin(self, fresh: list[Moment]) -> int:
        """Deal with the frames that were there before the first start: the newest of them get a forecast."""
        for moment in fresh[: -self.options.backlog]:
            self.arrivals.finish(moment)
        return sum(self.forecast(moment) for moment in fresh[-self.options.backlog :])

    def _start(self, moment: Moment) -> Ensemble | None:
        """Return the frames a forecast starts from, as the prior has them; None where there are too few."""
        reach = (reach_of(self.prior) + 3) * step_of(self.prior)
        held = self.arrivals.before(moment, reach)
        if held.times.size < LEAST:
            return None
        return read_state(held, self.prior, self.settings)

    def _run(self, start: Ensemble, target: Path) -> None:
        """Write a forecast into a run folder; what a killed program left there is computed again."""
        settings = self.settings.model_copy(update={"step_s": None, "spacing": None, "crop": None})
        fields = Fields(start.members[:, 0], start.times, start.variables, start.grid, start.attributes)
        with TemporaryDirectory(dir=self.out, prefix=START) as folder:
            path = Path(folder) / "start.nc"
            write_fields(fields, path)
            jobs.run(settings, {"start": path}, target, overwrite=target.exists())

    def _newest_is_done(self) -> bool:
        moments = [each for held in self.arrivals.moments.values() for each in held]
        newest = max(moments, key=lambda each: each.time, default=None)
        return newest is not None and (self.out / run_name(newest.time) / jobs.METRICS).exists()

    def _tell_damage(self) -> None:
        """Tell of every file that cannot be read, once for each reason."""
        for name, reason in self.arrivals.damaged.items():
            if self._told.get(name) != reason:
                self._told[name] = reason
                self.log(f"{name}: cannot be used now, will be read again when it changes ({reason})")


def run_name(moment: np.datetime64) -> str:
    """Return the name of the run folder of a frame."""
    return _text(moment).replace("-", "").replace(":", "") + "Z"


def _text(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[s]"))


def _disk_is_full(path: Path) -> bool:
    return shutil.disk_usage(path).free < LEAST_FREE
