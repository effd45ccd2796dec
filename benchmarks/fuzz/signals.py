"""Every verb that writes, ended at random times by a signal, and then run again: is anything lost, left or mixed?

    nice python benchmarks/fuzz/signals.py --times 50

Each run is a fork of this process, which has the libraries in memory and no threads: a run takes what the verb takes.
It is ended by SIGINT, SIGTERM or SIGKILL in turn, at a time drawn from 0 to 1.1 times what the verb takes. Then

    inputs    are they byte for byte what they were?
    left      after SIGINT and SIGTERM: is a temporary file or a lock still there?
    again     the same command (with --resume where the verb has it): does it end well, with nothing left, and are its
              results the values of a run that was never interrupted?

and the table counts the answers.
"""

import argparse
import gzip
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

DA = "--prior {made}/prior --members 2 --steps 4"
VERBS = {
    "reconstruct": (
        "reconstruct {made}/scan.h5 --out new --method tv checkpoint_s=0 --format dicom",
        "--resume",
    ),
    "assimilate": (f"assimilate {{made}}/obs.nc --out new {DA}", "--resume"),
    "forecast": (f"forecast {{made}}/truth.nc --out new --frames 3 {DA} format=zarr", "--resume"),
    "train": ("train {made}/train.yaml --out new", "--resume"),
    "convert": ("convert {made}/volume.nii.gz --out new --format dicom", ""),
    "convert to Zarr": ("convert {made}/volume.nii.gz --out new.zarr", ""),
    "phantom": ("phantom --out new.nii.gz --slices 4 --grid 64", ""),
    "simulate scan": ("simulate scan {made}/volume.nii.gz --out new.h5 --views 24 --grid 32", ""),
    "simulate system": ("simulate system lorenz96 --out new.nc --steps 100", ""),
    "simulate to Zarr": ("simulate system lorenz96 --out new.zarr --steps 100", ""),
    "observe": ("observe {made}/truth.nc --out new.nc", ""),
    "prepare trajectories": ("prepare trajectories {made}/events.yaml --data {made} --out new", ""),
    "export-prior": ("export-prior ct-chest-256 --out new", ""),
    "compare": ("compare {made}/scan.h5 --methods fbp,cgls --out new", "--resume"),
    "sample": ("sample ct-chest-256 --out new.npy --count 1 --steps 4 --size 64", ""),
    "score": ("score volume {made}/volume.nii.gz {made}/volume.nii.gz --json new.json", ""),
}
"""Words of a verb, and what is added to run it again."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
RESULTS = (".nii.gz", ".nc", ".dcm", ".h5", ".safetensors", ".npy", "new.json")


def main() -> None:
    """Run the verbs and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="*", default=list(VERBS), choices=list(VERBS))
    asked = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "made"
        child(lambda: make(made), Path(scratch))
        warm_up()
        for verb in asked.verbs:
            rows.append((verb, tried(verb, made, Path(scratch), asked)))
            print(line(*rows[-1]), flush=True)
    print(
        "\n"
        + "| verb | signals | ended before it was done | inputs changed | left behind | failed again | other result |"
    )
    print("|---|---|---|---|---|---|---|")
    print("\n".join(line(*row) for row in rows))
    if any(count[key] for _, count in rows for key in ("inputs", "left", "failed", "differs")):
        raise SystemExit(1)


def line(verb: str, count: Counter[str]) -> str:
    """Return a row of the table."""
    cells = [count[key] for key in ("tried", "ended", "inputs", "left", "failed", "differs")]
    return f"| {verb} | {' | '.join(map(str, cells))} |"


