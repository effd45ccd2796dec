"""The peak of a job, not of the process it runs in."""

import numpy as np
import pytest

from priors.runtime.system.peak import CLEAR, STATUS, peak_bytes, reset_peak, resident_bytes


@pytest.mark.skipif(not (STATUS.exists() and CLEAR.exists()), reason="needs procfs")
def test_the_peak_begins_anew():
    large, small = 400 << 20, 100 << 20
    reset_peak()
    before = resident_bytes()
    held = np.ones(large, np.uint8)
    assert peak_bytes() >= before + 0.95 * large
    del held
    reset_peak()
    assert peak_bytes() < before + 0.5 * large
    held = np.ones(small, np.uint8)
    # Half of the first job would already be more than this.
    assert 0.9 * small < peak_bytes() - before < 1.5 * small
    del held
