"""A day of frames through `tomocast nowcast --watch`: some dropped, late, damaged, and the program killed.

    python benchmarks/quality/assimilation/watch_day.py FOLDER --crop 0:64,0:64 --json FILE

Every frame of FOLDER (one per file, 144 for a day of ten minutes) is written into a watched folder, one every
``--interval`` seconds, in an order drawn from ``--seed``: a share never comes, a share comes one to five frames late, a
share comes truncated first and whole three frames later, and now and then the program is ended by SIGKILL, in the
middle of whatever it does, and started again. At the end every frame that came has to have one complete forecast, the
archive of which opens with the right times and numbers.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.io.archive import read_ensemble
from assimilation.io.registry import read_any_fields
from assimilation.run.watch.loop import run_name
from benchmarks.support.assimilation_runs import TOMOCAST, report
from priors.runtime.run_folder.record import to_json

LONGEST = 1800.0
"""Seconds after the last frame within which everything has to be forecast."""


@dataclass(frozen=True)
class Event:
    """What happens at a tick: a file comes whole, or truncated, or the program is killed."""

    tick: int
    kind: str
    file: Path | None = None


def plan(files: list[Path], chosen: argparse.Namespace) -> list[Event]:
    """Return the day, in order of ticks."""
    draw = np.random.default_rng(chosen.seed)
    events = []
    for tick, file in enumerate(files):
        fate = draw.random()
        # The first two frames come as they are: a folder without frames is refused at the start.
        if tick < 2 or fate > 3 * chosen.share:
            events.append(Event(tick, "whole", file))
        elif fate > 2 * chosen.share:
            events.append(Event(tick + int(draw.integers(1, 6)), "late", file))
        elif fate > chosen.share:
            events += [Event(tick, "truncated", file), Event(tick + 3, "mended", file)]
        else:
            events.append(Event(tick, "dropped", file))
    ticks = draw.choice(np.arange(4, len(files) - 4), size=chosen.kills, replace=False)
    events += [Event(int(tick), "kill") for tick in ticks]
    return sorted(events, key=lambda event: event.tick)


def apply(event: Event, folder: Path) -> None:
    """Let a file come, as services write them: under a hidden name first, except where it is to be damaged."""
    if event.file is None or event.kind == "dropped":
        return
    target, data = folder / event.file.name, event.file.read_bytes()
    if event.kind == "truncated":
        target.write_bytes(data[: len(data) // 3])
        return
    hidden = folder / f".{event.file.name}"
    hidden.write_bytes(data)
    hidden.rename(target)


class Program:
    """The watching program, which can be killed and started again."""

    def __init__(self, folder: Path, out: Path, chosen: argparse.Namespace) -> None:
        words = ["nowcast", folder, "--watch", "--prior", chosen.prior, "--frames", chosen.frames]
        words += ["--members", chosen.members, "--step", chosen.step, "--spacing", chosen.spacing]
        words += ["--poll", 0.2, "--out", out, *(("--crop", chosen.crop) if chosen.crop else ())]
        self._words = [*TOMOCAST, *map(str, words)]
        self._log = (out.parent / "program.txt").open("a")
        self._process = self._start()

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(self._words, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        """End it at once and start it again."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def stop(self) -> int:
        """End it as a service is ended and return its status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    @property
    def runs(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None


def times_of(files: list[Path]) -> dict[Path, np.datetime64]:
    """Return the valid time of every file."""
    return {file: read_any_fields(file).times[-1] for file in files}


def complete(out: Path, time_: np.datetime64) -> bool:
    """Tell whether the forecast of a frame is there."""
    return (out / run_name(time_) / "metrics.json").is_file()


def simulate(folder: Path, out: Path, events: list[Event], chosen: argparse.Namespace) -> dict[str, Any]:
    """Run the day; return when each frame came and what the program did."""
    (folder.parent / "program.txt").unlink(missing_ok=True)
    program, began, killed = None, time.time(), 0
    last = max(event.tick for event in events)
    for tick in range(last + 1):
        for event in (one for one in events if one.tick == tick):
            if event.kind == "kill" and program is not None:
                program.kill()
                killed += 1
            apply(event, folder)
        if program is None and tick >= 1:
            program = Program(folder, out, chosen)
        time.sleep(chosen.interval)
    assert program is not None
    return {"program": program, "seconds": time.time() - began, "killed": killed}


def settle(out: Path, wanted: list[np.datetime64], program: Program) -> None:
    """Wait until every wanted forecast is there, or time is up."""
    until = time.time() + LONGEST
    while time.time() < until and program.runs and not all(complete(out, each) for each in wanted):
        time.sleep(1)


def checked(out: Path, wanted: list[np.datetime64], chosen: argparse.Namespace) -> dict[str, int]:
    """Return how many archives open with the right times and finite numbers."""
    good = 0
    for each in wanted:
        if not complete(out, each):
            continue
        found = read_ensemble(out / run_name(each))
        step = np.timedelta64(round(chosen.step), "s")
        expected = each + step * np.arange(1, chosen.frames + 1)
        good += bool((found.times == expected).all() and np.isfinite(found.members).any())
    whole = sum(complete(out, each) for each in wanted)
    return {"wanted": len(wanted), "complete": whole, "readable": good}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a day of radar frames, one per file")
    parser.add_argument("--count", type=int, help="frames of it; all where left out")
    parser.add_argument("--share", type=float, default=0.06, help="dropped; as many late, as many damaged")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two frames")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--spacing", type=float, default=2.0)
    parser.add_argument("--step", type=float, default=600.0)
    parser.add_argument("--crop")
    parser.add_argument("--prior", default="radar-rain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/watch-day"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    files = sorted(file for file in chosen.folder.iterdir() if file.is_file())[: chosen.count]
    folder, out = chosen.runs / "radar", chosen.runs / "forecasts"
    for each in (folder, out):
        shutil.rmtree(each, ignore_errors=True)
    folder.mkdir(parents=True)
    events = plan(files, chosen)
    when = times_of(files)
    came = [event for event in events if event.kind in ("whole", "late", "mended") and event.file is not None]
    # The very first frame has no motion; of those there at the first start the newest gets a forecast.
    wanted = sorted(when[event.file] for event in came if event.file is not None)[1:]
    told = simulate(folder, out, events, chosen)
    program = told.pop("program")
    settle(out, wanted, program)
    alive = program.runs
    told |= {"still_running": alive, "status_of_sigterm": program.stop() if alive else None}
    kinds = {kind: sum(event.kind == kind for event in events) for kind in ("dropped", "late", "truncated")}
    told |= kinds | checked(out, wanted, chosen)
    told["left_over"] = sorted(path.name for path in out.glob(".start-*"))
    told["peak_log_lines"] = len((out / "log.txt").read_text().splitlines())
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(to_json(told, indent=1))
    report(json.dumps(told, indent=1), None)
    if told["complete"] < told["wanted"] or told["readable"] < told["wanted"]:
        sys.exit("something that came has no forecast")


if __name__ == "__main__":
    main()
