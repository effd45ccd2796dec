"""A result against a reference: read both, bring the reference onto the result's grid, print or write the figures."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from priors.runtime.errors import InputError
from priors.runtime.output import check_json, emit_json
from recon.data.intervals import IntervalVolume
from recon.data.resample import resample
from recon.data.volume import Volume
from recon.io.volumes.registry import read_volume
from recon.run.checks.nonsense import check_size
from recon.run.outputs import DEVIATION, LOWER, UPPER, result_path
from recon.score.coverage import Spread, coverage
from recon.score.metrics import body_mask
from recon.score.metrics import score as figures_of

GROUPS = ("by_region", "by_hu", "by_reference")
HONESTY = ("coverage_90", "spread_skill")


def score(
    result: Path, reference: Path, *, window_hu: tuple[float, float], mask: str | None, as_json: str | None
) -> None:
    """Compare two files and print the figures, or write them as JSON to a file (``-`` for standard output).

    Raises:
        InputError: see ``score_files``, or the JSON file cannot be written.
    """
    check_json(as_json, [result_path(result), reference])
    figures = score_files(result, reference, window_hu=window_hu, mask=mask)
    if emit_json(figures, as_json):
        return
    for name, value in figures.items():
        if name in GROUPS:
            _print_group(name, value)
        elif name != "reasons":
            why = figures["reasons"].get(name)
            print(f"{name:<20} {f'not defined: {why}' if why else value}")


def _print_group(name: str, group: dict[str, dict[str, float]]) -> None:
    """Print the honesty of intervals by region or HU bin."""
    for part, values in group.items():
        print(
            f"{name:<12} {part:<18} coverage_90 {values['coverage_90']:.3f}  "
            f"spread_skill {values['spread_skill']:.3f}  "
            f"rmse {values['rmse_hu']:.1f} HU  bias {values['bias_hu']:+.1f} HU  {values['voxels']} voxels"
        )


def score_files(
    result: Path, reference: Path, *, window_hu: tuple[float, float], mask: str | None
) -> dict[str, Any]:
    """Compare a result with a reference that is resampled to the result's grid by its geometry.

    Args:
        result: run folder or volume; of a run with ``draws`` the intervals are scored too.
        reference: volume.
        window_hu: see ``recon.score.metrics.score``.
        mask: "body" to compare inside the reference's body only, None for every voxel.

    Raises:
        InputError: a file cannot be read, is not in HU, or the two do not overlap.
    """
    volume, truth = read_result(result), read_volume(reference)
    for path, read in ((result, volume), (reference, truth)):
        if read.unit != "HU":
            raise InputError(f"{path}: found a volume in {read.unit}, expected HU")
        check_size(read.grid, str(path))
    return score_volumes(volume, truth, window_hu=window_hu, mask=mask)


def score_volumes(
    volume: Volume, truth: Volume, *, window_hu: tuple[float, float], mask: str | None
) -> dict[str, Any]:
    """Compare two volumes in HU; see ``score_files``."""
    values = resample(truth, volume)
    figures = figures_of(volume.values, values, window_hu=window_hu, mask=_mask(values, mask))
    if isinstance(volume, IntervalVolume):
        spread = Spread(*(part.values for part in (volume, volume.deviation, volume.lower, volume.upper)))
        try:
            figures |= coverage(spread, values)
        except InputError as why:
            figures |= dict.fromkeys(HONESTY)
            figures["reasons"] |= dict.fromkeys(HONESTY, str(why))
    return figures


def read_result(path: Path) -> Volume:
    """Return the volume of a run folder or file; that of a run with ``draws`` with its intervals.

    Raises:
        InputError: a file cannot be read.
    """
    volume = read_volume(result_path(path))
    drawn = [path / name for name in (DEVIATION, LOWER, UPPER)]
    if not (path.is_dir() and result_path(path) != path and all(file.is_file() for file in drawn)):
        return volume
    deviation, lower, upper = (read_volume(file) for file in drawn)
    return IntervalVolume(
        volume.values, volume.affine, volume.unit, deviation=deviation, lower=lower, upper=upper
    )


def _mask(values: Float[np.ndarray, "z y x"], kind: str | None) -> np.ndarray | None:
    """Return the voxels to compare."""
    if kind is None:
        return None
    if kind != "body":
        raise InputError(f"mask: found '{kind}', expected 'body'")
    return body_mask(np.nan_to_num(values, nan=-1000.0))
