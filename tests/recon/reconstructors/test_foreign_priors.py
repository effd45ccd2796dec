"""An imported prior behind a reconstruction: chunks, mirror images and gradients are those of the whole volume."""

import pytest
import torch

from priors.adapters.foreign import Told
from priors.adapters.importing import assembled
from priors.adapters.registry import read_checkpoint
from priors.diffusion.samplers.sampler import clean_estimate
from recon.reconstructors.diffusion.coupling import AdmmCoupling
from tests.priors.adapters import test_monai
from tests.support.priors.edm_network import EdmReference, edm_pickle
from tests.support.priors.foreign import relative
from tests.support.recon.small_diffusion import SIDE, SLICES, make_problem

LEVEL = 0.4
EQUAL = 1e-6
EDM = {"sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5}


def told(**more) -> Told:
    return Told(**{"offset": 0.0, "scale": 1000.0, "unit": "HU", "size": 8, **more})


def monai(folder, **more):
    """A network in two dimensions, grey, in colour or over neighbours, that pads 6 x 6 to its 8 x 8."""
    channels = {"rgb": 3, "neighbours": 3}.get(more.get("channels"), 1)
    module = test_monai.network(
        in_channels=channels, out_channels=1 if "neighbours" in more.values() else channels
    )
    torch.save(module.state_dict(), folder / "model.pt")
    return folder / "model.pt", told(head_width=8, groups=4, **more)


def block(folder):
    definition = {**test_monai.NETWORK, "spatial_dims": 3, "channels": [4, 8], "num_head_channels": 4}
    source = test_monai.bundle(folder / "b", test_monai.network(**definition), definition=definition)
    return source, told(slices=2)


def edm(folder):
    """A network of 4 x 4 that sees windows of 6 x 6."""
    network = EdmReference("SongUNet", side=4, model_channels=8, channel_mult=[1, 2], attn_resolutions=[2])
    (folder / "c.pkl").write_bytes(edm_pickle(network, attributes=EDM))
    return folder / "c.pkl", told(size=None)


CASES = {
    "grey": monai,
    "colour": lambda folder: monai(folder, channels="rgb"),
    "neighbours": lambda folder: monai(folder, channels="neighbours"),
    "block": block,
    "edm windows": edm,
}


@pytest.mark.parametrize("case", CASES)
def test_chunked_mirrored_and_differentiated(case, tmp_path):
    source, what = CASES[case](tmp_path)
    prior = assembled(read_checkpoint(source, what), what, source)
    assert prior.card.fit.channels == (
        "grey" if case == "edm windows" else "rgb" if case == "colour" else case
    )
    draw = torch.Generator().manual_seed(1)
    u, cotangent = (torch.randn(SLICES, SIDE, SIDE, generator=draw) for _ in range(2))
    whole, single = (make_problem(prior.denoiser, AdmmCoupling(rho=0), chunk=n) for n in (9, 1))
    estimate, pulled = whole.denoise(u, LEVEL), whole.vjp(u, cotangent, LEVEL)
    assert relative(single.denoise(u, LEVEL), estimate) < EQUAL
    assert relative(single.vjp(u, cotangent, LEVEL), pulled) < EQUAL
    assert relative(pulled, autograd(prior.denoiser, u, cotangent)) < EQUAL
    single.mirrored = True
    assert relative(single.denoise(u, LEVEL), whole.denoise(u.flip(-1), LEVEL).flip(-1)) < EQUAL
    mirrored = whole.vjp(u.flip(-1), cotangent.flip(-1), LEVEL).flip(-1)
    assert relative(single.vjp(u, cotangent, LEVEL), mirrored) < EQUAL
    # A network with weights: the estimate is neither the state nor its own mirror image's.
    assert relative(estimate, u) > 0.01
    assert relative(single.denoise(u, LEVEL), estimate) > 1e-3


def autograd(denoiser, u, cotangent):
    """Return the gradient of <cotangent, E[x | u]> through windows of the volume, all in one graph."""
    slabs, leaf = denoiser.slabs(len(u)), u.clone().requires_grad_(True)
    answers = clean_estimate(denoiser, leaf[slabs.held], LEVEL)
    weighted = slabs.weight[..., None, None] * answers
    volume = torch.zeros_like(u).index_add(0, slabs.answered.flatten(), weighted.flatten(0, 1))
    return torch.autograd.grad((volume * cotangent).sum(), leaf)[0]
