"""The ensemble of STEPS (pysteps), as its authors' examples set it up."""

import contextlib
import io

import numpy as np

from assimilation.fields.fields import Ensemble, Fields


def steps(start: Fields, times: np.ndarray, members: int, *, seed: int = 24) -> Ensemble:
    """Return the ensemble of STEPS from four frames, motion by Lucas-Kanade on all of them."""
    from pysteps import motion, nowcasts
    from pysteps.utils import transformation

    frames = np.nan_to_num(start.values[0, :, 0].astype(np.float64))
    decibels, _ = transformation.dB_transform(frames, threshold=0.1, zerovalue=-15.0)
    # pysteps prints what it does.
    with contextlib.redirect_stdout(io.StringIO()):
        velocity = motion.get_method("LK")(decibels)
        result = nowcasts.get_method("steps")(
            decibels[-3:],
            velocity,
            times.size,
            n_ens_members=members,
            n_cascade_levels=6,
            precip_thr=-10.0,
            kmperpixel=float(start.grid.spacing[0]),
            timestep=float((times[0] - start.times[-1]) / np.timedelta64(60, "s")),
            noise_method="nonparametric",
            vel_pert_method="bps",
            mask_method="incremental",
            num_workers=1,
            seed=seed,
        )
    rates, _ = transformation.dB_transform(result, threshold=-10.0, inverse=True)
    values = np.nan_to_num(rates).astype(np.float32)[None, :, :, None]
    return Ensemble(values, times, start.variables, start.grid, {})
