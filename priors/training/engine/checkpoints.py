"""Checkpoint files: kept as long as the run asks."""

import os
import re
import shutil
from pathlib import Path

from priors.training.configuration.settings import Keep

_NAME = re.compile(r"checkpoint-(\d+)\.pt")


def keep_checkpoints(latest: Path, step: int, keep: Keep) -> None:
    """Give the latest checkpoint a second name where it is to stay, and remove those that are not."""
    wanted = keep.every is not None and step % keep.every == 0
    if wanted or keep.last > 1:
        named = latest.with_name(f"checkpoint-{step}.pt")
        named.unlink(missing_ok=True)
        try:
            # The latest is replaced, never written into: two names for one content are enough.
            os.link(latest, named)
        except OSError:
            shutil.copyfile(latest, named)
    steps = sorted(
        int(match[1])
        for path in latest.parent.glob("checkpoint-*.pt")
        if (match := _NAME.fullmatch(path.name))
    )
    recent = set(steps[-keep.last :]) if keep.last > 1 else set()
    for other in steps:
        marked = keep.every is not None and other % keep.every == 0
        if not marked and other not in recent:
            latest.with_name(f"checkpoint-{other}.pt").unlink(missing_ok=True)
