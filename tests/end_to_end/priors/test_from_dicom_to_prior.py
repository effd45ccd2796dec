"""A hospital's way, on small data: a folder of DICOM series to a trained prior that reconstructs, in ten commands."""

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from tests.support.recon.series import thorax_like, write_series
from tomocast import cli

SMALL = [
    "network.channels=[16,16]",
    "network.norm_groups=4",
    "network.unshuffle=1",
    "crops=[{size: 32, batch: 4}]",
    "optimisation.steps=40",
    "optimisation.learning_rate=1e-2",
    "optimisation.warmup=5",
    "optimisation.ema=0.9",
    "validate_every=20",
    "validation_fields=2",
]


def hospital(folder: Path) -> Path:
    """Write one series for each of four patients."""
    for number in range(4):

        def name(i, data, number=number):
            data.PatientID = f"MRN-{number:04d}"

        values = thorax_like((8, 32, 32), seed=number)
        write_series(folder / f"s{number}", values, spacing=(1.5, 1.5), step=(0.0, 0.0, 2.0), change=name)
    return folder


def test_ten_commands_from_dicom_to_a_prior_that_reconstructs(tmp_path):
    dicom, prepared, run = hospital(tmp_path / "dicom"), tmp_path / "prepared", tmp_path / "run"
    config, prior = tmp_path / "my.yaml", run / "prior"
    commands: list[list[object]] = [
        ["prepare", "slices", dicom, "--out", prepared, "--validation", 0.25, "--licence", "internal use"],
        ["train", "--template", "slices", "--data", prepared],
        ["train", config, *SMALL, "--plan"],
        ["train", config, *SMALL, "--out", run],
        ["inspect", prior],
        ["sample", prior, "--count", 2, "--steps", 4, "--out", tmp_path / "samples.png"],
        [
            "simulate",
            "scan",
            dicom / "s0",
            "--views",
            12,
            "--grid",
            32,
            "--i0",
            1e5,
            "--out",
            tmp_path / "scan.h5",
        ],
        [
            "reconstruct",
            tmp_path / "scan.h5",
            "--prior",
            prior,
            "--method",
            "nerd-fast",
            "--out",
            tmp_path / "ct",
        ],
        ["score", "volume", tmp_path / "ct", dicom / "s0", "--json", tmp_path / "score.json"],
    ]
    assert len(commands) <= 10
    for command in commands:
        done = CliRunner().invoke(cli.app, [str(word) for word in command], standalone_mode=False)
        assert done.exception is None, (command, done.exception)
        if "--template" in command:
            config.write_text(done.stdout)
    card = (prior / "card.yaml").read_text()
    assert "internal use" in card
    written = "".join(
        path.read_text() for path in run.rglob("*") if path.suffix in (".yaml", ".json", ".txt")
    )
    assert "MRN-" not in written
    assert str(dicom) not in written
    scores = json.loads((tmp_path / "score.json").read_text())
    assert np.isfinite(scores["psnr_hu"])
