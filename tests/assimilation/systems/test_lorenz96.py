"""Lorenz-96: conserved energy, order of the scheme, growth of errors, climate."""

import itertools

import pytest
import torch

from assimilation.systems.base import simulate
from assimilation.systems.lorenz96 import Lorenz96


def climate(count: int = 4) -> torch.Tensor:
    return Lorenz96().initial(count, torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_quadratic_terms_conserve_energy():
    x = climate()
    free = Lorenz96(forcing=0.0)
    rate = (x * (free.slope(x) + x)).sum(-1)
    # Sums of 40 products of size 10^2 in float64.
    assert rate.abs().max() < 1e-10 * (x.abs() ** 3).sum(-1).max()


def test_the_terms_are_the_formula():
    x = climate(1)[0, 0, 0]
    n = len(x)
    for i in range(n):
        rate = (x[(i + 1) % n] - x[i - 2]) * x[i - 1] - x[i] + 8
        assert Lorenz96().slope(x)[i] == pytest.approx(float(rate), rel=1e-12)


def test_halving_the_step_divides_the_error_by_sixteen():
    x, draw = climate(8), torch.Generator()
    fine = Lorenz96(frame=0.2, time_step=0.2 / 256).step(x, draw)
    errors = [
        float((Lorenz96(frame=0.2, time_step=0.2 / count).step(x, draw) - fine).norm())
        for count in (8, 16, 32)
    ]
    for coarse, finer in itertools.pairwise(errors):
        assert coarse / finer == pytest.approx(16, rel=0.2)


def test_errors_grow_with_the_published_exponent():
    system, draw = Lorenz96(), torch.Generator()
    x = climate(8)
    size = 1e-7
    other = x + size * torch.nn.functional.normalize(x, dim=-1)
    growth, steps = [], 1000
    for _ in range(steps):
        x, other = system.step(x, draw), system.step(other, draw)
        gap = (other - x).norm(dim=-1, keepdim=True)
        growth.append(torch.log(gap / size).mean())
        other = x + (other - x) * size / gap
    exponent = float(torch.stack(growth[200:]).mean()) / system.frame
    # 1.67 to 1.69 in the literature; 8 trajectories over 40 units of time leave a few percent.
    assert exponent == pytest.approx(1.68, rel=0.06)


def test_the_climate_has_the_known_mean_and_deviation():
    fields = simulate(Lorenz96(), trajectories=16, frames=200, seed=1)
    # 2.34 and 3.64 (for instance in DAPPER's documentation); 16 trajectories of 10 units of time.
    assert fields.values.mean() == pytest.approx(2.34, abs=0.12)
    assert fields.values.std() == pytest.approx(3.64, abs=0.08)
