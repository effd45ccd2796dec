"""The correlation by displacement against a process that has one, and against pairs counted by hand."""

import numpy as np
import torch

from priors.gaussian.stationary import space_time_correlation, stationary_correlation


def test_pairs_by_hand_with_missing_values():
    draw = torch.Generator().manual_seed(0)
    fields = torch.randn(4, 1, 3, 5, generator=draw, dtype=torch.float64)
    fields[torch.rand(fields.shape, generator=draw) < 0.2] = float("nan")
    found = stationary_correlation(fields)
    z = fields.numpy()[:, 0]
    rho = np.zeros((6, 10))
    for dy in range(-2, 3):
        for dx in range(-4, 5):
            pairs = [
                z[n, y, x] * z[n, y + dy, x + dx]
                for n in range(4)
                for y in range(3)
                for x in range(5)
                if 0 <= y + dy < 3 and 0 <= x + dx < 5
            ]
            taper = 0.25 * (1 + np.cos(np.pi * dy / 3)) * (1 + np.cos(np.pi * dx / 5))
            rho[dy, dx] = taper * np.nanmean(pairs)
    spectrum = np.fft.rfft2(rho).real.clip(min=0)
    rho = np.fft.irfft2(spectrum, s=(6, 10))
    np.testing.assert_allclose(found.by_displacement()[0].numpy(), rho / rho[0, 0], atol=1e-12)


def test_a_known_process_on_a_torus_is_recovered():
    rows, columns = torch.fft.fftfreq(16, 1 / 16).double(), torch.fft.rfftfreq(16, 1 / 16).double()
    spectrum = torch.exp(-(rows[:, None] ** 2 + columns**2) / 8)
    white = torch.randn(4000, 1, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fields = torch.fft.irfft2(torch.fft.rfft2(white) * spectrum.sqrt(), s=(16, 16))
    fields = fields / fields.std()
    found = stationary_correlation(fields, periodic=(True, True)).by_displacement()[0]
    exact = torch.fft.irfft2(spectrum, s=(16, 16))
    # 4000 fields of about 8 independent patches each: a deviation of 1 / sqrt(32000) = 0.006, four times that.
    torch.testing.assert_close(found, exact / exact[0, 0], atol=0.024, rtol=0)


def test_the_matrix_is_a_correlation():
    fields = torch.randn(5, 2, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    matrix = stationary_correlation(fields).matrix(4, 3)
    torch.testing.assert_close(matrix, matrix.T)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(24, dtype=torch.float64))
    assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-9
    assert (matrix[:12, 12:] == 0).all()


def test_draws_of_several_frames_have_the_covariance_of_a_drift():
    # Noise that moves one point to the right a frame: frame 1 at x is frame 0 at x - 1.
    first = torch.randn(3000, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fields = torch.cat([first, first.roll(1, -1)], 1)
    found = space_time_correlation(fields, frames=2, periodic=(True, True))
    unit = torch.eye(8, dtype=torch.float64).reshape(8, 1, 1, 8)
    # 3000 samples of 8 points: a deviation of 0.006 per entry.
    torch.testing.assert_close(found.apply(unit, 1, 0), unit.roll(1, -1), atol=0.03, rtol=0)
    torch.testing.assert_close(found.apply(unit, 0, 1), unit.roll(-1, -1), atol=0.03, rtol=0)
    draws = found.draw(4000, (1, 8), torch.Generator().manual_seed(1))
    assert float((draws[:, 1] - draws[:, 0].roll(1, -1)).square().mean()) < 0.02
