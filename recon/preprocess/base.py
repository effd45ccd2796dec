"""A step of preprocessing: a scan in, the same scan with better line integrals out.

A step is a frozen pydantic model with a literal ``name`` (the tag of the union in this package's ``__init__``).
What it changes in the sinogram no longer follows from counts: ``corrected`` drops them and keeps the weights.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from recon.data.scan import Scan


class Step(BaseModel, ABC):
    """Interface of the family; leaves define ``name`` and ``__call__``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @abstractmethod
    def __call__(self, data: Scan) -> Scan:
        """Return the scan after this step.

        Raises:
            InputError: the step cannot work with this scan.
        """


def corrected(
    data: Scan,
    step: Step,
    sinogram: Float[np.ndarray, "v r c"],
    weights: Float[np.ndarray, "v r c"] | None = None,
    **found: Any,
) -> Scan:
    """Return ``data`` with another sinogram, other weights where given, and the step and what it found recorded."""
    record = {**step.model_dump(mode="json"), **found}
    done = [*data.provenance.get("preprocess", []), record]  # type: ignore[misc]
    return replace(
        data,
        sinogram=sinogram.astype(np.float32),
        weights=data.weights if weights is None else weights.astype(np.float32),
        counts=None,
        exposure=None,
        provenance={**data.provenance, "preprocess": done},
    )
