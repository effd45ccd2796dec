"""Priors of other software on the command line: inspect, import, use, export, calibrate."""

import io
import json
import lzma

import numpy as np
import pytest
import torch

import tomocast as tc
from priors.card import load_prior, read_card
from tests.support.command_line import inside, mistake
from tests.support.priors.foreign import relative, save_diffusers, small_unet
from tests.support.real_data import real_data

diffusers = pytest.importorskip("diffusers", reason="the extra tomocast[diffusers] is not installed")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    scheduler = diffusers.DDPMScheduler(clip_sample=False)
    return save_diffusers(tmp_path_factory.mktemp("checkpoint"), small_unet(), scheduler)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A scan of two slices of a phantom on 32 x 32 pixels."""
    from recon.geometry.grid import Grid
    from recon.geometry.orbits import Parallel

    grid = Grid((2, 32, 32), (2.0, 1.5, 1.5))
    geometry = Parallel(views=20).fit(grid).geometry()
    axis = torch.linspace(-1, 1, 32)
    disc = (axis[:, None] ** 2 + axis**2 < 0.6).float() * 0.02
    volume = torch.stack([disc, disc.roll(2, 0)])
    sinogram = tc.Projector(geometry, grid)(volume)
    return tc.Scan(sinogram.numpy(), geometry, grid=grid)


def test_inspect_says_what_it_is_and_what_must_be_told(checkpoint, tmp_path):
    text = inside("inspect", checkpoint).stdout
    for words in (
        "checkpoint of diffusers",
        "UNet2DModel",
        "--offset, --scale, --unit",
        "no licence in the file",
    ):
        assert words.lower() in text.lower() or words == "UNet2DModel"
    facts = json.loads(inside("inspect", checkpoint, "--json", "-").stdout)["facts"]
    assert facts["trained size"] == "32 x 32"
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    assert "of no known family" in mistake("inspect", tmp_path / "other.pt")


def test_import_and_reconstruct(checkpoint, scan, tmp_path):
    out = tmp_path / "prior"
    done = inside("import-prior", checkpoint, "--offset", 0, "--scale", 1000, "--unit", "HU", "--out", out)
    assert "note: network from unet/" in done.stderr
    assert "no better" in done.stderr or "leaves" in done.stderr  # random weights: said, not hidden
    for method in ("nerd-fast", "nerd-admm"):
        settings = {"fast": {"levels": 2}, "warm_start": "fbp"}
        volume = tc.reconstruct(scan, method, prior=out, seed=0, **settings)
        assert np.isfinite(volume.values).all()
        loaded = tc.reconstruct(scan, method, prior=tc.load_prior(out), seed=0, **settings)
        assert np.array_equal(volume.values, loaded.values)
    inside("inspect", out)


def test_what_is_wrong_is_one_line(checkpoint, tmp_path):
    options = ("--offset", 0, "--scale", 1000, "--unit", "HU", "--out", tmp_path / "p")
    assert "must be told: --offset, --scale, --unit" in mistake(
        "import-prior", checkpoint, "--out", tmp_path / "p"
    )
    assert "does not exist" in mistake("import-prior", tmp_path / "none", *options)
    assert "did you mean 'diffusers'" in mistake("import-prior", checkpoint, *options, "--family", "difusers")
    assert "unit" in mistake("import-prior", checkpoint, *options, "unit=cm")
    assert "did you mean 'heads'" in mistake("import-prior", checkpoint, *options, "head=4")
    assert "missing option '--out'" in mistake("import-prior", checkpoint)


def test_an_export_comes_back_as_the_same_prior(scan, tmp_path):
    inside("export-prior", "ct-chest-256", "--family", "diffusers", "--out", tmp_path / "d")
    diffusers.UNet2DModel.from_pretrained(tmp_path / "d" / "unet")
    inside("import-prior", tmp_path / "d", "--out", tmp_path / "p")
    own, again = load_prior("ct-chest-256"), load_prior(tmp_path / "p")
    assert again.card.codec == own.card.codec
    assert again.card.mirrored
    assert [parent.name for parent in again.card.parents] == ["ct-chest-256"]
    settings = {"seed": 0, "fast": {"levels": 6}, "warm_start": "fbp"}
    first, second = (tc.reconstruct(scan, "nerd-fast", prior=prior, **settings) for prior in (own, again))
    assert np.array_equal(first.values, second.values)


def test_an_export_is_the_same_network_to_diffusers(tmp_path):
    """The UNet2DModel behind the stem answers as our network does, in float32."""
    inside("export-prior", "ct-chest-256", "--out", tmp_path / "d")
    unet = diffusers.UNet2DModel.from_pretrained(tmp_path / "d" / "unet").eval()
    own = load_prior("ct-chest-256").network
    x = torch.randn(1, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for log_ratio in (-4.0, -1.0, 1.5):
            packed = torch.nn.functional.pixel_unshuffle(x, 2)
            output = unet(packed, torch.tensor([50 * log_ratio])).sample
            wanted = own(x, torch.tensor([log_ratio]))
            assert relative(torch.nn.functional.pixel_shuffle(output, 2), wanted) < 1e-5


def test_calibrate_finds_the_codec_of_training(tmp_path):
    packed = real_data("ct/slices256/validation/covidctmd_cap002.npy.xz")
    with lzma.open(packed) as stream:
        patient = np.load(io.BytesIO(stream.read()))
    np.save(tmp_path / "slices.npy", patient[40:100:40, 64:192, 64:192])
    assert "comes with the package" in mistake("calibrate", "ct-chest-256", "--data", tmp_path / "slices.npy")
    done = inside("calibrate", "ct-chest-256", "--data", tmp_path / "slices.npy", "--out", tmp_path / "p")
    card = read_card(tmp_path / "p")
    # On another patient than those of training, the codec of training is the best of 63.
    assert (card.codec.offset, card.codec.scale) == (0.0, 1000.0)
    assert card.codec_calibration.margin > 0
    assert card.codec_calibration.error < 45  # of noise of 100 HU
    assert card.fit.orientation == "y x"
    assert card.mirrored  # training flipped half of its slices
    assert f"margin {card.codec_calibration.margin:.1%}" in done.stdout
    assert load_prior(tmp_path / "p").card == card
