"""The exact reference against ``tv``, against a dense solution, and at its limits."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.projector import Projector
from recon.reconstructors import TV, Exact
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.exact import MOST_VOXELS, matrix_of

VOLUME = Grid((2, 8, 8), (2.0, 1.5, 1.5))


def scanned(views: int = 8) -> tuple[Projector, Measurement]:
    projector = Projector(Parallel(views=views).fit(VOLUME).geometry(), VOLUME, backend="reference")
    truth = torch.zeros(VOLUME.shape)
    truth[:, 2:6, 3:7] = 0.02
    weights = 1e4 * torch.exp(-projector(truth))
    noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)) / weights.sqrt()
    return projector, Measurement(projector(truth) + noise, weights)


@pytest.mark.parametrize("coupling", [1.5, 0.0])
def test_tv_approaches_it_and_never_goes_below(coupling: float) -> None:
    projector, measurement = scanned()
    exact = Exact(slice_coupling=coupling)
    x = exact(measurement, projector, RunContext())
    assert float(x.min()) >= 0
    objective = exact.objective().problem(measurement, projector).objective
    approached = TV(slice_coupling=coupling, iterations=800, tolerance=0)(
        measurement, projector, RunContext()
    )
    # The minimum to float32's rounding of a sum of 10^3 terms, and from below.
    assert objective(approached) == pytest.approx(objective(x), rel=1e-4)
    assert objective(x) < objective(approached) * (1 + 1e-5)
    assert float((approached - x).norm() / x.norm()) < 0.01


def test_without_a_penalty_it_is_non_negative_least_squares() -> None:
    projector, measurement = scanned(views=24)
    a = matrix_of(projector).toarray()
    root = measurement.weights.reshape(-1).double().sqrt().numpy()
    y = measurement.sinogram.reshape(-1).double().numpy()
    _, norm = nnls(root[:, None] * a, root * y)
    x = Exact(weight=1e-9)(measurement, projector, RunContext()).reshape(-1).double().numpy()
    # The penalty's share of the objective, and float32's rounding of x.
    assert float(np.linalg.norm(root * (a @ x - y))) == pytest.approx(norm, rel=1e-4)


def test_a_large_problem_is_refused_in_one_line() -> None:
    large = Grid((1, 128, 128), (2.0, 1.5, 1.5))
    geometry = Parallel(views=4).fit(large).geometry()
    with pytest.raises(InputError, match=f"16384 voxels .* at most {MOST_VOXELS}") as refusal:
        Exact().plan(large, geometry)
    assert "\n" not in str(refusal.value)
