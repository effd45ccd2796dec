"""The spectrum of a known process, and its covariance after noise against the dense Gaussian."""

import pytest
import torch

from priors.gaussian.spectrum import Spectrum, measured_spectrum
from priors.runtime.config import validate
from priors.runtime.errors import InputError

SIZE, DECAY = 8, 0.7


def flat(above: float = 0.0) -> Spectrum:
    """Return white noise in space of variance 2, an autoregression in time."""
    return Spectrum(covariance=((2.0, 1.4, 0.98, 0.686),) * 3, above=above)


def test_the_covariance_of_independent_pixels_is_that_of_each():
    ratio = torch.tensor([0.5, 3.0], dtype=torch.float64)
    spread = flat().spread(ratio, past=0)
    assert spread is not None
    x = torch.randn(2, 2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    c = torch.tensor([[2.0, 1.4], [1.4, 2.0]], dtype=torch.float64)
    v = c - c @ torch.linalg.solve(c + torch.diag(ratio**2), c)
    expected = torch.einsum("fg,bgkyx->bfkyx", v, x.double())
    torch.testing.assert_close(spread(x).double(), expected, rtol=0, atol=1e-5)


def test_it_is_symmetric_and_falls_after_a_clean_frame():
    rows = tuple((1.0 + n, 0.5 + n / 2, 0.2) for n in range(5))
    spectrum, ratio = Spectrum(covariance=rows, above=0), torch.tensor([2.0, 2.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 1, 2, 1, SIZE, SIZE, generator=generator)
    free, tied = spectrum.spread(ratio, past=0), spectrum.spread(ratio, past=1)
    assert free is not None
    assert tied is not None
    assert float((x * free(y)).sum()) == pytest.approx(float((y * free(x)).sum()), rel=1e-4)
    assert 0 < float((x * tied(x)).sum()) < float((x * free(x)).sum())


def test_it_says_nothing_below_its_level():
    assert flat(above=4.0).spread(torch.tensor([3.9, 8.0], dtype=torch.float64), past=0) is None


def test_the_spectrum_of_white_noise_in_space_is_flat_and_decays_in_time():
    generator = torch.Generator().manual_seed(2)
    frames = [torch.randn(64, 1, 16, 16, generator=generator)]
    for _ in range(9):
        fresh = torch.randn(64, 1, 16, 16, generator=generator)
        frames.append(DECAY * frames[-1] + (1 - DECAY**2) ** 0.5 * fresh)
    found = measured_spectrum(torch.stack(frames, 1), lags=3, rows=5, periodic=(True, True))
    table = torch.tensor(found.covariance)
    # One divisor for all lags: lag j has 10 - j pairs. A row holds at least 64 x 10 dependent values.
    expected = torch.tensor([1.0, 0.9 * DECAY, 0.8 * DECAY**2])
    torch.testing.assert_close(table, expected.expand(5, 3), rtol=0, atol=0.15)
    tapered = measured_spectrum(torch.stack(frames, 1), lags=3, rows=5, periodic=(False, False))
    torch.testing.assert_close(torch.tensor(tapered.covariance), expected.expand(5, 3), rtol=0, atol=0.3)


@pytest.mark.parametrize("rows", [((1.0, 0.5), (1.0,)), ((1.0,), (-1.0,)), ((1.0,),)])
def test_a_table_that_is_none_is_refused(rows):
    with pytest.raises(InputError, match="covariance"):
        validate(Spectrum, {"covariance": rows}, source="card.yaml")
