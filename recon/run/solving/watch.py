"""A reconstruction against a reference: the error of every step, watched and never used by the method itself."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from recon.data.resample import resample
from recon.data.units import attenuation_to_hu
from recon.data.volume import Volume
from recon.io.volumes.registry import read_volume
from recon.run.problem.pose import Problem
from recon.score.metrics import FULL_WINDOW_HU

Volumes = Float[Tensor, "z y x"]
ERROR = "rmse_hu"
CALLS = "network_calls"
BY_CALLS = "rmse_hu by network calls"


def read_reference(path: Path) -> Volume:
    """Return a volume to compare with.

    Raises:
        InputError: it cannot be read, or is not in HU.
    """
    volume = read_volume(path)
    if volume.unit != "HU":
        raise InputError(f"{path}: found a volume in {volume.unit}, expected HU")
    return volume


class Reference:
    """A volume that a reconstruction is compared with, on its grid and in the window of scores.

    Args:
        problem: whose grid the volume is brought onto.
        volume: in HU.

    Raises:
        InputError: the scan states no attenuation of water, or the two do not overlap.
    """

    def __init__(self, problem: Problem, volume: Volume) -> None:
        if problem.scan.unit != "HU":
            raise InputError(
                f"reference: in HU, but the scan is in {problem.scan.unit}: they cannot be compared"
            )
        grid = problem.grid
        target = Volume(np.zeros(grid.shape, np.float32), problem.scan.affine(grid), "HU", grid=grid)
        values = torch.from_numpy(resample(volume, target))
        self._present = values.isfinite()
        self._truth = values[self._present].clamp(*FULL_WINDOW_HU)
        self._mu_water = problem.scan.mu_water

    def difference(self, attenuation: Volumes) -> Float[Tensor, " voxel"]:
        """Return an estimate in 1/mm minus the reference in HU, where there is one, both clipped to the window."""
        values = attenuation_to_hu(attenuation.detach().cpu(), self._mu_water)[self._present]
        return values.clamp(*FULL_WINDOW_HU) - self._truth

    def slope(self, attenuation: Volumes) -> Volumes:
        """Return the gradient of the mean of squared `difference` by an estimate in 1/mm."""
        values = attenuation_to_hu(attenuation.detach().cpu(), self._mu_water)
        low, high = FULL_WINDOW_HU
        counted = self._present & (values > low) & (values < high)
        slope = torch.zeros_like(values)
        slope[self._present] = 2 * self.difference(attenuation) / self._truth.numel()
        # 1 / mu_water is one unit of attenuation in thousands of HU.
        return torch.where(counted, slope, 0.0) * (1000 / self._mu_water)

    def watch(self, attenuation: Volumes) -> dict[str, float]:
        """Return the root mean square error of an estimate, see `recon.reconstructors.base.RunContext`."""
        return {ERROR: float(self.difference(attenuation).square().mean(dtype=torch.float64).sqrt())}


def by_calls(curves: dict[str, list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the error against network calls spent by then, empty where either was not recorded."""
    if ERROR not in curves or CALLS not in curves:
        return []
    spent = dict(
        zip((step for step, _ in curves[CALLS]), np.cumsum([n for _, n in curves[CALLS]]), strict=True)
    )
    return [(float(spent[step]), error) for step, error in curves[ERROR] if step in spent]
