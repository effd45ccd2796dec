"""Draws: their sums are those of the single reconstructions, and an interrupted ensemble continues to the same bits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from priors.card import Prior, card_of_prior
from priors.runtime.errors import InputError
from recon.ensembles.draws import draw
from recon.ensembles.moments import Moments
from recon.ensembles.null_space import null_space_share
from recon.reconstructors import NerdFast, PnPHQS
from recon.reconstructors.base import RunContext, StepRecord
from recon.reconstructors.checkpoint import Checkpoint
from recon.reconstructors.diffusion.nerd.nerd import CgStage
from tests.support.recon.small_diffusion import (
    dense,
    gaussian_denoiser,
    make_problem,
    measured,
    small_projector,
)

SEED, DRAWS, LEVELS = 5, 3, 4


@pytest.fixture(scope="module")
def method() -> NerdFast:
    prior = Prior.assembled(gaussian_denoiser(), card_of_prior("ct-chest-256"))
    return NerdFast(prior=prior, fast=CgStage(levels=LEVELS, start_hu=500.0, stop_hu=50.0))


def test_moments_are_those_of_the_stacked_volumes() -> None:
    volumes = 1000 + torch.randn(7, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    moments = Moments.empty(volumes[0])
    for x in volumes:
        moments = moments.add(x)
    # Values of 1000 in float32 are rounded to 6e-5.
    torch.testing.assert_close(moments.mean, volumes.mean(0), rtol=0, atol=2e-4)
    torch.testing.assert_close(moments.variance(), volumes.var(0), rtol=0, atol=1e-3)


def test_draws_are_the_reconstructions_with_the_next_seeds(method: NerdFast) -> None:
    projector = small_projector()
    measurement = measured(projector)[0]
    records: list[StepRecord] = []
    context = RunContext(SEED, on_step=records.append)
    drawn = draw(method, measurement, projector, context, DRAWS)
    single = torch.stack(
        [method(measurement, projector, RunContext(SEED + number)) for number in range(DRAWS)]
    )
    # Sums of three in float32, in another order.
    torch.testing.assert_close(drawn.moments.mean, single.mean(0), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(drawn.moments.variance(), single.var(0), rtol=1e-3, atol=1e-10)
    torch.testing.assert_close(drawn.difference, single[2] - single[:2].mean(0), rtol=1e-4, atol=1e-8)
    assert [record.iteration for record in records] == list(range(1, DRAWS * LEVELS + 1))
    assert {record.total for record in records} == {DRAWS * LEVELS}


# In the first draw, right after a draw has ended, and inside the last one.
@pytest.mark.parametrize("stop", [2, LEVELS, 2 * LEVELS + 3])
def test_an_interrupted_ensemble_continues_to_the_same_bits(
    method: NerdFast, stop: int, tmp_path: Path
) -> None:
    projector = small_projector()
    measurement = measured(projector)[0]
    whole = draw(method, measurement, projector, RunContext(SEED), DRAWS)

    def interrupt(record: StepRecord) -> None:
        if record.iteration == stop:
            raise KeyboardInterrupt

    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        draw(
            method, measurement, projector, RunContext(SEED, Checkpoint(path, every_s=0.0), interrupt), DRAWS
        )
    seen: list[StepRecord] = []
    again = RunContext(SEED, Checkpoint(path, resume=True, every_s=0.0), seen.append)
    resumed = draw(method, measurement, projector, again, DRAWS)
    assert seen[0].iteration == stop + 1
    for name in ("mean", "squares"):
        assert torch.equal(getattr(resumed.moments, name), getattr(whole.moments, name))
    assert torch.equal(resumed.difference, whole.difference)
    assert resumed.chi2 == whole.chi2


def test_sums_of_another_seed_are_refused(method: NerdFast, tmp_path: Path) -> None:
    projector = small_projector()
    measurement = measured(projector)[0]
    path = tmp_path / "state.pt"
    draw(method, measurement, projector, RunContext(SEED, Checkpoint(path)), 2)
    with pytest.raises(InputError, match="other settings, data, grid, seed or prior"):
        draw(method, measurement, projector, RunContext(SEED + 1, Checkpoint(path, resume=True)), 2)


def test_a_method_without_noise_has_no_draws(method: NerdFast) -> None:
    projector = small_projector()
    with pytest.raises(InputError, match="draws no noise"):
        draw(PnPHQS(prior=method.prior), measured(projector)[0], projector, RunContext(SEED), 2)


def test_the_share_in_the_null_space_is_that_of_the_dense_projection() -> None:
    from recon.reconstructors.diffusion.coupling import AdmmCoupling

    problem = make_problem(gaussian_denoiser(), AdmmCoupling(rho=0))
    matrix = dense(problem)
    x = torch.randn(problem.data.projector.domain, generator=torch.Generator().manual_seed(1))
    flat = x.flatten().double().numpy()
    unseen = flat - np.linalg.pinv(matrix, rcond=1e-6) @ (matrix @ flat)
    expected = float(unseen @ unseen / (flat @ flat))
    # CG stops at a residual of 1e-4: directions of small singular values still count as unseen.
    assert null_space_share(x, problem.data.projector, iterations=200) == pytest.approx(expected, abs=8e-3)
    assert 0.05 < expected < 0.95
