"""Modes and covariances of a process made of known ones."""

import pytest
import torch

from priors.gaussian.eigenmodes import eigenmodes
from priors.gaussian.modes import in_time
from priors.runtime.errors import InputError

SHAPE, FRAMES = (1, 4, 6), 4000
DECAYS, DEVIATIONS = (0.95, 0.5), (3.0, 1.5)


def made() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a trajectory of two modes about a mean of 5, and the modes."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(24, 2, generator=generator, dtype=torch.float64))[0].T
    states = [torch.randn(2, generator=generator, dtype=torch.float64)]
    decay = torch.tensor(DECAYS, dtype=torch.float64)
    for _ in range(FRAMES - 1):
        fresh = torch.randn(2, generator=generator, dtype=torch.float64)
        states.append(decay * states[-1] + (1 - decay**2).sqrt() * fresh)
    series = torch.stack(states) * torch.tensor(DEVIATIONS, dtype=torch.float64) @ basis
    return 5 + series.reshape(FRAMES, *SHAPE), basis


def test_modes_mean_and_covariances_are_found():
    trajectory, basis = made()
    found = eigenmodes([trajectory[:2000], trajectory[2000:]], modes=2, lags=3, mixing=0.0)
    # 4000 frames with memories of 20 and 2 frames: about 100 independent ones for the slower mode.
    assert float((found.mean - 5).abs().max()) < 1.0
    overlap = (found.basis @ basis.T).abs().diagonal()
    assert float(overlap.min()) > 0.98
    for row, decay, deviation in zip(found.table, DECAYS, DEVIATIONS, strict=False):
        assert float(row[0]) == pytest.approx(deviation**2, rel=0.3)
        assert float(row[1] / row[0]) == pytest.approx(decay, abs=0.05)
    # Nothing is left of a pixel.
    assert float(found.table[2, 0]) < 1e-9


def test_a_constant_added_to_windows_is_in_the_covariance_and_never_decays():
    trajectory, _ = made()
    plain, shifted = (eigenmodes([trajectory], modes=24, lags=40, shift=s) for s in ((), (2.0,)))
    added = [
        torch.einsum("m,mp,mq->pq", one.table[:-1, 39], one.basis, one.basis).mean()
        for one in (plain, shifted)
    ]
    assert float(added[1] - added[0]) == pytest.approx(4.0, rel=0.05)


def test_every_covariance_in_time_is_positive_semi_definite_and_mixing_keeps_the_variance():
    trajectory, _ = made()
    for mixing in (0.0, 0.5, 1.0):
        found = eigenmodes([trajectory[:60]], modes=10, lags=47, mixing=mixing)
        times = in_time(found.table, 47)
        assert float(torch.linalg.eigvalsh(times).min()) > -1e-9 * float(found.table.max())
        total = found.table[:-1, 0].sum() + 14 * found.table[-1, 0]
        expected = (trajectory[:60] - trajectory[:60].mean(0)).square().mean(0).sum()
        assert float(total) == pytest.approx(float(expected), rel=1e-6)


def test_missing_values_are_refused():
    trajectory = made()[0][:50].clone()
    trajectory[3] = torch.nan
    with pytest.raises(InputError, match="missing values"):
        eigenmodes([trajectory], modes=2, lags=3)
