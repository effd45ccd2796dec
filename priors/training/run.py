"""Training and sampling as jobs: a plan, a run folder, progress, and files at the end.

config.yaml, inputs.json, versions.json, log.txt    how the run was made
checkpoint.pt, best.pt, training.jsonl, tensorboard/ the run itself
prior/card.yaml, prior/model.safetensors             the result, a prior like any other
metrics.json, samples.png                            its held-out figures, and a page for the eye
"""

import sys
import time
from pathlib import Path
from typing import Any

from priors.card import find_prior, load_prior, read_card
from priors.diffusion.denoiser import resolved_device
from priors.runtime.errors import InputError, Interrupted
from priors.runtime.files.reads import reading
from priors.runtime.output import check_json, emit_json
from priors.runtime.progress import Progress, clock
from priors.runtime.run_folder.fingerprint import fingerprint
from priors.runtime.run_folder.privacy import without_paths
from priors.runtime.run_folder.record import RunFolder, describe_input, open_run
from priors.runtime.system import processes
from priors.runtime.system.memory import MemoryPlan, available_bytes, human
from priors.runtime.system.peak import peak_bytes
from priors.training.averages import SNAPSHOTS
from priors.training.configuration.config import Training
from priors.training.engine.parallel import in_step
from priors.training.engine.precision import resolved_precision
from priors.training.engine.tensorboard_log import TensorBoardLog
from priors.training.export import export_prior
from priors.training.extend import resumed_config
from priors.training.initial import check_parent
from priors.training.loop import BEST, CHECKPOINT, LOG, PREVIEWS, open_subject, train
from priors.training.memorisation.onset import NAME, Warner, onset
from priors.training.plan import expected_seconds, memory_plan
from priors.training.task import TrainingTask


def print_plan(
    config: Training, subject: TrainingTask | None = None, *, as_json: str | None = None
) -> MemoryPlan:
    """Print the memory and, where it suffices, the time of a run; return the memory plan.

    Args:
        config: what to train.
        subject: its data, where they are open already.
        as_json: where to write the figures as JSON; ``-`` is standard output.

    Raises:
        InputError: the data cannot be used.
    """
    subject = subject or open_subject(config)
    plan, free = memory_plan(config, subject), available_bytes()
    seconds = expected_seconds(config, subject) if plan.fits(free) else None
    if emit_json({**plan.figures(free), "seconds": seconds}, as_json):
        return plan
    print(plan.table(), file=sys.stderr)
    print(f"free now: {human(free)}", file=sys.stderr)
    print(_arithmetic(config), file=sys.stderr)
    if seconds is not None:
        expected = f"time: about {clock(seconds)} for {config.optimisation.last} steps"
        print(f"{expected}, validation and export included", file=sys.stderr, flush=True)
    return plan


def _arithmetic(config: Training) -> str:
    device = resolved_device(config.device)
    precision = resolved_precision(config.precision, device)
    many = processes.count()
    text = f"network in {precision} on {device.type}"
    return text if many == 1 else f"{text}, {many} processes ({config.parallel.mode})"


def run(
    config: Training,
    out: Path,
    *,
    command: str,
    resume: bool,
    overwrite: bool,
    extend: int | None = None,
    as_json: str | None = None,
) -> None:
    """Plan, train, export, verify, draw; the processes that torchrun starts do it together.

    Args:
        config: what to train.
        out: run folder.
        command: the command line, for the record and the card.
        resume: continue an interrupted run.
        overwrite: replace an earlier run.
        extend: steps to add to a run, which is continued.
        as_json: where to write metrics.json's figures besides; ``-`` is standard output.

    Raises:
        InputError: the data, the folder or a checkpoint cannot be used, or the memory does not suffice.
        Interrupted: with the way to continue.
    """
    check_json(as_json, [config.data])
    resume = resume or extend is not None
    begin = time.perf_counter()
    with processes.process_group():
        if resume:
            config = in_step(lambda: resumed_config(config, out, extend=extend))
        with reading() as arrays:
            subject = in_step(lambda: _prepared(config, resume=resume))
        command = without_paths(command)
        with in_step(lambda: _folder(config, out, arrays, resume=resume, overwrite=overwrite)) as folder:
            if processes.rank() == 0:
                _begin(config, folder, arrays, command=command)
                folder.log(f"{'resume' if resume else 'start'}: {_arithmetic(config)}")
            try:
                if processes.rank() != 0:
                    train(config, out, resume=resume, report=lambda *_: None, subject=subject)
                    return
                figures = _train_and_export(config, folder, subject, command=command, resume=resume)
                spent = {"seconds": time.perf_counter() - begin, "peak_memory_bytes": peak_bytes()}
                folder.write_json("metrics.json", {**figures, **spent, "resumed": resume})
                folder.log("done")
                if not emit_json({**figures, **spent, "resumed": resume}, as_json):
                    print(f"{folder.file('prior')}: prior {config.name}, sha256 {figures['sha256'][:12]}")
            except KeyboardInterrupt:
                if processes.rank() == 0:
                    folder.log("interrupted")
                raise Interrupted(f"continue with the same command and --resume (run folder {out})") from None