def tried(verb: str, made: Path, scratch: Path, asked: argparse.Namespace) -> Counter[str]:
    """Return what happened to a verb."""
    words, again = (text.format(made=made).split() for text in VERBS[verb])
    place = scratch / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    usual = float("inf")
    for _ in range(2):
        # The first run compiles, and another program may be in the way of one.
        shutil.rmtree(place)
        place.mkdir()
        begin = time.monotonic()
        status = child(lambda: command(words), place)
        assert status == 0, f"{verb}: fails without a signal: {(place / 'err').read_text()[-300:]}"
        usual = min(usual, time.monotonic() - begin)
    expected, inputs = results(place), bytes_of(made)
    draw, count = random.Random(f"{asked.seed} {verb}"), Counter(tried=asked.times)
    for number in range(asked.times):
        shutil.rmtree(place)
        place.mkdir()
        sent = SIGNALS[number % len(SIGNALS)]
        status = child(lambda: command(words), place, after=draw.uniform(0, 1.1 * usual), send=sent)
        count["ended"] += status != 0
        count["inputs"] += bytes_of(made) != inputs
        count["left"] += sent != signal.SIGKILL and bool(leftovers(place))
        known = {0, 128 + sent, -sent}
        # A run that was done before its signal stays as it is where its verb refuses what exists.
        repeated = status != 0 or bool(again)
        failed = (
            status not in known
            or (repeated and child(lambda: command([*words, *again]), place) != 0)
            or leftovers(place)
        )
        count["failed"] += bool(failed)
        if failed:
            print(
                f"  {verb}: {sent.name}, status {status}: {(place / 'err').read_text()[-300:]}",
                file=sys.stderr,
            )
        count["differs"] += not failed and results(place) != expected
    return count


def child(work, place: Path, *, after: float | None = None, send: int = 0) -> int:
    """Fork, work in a folder, send a signal after some seconds; return the exit status, negative for a signal."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.chdir(place)
            out = os.open("err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            work()
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        except KeyboardInterrupt:
            # Before the command line takes signals over.
            status = 130
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    if after is not None:
        end = time.monotonic() + after
        while time.monotonic() < end:
            time.sleep(min(0.01, after))
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
        os.kill(process, send)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def command(words: list[str]) -> None:
    """Run the command line in this process."""
    from tomocast.cli import main as tomocast

    sys.argv = ["tomocast", *words]
    tomocast()


def warm_up() -> None:
    """Import what the verbs need, so that a fork begins where its work does."""
    import torch

    torch.set_num_threads(1)
    import recon.run.convert
    import recon.run.scores.comparison
    import recon.run.scores.scoring  # noqa: F401


def make(folder: Path) -> None:
    """Write one small file of every kind that the verbs read."""
    import numpy as np
    from omegaconf import OmegaConf

    from assimilation.io.archive import write_fields
    from tests.support.assimilation import tiny_prior
    from tests.support.command_line import inside
    from tests.support.priors.small_training import settings, write_data

    folder.mkdir()
    inside("phantom", "--out", folder / "volume.nii.gz", "--slices", 4, "--grid", 48)
    inside(
        "simulate", "scan", folder / "volume.nii.gz", "--out", folder / "scan.h5", "--views", 12, "--grid", 32
    )
    tiny_prior.make(folder / "prior")
    fields = tiny_prior.fields(7, 1, 4)
    fields.values[...] += np.random.default_rng(0).normal(size=fields.values.shape).astype(np.float32)
    write_fields(fields, folder / "truth.nc")
    inside("observe", folder / "truth.nc", "--out", folder / "obs.nc")
    (folder / "events.yaml").write_text("events: [{path: truth.nc, split: train}]\n")
    OmegaConf.save(OmegaConf.create(settings(write_data(folder / "data"), steps=80)), folder / "train.yaml")


def bytes_of(folder: Path) -> dict[str, str]:
    """Return a hash of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def leftovers(place: Path) -> list[Path]:
    """Return temporary files, states and locks that are still there."""
    return [path for path in place.rglob("*") if path.name.startswith(".") or path.name == "run.lock"]


def results(place: Path) -> dict[str, str]:
    """Return a hash of the values of every result, without what differs from run to run (times, identifiers)."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_file() and (name.endswith(RESULTS) or ".zarr/" in name):
            found[name] = hashlib.sha256(values(path)).hexdigest()
    return found


def values(path: Path) -> bytes:
    """Return the values in a file."""
    if path.name.endswith(".gz"):
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".dcm":
        import pydicom

        return pydicom.dcmread(path).PixelData
    if path.suffix in (".nc", ".h5"):
        import h5py

        parts: list[bytes] = []
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda name, held: (
                    parts.append(held[()].tobytes()) if isinstance(held, h5py.Dataset) else None
                )
            )
        return b"".join(parts)
    return path.read_bytes()


if __name__ == "__main__":
    main()
