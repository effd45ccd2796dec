"""Calibration finds the codec a prior was trained with, of one slice and of several, and refuses what tells none."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tomocast as tc
from priors.adapters.calibrate import measure, reference_slices
from priors.runtime.errors import InputError


class Shrink(torch.nn.Module):
    """The exact denoiser of independent values of deviation 0.8: its error is least for values of that deviation."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(share), requires_grad=False)

    def forward(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        variance = torch.exp(2 * told).reshape(-1, *(1,) * (x.ndim - 1))
        shrunk = 0.64 / (0.64 + variance) * x
        return self.share * shrunk + (1 - self.share) * x


def prior_of(fit: dict, share: float = 1.0) -> tc.Prior:
    """Return a prior whose card states another codec than that of its denoiser, 0 and 100."""
    with pytest.warns(UserWarning, match="no self-test record"):
        return tc.Prior(
            Shrink(share),
            schedule="edm",
            parametrisation="clean",
            codec=(40.0, 200.0),
            fit=fit,
            conditioning="log-ratio",
        )


def slices_of(folder: Path, prior: tc.Prior) -> torch.Tensor:
    """Return slices of independent values of deviation 80, of which the denoiser's codec makes 0.8."""
    np.save(folder / "slices.npy", np.random.default_rng(0).normal(0, 80, (8, 32, 32)).astype(np.float32))
    return reference_slices(folder / "slices.npy", 4, prior)


@pytest.mark.parametrize(
    "fit",
    [{}, {"channels": "neighbours", "slices": 3}, {"channels": "block", "slices": 2}],
    ids=["slices", "neighbours", "blocks"],
)
def test_the_codec_of_the_denoiser_is_found(tmp_path: Path, fit: dict) -> None:
    prior = prior_of(fit)
    slices = slices_of(tmp_path, prior)
    assert slices.shape == (4, fit.get("slices", 1), 32, 32)
    found = measure(prior, slices, data="slices.npy", on_step=lambda done, total: None)
    assert (found.codec.offset, found.codec.scale) == (0.0, 100.0)
    # What is left of noise s by the best estimate of values of deviation v is v s / sqrt(v^2 + s^2): 62.5.
    assert found.record.error == pytest.approx(62.5, rel=0.03)
    assert found.record.margin > 0
    assert found.mirrored


def test_a_network_that_denoises_nothing_tells_no_codec(tmp_path: Path) -> None:
    prior = prior_of({}, share=0.0)
    with pytest.raises(InputError, match=r"leaves an error of .* HU where the noise was 100.*left as it was"):
        measure(prior, slices_of(tmp_path, prior), data="", on_step=lambda done, total: None)
