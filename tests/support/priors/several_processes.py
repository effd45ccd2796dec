"""Runs trainings in several processes: ``torchrun --nproc-per-node 2 several_processes.py CASES.json``.

CASES.json lists ``[configuration as plain data, run folder, run folder to go on from or null]``. The processes start
once for all cases, since starting them takes longer than training.
"""

import json
import shutil
import sys
from pathlib import Path

import torch

from priors.runtime.system import processes
from priors.training.configuration.config import TrainConfig, TrajectoryConfig
from priors.training.loop import train

CUT_AFTER = 4


def cut(source: Path, target: Path) -> None:
    """Lay a run down as it was after four steps, as a kill would have left it."""
    target.mkdir(exist_ok=True)
    shutil.copy(source / f"checkpoint-{CUT_AFTER}.pt", target / "checkpoint.pt")
    for name in ("best.pt", "training.jsonl"):
        shutil.copy(source / name, target / name)


def main(cases: Path) -> None:
    """Do every case."""
    torch.set_num_threads(1)
    with processes.process_group():
        for tree, folder, source in json.loads(cases.read_text()):
            if source is not None and processes.rank() == 0:
                cut(Path(source), Path(folder))
            processes.barrier()
            kind = TrajectoryConfig if tree.get("kind") == "trajectories" else TrainConfig
            train(kind.model_validate(tree), Path(folder), resume=source is not None, report=lambda *_: None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
