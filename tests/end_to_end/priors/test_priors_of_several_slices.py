"""Priors over neighbouring slices and over blocks on the command line, from the checkpoint to the volume."""

import json
from pathlib import Path

import pytest
import torch

from priors.card import read_card
from tests.support.command_line import inside, mistake, torchrun
from tests.support.priors.foreign import randomised, save_diffusers, small_unet
from tests.support.recon.disc_scan import disc, disc_scan

diffusers = pytest.importorskip("diffusers", reason="the extra tomocast[diffusers] is not installed")
CODEC = ("--offset", 0, "--scale", 1000, "--unit", "HU")
FAST = ("--method", "nerd-fast", "method.fast.levels=2", "method.warm_start=fbp")
KINDS = {
    "neighbours": ("channels=neighbours",),
    "block": ("size=32", "slices=4", "head_width=16", "groups=4"),
}


def checkpoint(kind: str) -> str:
    """Return the file of a kind's network."""
    return "block.pt" if kind == "block" else kind


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, their priors, and a scan of four slices."""
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

    folder = tmp_path_factory.mktemp("several")
    plain = {
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
        "add_attention": False,
    }
    save_diffusers(
        folder / "neighbours", small_unet(in_channels=3, **plain), diffusers.DDPMScheduler(clip_sample=False)
    )
    shape = {
        "channels": [8, 16],
        "attention_levels": [False, False],
        "num_res_blocks": 1,
        "norm_num_groups": 4,
    }
    block = DiffusionModelUNet(spatial_dims=3, in_channels=1, out_channels=1, num_head_channels=16, **shape)
    torch.save(randomised(block).state_dict(), folder / "block.pt")
    for kind, told in KINDS.items():
        inside("import-prior", folder / checkpoint(kind), *CODEC, *told, "--out", folder / f"{kind}-prior")
    return disc_scan(folder, disc(), slices=4)


def test_inspect_names_what_must_be_told(made: Path) -> None:
    for kind, told in (
        ("neighbours", "channels=neighbours"),
        ("block", "head_width=, groups=, size=, slices="),
    ):
        facts = json.loads(inside("inspect", made / checkpoint(kind), "--json", "-").stdout)["facts"]
        assert facts["must be told"] == f"--offset, --scale, --unit, {told}"
    assert facts["import"].endswith("head_width=... groups=... size=... slices=... --out FOLDER")
    assert "must be told: groups=" in mistake(
        "import-prior", made / "block.pt", *CODEC, *KINDS["block"][:3], "--out", made / "none"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_one_reconstructs_in_as_many_processes_as_there_are(made: Path, tmp_path: Path, kind: str) -> None:
    prior = made / f"{kind}-prior"
    card = json.loads(inside("inspect", prior, "--json", "-").stdout)["card"]
    assert card["fit"]["channels"] == kind
    job = ("reconstruct", made / "scan.h5", *FAST, "--prior", prior, "--force")
    plan = json.loads(inside(*job, "--plan", "--json", "-").stdout)
    assert plan["bytes"]["network graph of one chunk"] > 0
    inside(*job, "--out", tmp_path / "one")
    assert volume(tmp_path / "one").isfinite().all()
    if kind == "neighbours":
        return
    # One block of four slices and two processes: one of them has no window.
    torchrun(*job, "--out", tmp_path / "two")
    one, two = (volume(tmp_path / name) for name in ("one", "two"))
    assert abs(one - two).max() < 0.1  # HU: windows are added up in another order


def volume(run: Path) -> torch.Tensor:
    import nibabel

    return torch.from_numpy(nibabel.load(run / "volume.nii.gz").get_fdata())


def test_neighbours_are_exported_and_come_back(made: Path, tmp_path: Path) -> None:
    inside("export-prior", made / "neighbours-prior", "--out", tmp_path / "exported")
    inside("import-prior", tmp_path / "exported", "--out", tmp_path / "again")
    before, after = (read_card(folder) for folder in (made / "neighbours-prior", tmp_path / "again"))
    assert (after.fit, after.network, after.codec) == (before.fit, before.network, before.codec)
    assert after.sha256 == before.sha256
    assert [parent.name for parent in after.parents] == [before.name]
    assert "which UNet2DModel cannot be" in mistake(
        "export-prior", made / "block-prior", "--out", tmp_path / "none"
    )
