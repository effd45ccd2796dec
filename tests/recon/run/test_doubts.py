"""What a finished volume is refused or doubted for."""

import numpy as np
import pytest

from priors.runtime.errors import InputError
from priors.runtime.files.permissions import permitted
from recon.data.volume import Volume
from recon.run.doubts import require_an_object


def test_a_constant_volume_is_refused_unless_forced(capsys):
    flat = Volume(np.full((2, 3, 4), -1000.0, np.float32), np.eye(4), "HU")
    with pytest.raises(InputError, match=r"every voxel is -1000 HU.*--force"):
        require_an_object(flat)
    with permitted(nonsense=True):
        require_an_object(flat)
    assert "--force" in capsys.readouterr().err
    values = flat.values.copy()
    values[0, 0, 0] = 0.0
    require_an_object(Volume(values, np.eye(4), "HU"))
