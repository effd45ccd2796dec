"""The prior's mean one frame ahead of clean frames: the background of the next analysis."""

import numpy as np
import torch
from jaxtyping import Float32

from assimilation.inference.trajectory import TrajectoryModel
from priors.codec import FieldCodec
from priors.diffusion.samplers.sampler import clean_estimate


def one_ahead(
    model: TrajectoryModel, codec: FieldCodec, frames: Float32[np.ndarray, "b f k y x"]
) -> Float32[np.ndarray, "b k y x"]:
    """Return E[next frame | frames] of every trajectory of a batch, in physical units cut to what is possible.

    Args:
        model: the prior's.
        codec: its units.
        frames: one or more, physical, without missing values.
    """
    context = codec.encode(torch.from_numpy(np.ascontiguousarray(frames)))
    window = model.start(len(frames), tuple(frames.shape[2:]), context)
    level = model.noise_levels([1.0])
    # At the highest level the state says nothing: the mean is that given the past alone.
    nothing = torch.zeros(len(frames), 1, *frames.shape[2:], device=model.device, dtype=model.dtype)
    with torch.no_grad():
        clean = clean_estimate(window.past.denoiser(), nothing, level.expand(len(frames), 1))
    mean = codec.clip_to_physical(codec.decode(clean.float()))
    return np.asarray(mean[:, 0].cpu().numpy())
