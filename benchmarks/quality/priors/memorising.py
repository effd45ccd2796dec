"""Does an audit see a prior memorise before its samples are copies, and leave a healthy one of the same size alone?

    python benchmarks/quality/priors/memorising.py --kind memorising --out runs/memorising.json
    python benchmarks/quality/priors/memorising.py --kind healthy --out runs/healthy.json
    python benchmarks/quality/priors/memorising.py --table runs/memorising.json runs/healthy.json

Chest slices reduced to 32 x 32 pixels. Two networks of one size are trained side by side on two halves of the
patients, without a patient in common: on 16 slices of each half (memorising), or on all slices, mirrored, turned and
scaled at random (healthy). At every checkpoint all audits are run against the slices of one patient that neither has
seen, and the distance of the two networks' flows is measured. Samples are exact copies where they are three times
nearer to a training slice than to any slice of another patient.
"""

import argparse
import io
import json
import lzma
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.support.real_data import real_data
from priors.audits.audit import Extent, audit_against, audit_data
from priors.card import Prior, card_of_prior
from priors.card.trust import AuditRow
from priors.training.configuration.config import TrainConfig
from priors.training.engine.trainer import Trainer
from priors.training.loop import open_subject

HALVES = (
    ("covidctmd_P001", "covidctmd_cap001", "covidctmd_normal001", "nlst_101287"),
    ("tcgathca_DE-A4MA", "cmbcrc_01068", "lungdx_A0002"),
)
HELD_OUT = "covidctmd_cap002"
SIDE, FEW = 32, 16
CHECKPOINTS = (200, 400, 700, 1000, 1500, 2000, 3000)
EXTENT = Extent(samples=64, steps=18, slices=16, noises=32, flow_steps=18)
EXACT = 0.5


def slices_of(patient: str) -> np.ndarray:
    """Return a patient's slices as means of 8 x 8 pixels, HU."""
    split = "validation" if patient == HELD_OUT else "train"
    packed = real_data(f"ct/slices256/{split}/{patient}.npy.xz")
    values = np.load(io.BytesIO(lzma.decompress(packed.read_bytes()))).astype(np.float32)
    block = values.shape[1] // SIDE
    return values.reshape(len(values), SIDE, block, SIDE, block).mean((2, 4)).clip(-1024, 1500)


def prepared(folder: Path, patients: tuple[str, ...], few: int | None) -> Path:
    """Write a prepared folder of some patients, with a few slices of all together or with all."""
    folder.mkdir()
    series = []
    counts = [len(part) for part in np.array_split(np.arange(few or 0), len(patients))]
    for patient, count in zip((*patients, HELD_OUT), (*counts, 0), strict=True):
        values = slices_of(patient)
        if count:
            # Not the ends of a series, where there is little of a body.
            values = values[(np.linspace(0.15, 0.85, count) * (len(values) - 1)).astype(int)]
        np.save(folder / f"{patient}.npy", values)
        split = "validation" if patient == HELD_OUT else "train"
        series.append(
            {
                "file": f"{patient}.npy",
                "split": split,
                "source": patient,
                "licence": "CC BY",
                "pixel_mm": 10.0,
            }
        )
    (folder / "manifest.yaml").write_text(yaml.safe_dump({"unit": "HU", "series": series}))
    return folder


def configuration(data: Path, *, healthy: bool, seed: int) -> TrainConfig:
    """Return the training of either kind; the networks are alike."""
    return TrainConfig.model_validate(
        {
            "name": data.name,
            "data": data,
            "seed": seed,
            "network": {"name": "monai-unet", "channels": [32, 64], "norm_groups": 8, "unshuffle": 2},
            "parametrisation": {"name": "edm", "sigma_data": 0.6},
            "codec": {"offset": 0.0, "scale": 1000.0, "low": -1024.0, "high": 1500.0},
            "description": {
                "trained_on": "slices of 32 x 32",
                "licence": "-",
                "citation": "-",
                "pixel_mm": [10.0, 10.0],
            },
            "crops": [{"size": SIDE, "batch": 8}],
            "augmentation": {"flip": healthy, "probability": 0.5 if healthy else 0.0},
            "optimisation": {"steps": CHECKPOINTS[-1], "learning_rate": 2e-3, "warmup": 100, "ema": 0.99},
            "memorisation": {"watch": False},
            "precision": {"compute": "float32"},
        }
    )


def prior_of(trainer: Trainer) -> Prior:
    """Return the averaged network as a prior."""
    card = card_of_prior("ct-chest-256").model_copy(
        update={
            "name": trainer.config.name,
            "shape": (SIDE, SIDE),
            "codec": trainer.config.codec,
            "mirrored": trainer.config.augmentation.flip,
        }
    )
    return Prior.assembled(trainer.averaged.eval(), card)


def run(kind: str) -> Iterator[dict[str, Any]]:
    """Train both networks of a kind and yield the audits of every checkpoint."""
    few = FEW if kind == "memorising" else None
    with tempfile.TemporaryDirectory() as root:
        folders = [prepared(Path(root) / f"half-{k}", half, few) for k, half in enumerate(HALVES)]
        trainers = []
        for seed, folder in enumerate(folders):
            config = configuration(folder, healthy=few is None, seed=seed)
            trainers.append(Trainer.start(config, open_subject(config)))
        for checkpoint in CHECKPOINTS:
            for trainer in trainers:
                while trainer.step < checkpoint:
                    trainer.advance()
            first, second = (prior_of(trainer) for trainer in trainers)
            rows = audit_data(first, folders[0], EXTENT, lambda _: None)
            rows.append(audit_against(first, second, EXTENT))
            yield {"step": checkpoint, "audits": [row.model_dump() for row in rows]}


def table(files: list[Path]) -> None:
    """Print the figures of every checkpoint as Markdown."""
    print(
        "| | step | gap 0.1, 0.3, 1 | near, exact | ICR train / held | kurtosis train / held | PFD / deviation |"
        "\n|---|---|---|---|---|---|---|"
    )
    for file in files:
        for row in json.loads(file.read_text()):
            audits = {each["audit"]: AuditRow.model_validate(each) for each in row["audits"]}
            gap, near, icr, spiky, pfd = (
                audits[name].figures for name in ("gap", "copying", "icr", "spikiness", "pfd")
            )
            cells = (
                file.stem,
                row["step"],
                ", ".join(f"{gap[f'gap_{level}']:.2f}" for level in ("0.1", "0.3", "1")),
                f"{near['share_below']:.2f}, {near['exact_share']:.2f}",
                f"{icr['train']:.3f} / {icr['held']:.3f}",
                f"{spiky['kurtosis_train']:.2f} / {spiky['kurtosis_held']:.2f}",
                f"{pfd['pfd_per_value']:.3f} / {pfd['deviation']:.3f}",
            )
            marks = [f"{cell}" for cell in cells]
            print(f"| {' | '.join(marks)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=("memorising", "healthy"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, nargs="+")
    chosen = parser.parse_args()
    if chosen.table:
        table(chosen.table)
        return
    torch.set_num_threads(1)
    rows = []
    for row in run(chosen.kind):
        rows.append(row)
        for audit in row["audits"]:
            print(row["step"], audit["audit"], audit["verdict"], audit["figures"], flush=True)
        if chosen.out:
            chosen.out.parent.mkdir(parents=True, exist_ok=True)
            chosen.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
