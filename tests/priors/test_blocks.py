"""Block means against loops."""

import numpy as np
import pytest

from priors.blocks import block_means


@pytest.mark.parametrize("factors", [(2, 3), (1, 1), (4, 4), (2, 2, 2)])
@pytest.mark.parametrize("least", [0.0, 0.5])
def test_every_block_is_the_mean_of_its_finite_cells(factors, least):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 2, 6, 9)).astype(np.float32)
    values[rng.random(values.shape) < 0.5] = np.nan
    means, counts = block_means(values, factors, least=least)
    leading = values.ndim - len(factors)
    assert means.shape == (
        *values.shape[:leading],
        *(n // f for n, f in zip(values.shape[leading:], factors, strict=True)),
    )
    for index in np.ndindex(means.shape):
        at = [slice(i * f, (i + 1) * f) for i, f in zip(index[leading:], factors, strict=True)]
        cells = values[(*index[:leading], *at)]
        known = cells[np.isfinite(cells)]
        assert counts[index] == known.size
        if known.size == 0 or known.size < least * cells.size:
            assert np.isnan(means[index])
        else:
            assert means[index] == np.float32(known.astype(np.float64).mean())
    assert means.dtype == np.float32
