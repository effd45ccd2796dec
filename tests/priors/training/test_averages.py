"""Averages made after training: stored profiles exactly, a random walk closely, a real run as a prior."""

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from priors.card import load_prior
from priors.training.averages import combination, inner, snapshots_of
from priors.training.configuration.settings import Average
from priors.training.engine.average import WeightAverage, exponent
from tests.support.command_line import inside, mistake


def profile(t, step, g):
    return (g + 1) * t**g / step ** (g + 1)


def test_inner_products_are_the_integrals():
    for a, b in [((10, 5.0), (10, 2.0)), ((10, 5.0), (30, 16.9)), ((40, 3.0), (7, 9.0))]:
        integral = quad(lambda t, a=a, b=b: profile(t, *a) * profile(t, *b), 0, min(a[0], b[0]))[0]
        assert inner(a, b) == pytest.approx(integral, rel=1e-6)
        assert inner(a, b) == pytest.approx(inner(b, a))


def test_a_stored_profile_is_found_exactly():
    known = [(step, exponent(length)) for step in (100, 200, 300) for length in (0.05, 0.1)]
    weights, distance = combination(known, known[-1])
    assert weights == pytest.approx([0, 0, 0, 0, 0, 1], abs=1e-6)
    assert distance < 1e-5


def test_the_average_of_a_random_walk_is_reconstructed_to_a_percent():
    generator = torch.Generator().manual_seed(0)
    walker = nn.Linear(1, 50, bias=False).double()
    walker.weight.data.zero_()
    lengths = (0.05, 0.10, 0.07)
    averages = [
        WeightAverage(walker, decay=0.9, settings=Average(kind="power", length=length)) for length in lengths
    ]
    known, kept = [], []
    for step in range(1, 2001):
        walker.weight.data += 0.1 * torch.randn(walker.weight.shape, generator=generator, dtype=torch.float64)
        for each in averages:
            each.update(walker, step - 1)
        if step % 200 == 0:
            for each, length in zip(averages[:2], lengths[:2], strict=True):
                known.append((step, exponent(length)))
                kept.append(each.module.weight.clone())
    weights, distance = combination(known, (2000, exponent(0.07)))
    found = sum(float(w) * value for w, value in zip(weights, kept, strict=True))
    truth = averages[2].module.weight
    # The walk itself has moved on from its average by far more than that.
    assert float((found - truth).norm()) < 0.01 * float(truth.norm())
    assert float((walker.weight.detach() - truth).norm()) > 0.1 * float(truth.norm())
    assert distance < 0.05


def test_a_run_is_averaged_over_another_length(small_run, tmp_path):
    run = small_run[1]
    found = snapshots_of(run)
    assert [step for _, (step, _) in found] == [20, 20, 40, 40, 60, 60, 80, 80]
    inside("average", run, "--length", 0.08, "--out", tmp_path / "prior")
    made = load_prior(tmp_path / "prior")
    assert "averaged over 0.08" in made.card.training
    assert made.card.held_out_psnr == {}
    x, t = torch.zeros(1, 1, 32, 32), torch.tensor([0.5])
    assert bool(torch.isfinite(made.denoiser(x, t)).all())
    assert "holds no prior" in mistake(
        "average", tmp_path / "prior", "--length", 0.08, "--out", tmp_path / "x"
    )
    assert "equal weights" in mistake("average", run, "--length", 0.5, "--out", tmp_path / "y")
    assert not (tmp_path / "y").exists()
