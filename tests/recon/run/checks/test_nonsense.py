"""What a finished volume is refused for."""

import numpy as np
import pytest

from priors.runtime.errors import InputError
from priors.runtime.files.permissions import permitted
from recon.data.volume import Volume
from recon.run.checks.nonsense import check_result

FIT = {"chi2_per_ray": 1.0, "relative_residual": 0.01, "method": "tv"}


def test_a_constant_volume_is_refused_unless_forced(capsys):
    flat = Volume(np.full((2, 3, 4), -1000.0, np.float32), np.eye(4), "HU")
    with pytest.raises(InputError, match=r"every voxel is -1000 HU.*--force"):
        check_result(flat, FIT)
    with permitted(nonsense=True):
        check_result(flat, FIT)
    assert "--force" in capsys.readouterr().err
    values = flat.values.copy()
    values[0, 0, 0] = 0.0
    check_result(Volume(values, np.eye(4), "HU"), FIT)
    with pytest.raises(InputError, match="chi2 per ray 5000"):
        check_result(
            Volume(values, np.eye(4), "HU"), {**FIT, "chi2_per_ray": 5000.0, "relative_residual": 0.2}
        )
    # Backprojection of a limited arc and iterations of a scan of a very high dose are honest.
    for honest in (
        {"chi2_per_ray": 2e4, "relative_residual": 0.8, "method": "fbp"},
        {"chi2_per_ray": 1e6, "relative_residual": 0.05, "method": "tv"},
    ):
        check_result(Volume(values, np.eye(4), "HU"), honest)
    values[0, 0, 1] = np.inf
    with permitted(nonsense=True), pytest.raises(InputError, match="overflow"):
        check_result(Volume(values, np.eye(4), "HU"), FIT)