def _inputs(config: Training, arrays: list[Path]) -> dict[str, Any]:
    """Return name, size and hash of everything that training reads."""
    inputs = {"manifest": describe_input(config.data / "manifest.yaml", arrays)}
    if config.initial is not None:
        inputs["initial"] = describe_input(find_prior(config.initial))
    return inputs


def _begin(config: Training, folder: RunFolder, arrays: list[Path], *, command: str) -> None:
    """Write down what a run is made of, and which files it will write."""
    inputs = _inputs(config, arrays)
    folder.claim(CHECKPOINT, "checkpoint-*.pt", BEST, LOG, "samples.png", f"{PREVIEWS}/*.png")
    folder.claim(f"{SNAPSHOTS}/*.pt")
    folder.claim("tensorboard/events.out.tfevents.*", "prior/card.yaml", "prior/model.safetensors")
    folder.begin(fingerprint(inputs))
    folder.write_inputs(inputs, command=command, seed=config.seed)
    folder.write_config(config)


def _train_and_export(
    config: Training, folder: RunFolder, subject: TrainingTask, *, command: str, resume: bool
) -> dict[str, Any]:
    """Train, export, verify and draw, in the process that writes; return the figures of the card."""
    total = config.optimisation.last
    with (
        Progress(total, "train", every_s=30.0) as progress,
        TensorBoardLog(folder.file("tensorboard")) as board,
    ):

        def warn(text: str) -> None:
            folder.log(text)
            print(f"warning: {text}", file=sys.stderr, flush=True)

        warner = Warner(warn)

        def report(step: int, _: int, figures: dict[str, float]) -> None:
            shown = {name: value for name, value in figures.items() if not name.startswith(("copying", NAME))}
            progress.step(done=step, **shown)
            warner(step, figures)
            board.write(step, figures)
            board.write_page(step, folder.file(PREVIEWS) / f"{step:07d}.png")

        denoiser = train(config, folder.path, resume=resume, report=report, subject=subject)
    card = export_prior(denoiser, config, folder.file("prior"), command=command, subject=subject)
    made = load_prior(folder.file("prior"), device=denoiser.device.type)
    subject.save_page(made, folder.file("samples.png"))
    figures: dict[str, Any] = {"held_out_psnr": card.held_out_psnr, "self_test": card.self_test}
    figures["memorises_from_step"] = onset(folder.file(LOG))
    if card.trajectory is not None:
        figures["forecast"] = card.trajectory.forecast
    return {**figures, "sha256": card.sha256}


def _prepared(config: Training, *, resume: bool) -> TrainingTask:
    """Return the data, after checking that the run can be done before its folder is touched."""
    if config.initial is not None:
        if resume:
            find_prior(config.initial)
        else:
            _check_initial(config)
    subject = open_subject(config)
    # A resumed run has been planned before; of several processes one plans.
    if not resume and processes.rank() == 0:
        print_plan(config, subject).require()
    return subject


def _folder(config: Training, out: Path, arrays: list[Path], *, resume: bool, overwrite: bool) -> RunFolder:
    """Return the run folder, which the first process opens and checks.

    Raises:
        InputError: it cannot be used, or a resumed run began with other data.
    """
    if processes.rank() != 0:
        return RunFolder(out)
    read = [config.data, *arrays, *([] if config.initial is None else [find_prior(config.initial)])]
    folder = open_run(out, resume=resume, overwrite=overwrite, inputs=read)
    if resume:
        try:
            # Settings are compared by `resumed_config`, which knows how a run may be prolonged.
            marks = fingerprint(_inputs(config, arrays))
            folder.check_same(marks, state=(CHECKPOINT, BEST, LOG, "metrics.json"))
        except BaseException:
            folder.close()
            raise
    return folder


def _check_initial(config: Training) -> None:
    """Check that the prior training starts from has the network of the configuration."""
    card = read_card(find_prior(str(config.initial)))
    slab = getattr(config, "slab", 1)
    if card.fit.slices not in (1, slab):
        raise InputError(
            f"initial: prior {card.name!r} takes {card.fit.slices} slices at once, expected slab: {card.fit.slices}"
        )
    check_parent(card, config.network)
