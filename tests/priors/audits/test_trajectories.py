"""Audits of priors of trajectories: crops found wherever they come from, and a prior that can only copy is caught."""

import numpy as np
import pytest
import torch

from priors.audits.audit import Extent, audit_against, audit_data
from priors.card import Prior, card_of_prior
from priors.codec import FieldCodec
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.parametrisation import Velocity
from priors.training.memorisation.anywhere import nearest_anywhere
from tests.support.priors.small_trajectories import SIZE, waves, write_data

FRAMES = 5
EXTENT = Extent(samples=12, steps=12, slices=6, noises=2, flow_steps=4)


def test_a_crop_is_found_where_it_came_from():
    generator = np.random.default_rng(0)
    fields, crops = generator.standard_normal((3, 14, 11)), generator.standard_normal((4, 6, 5))
    crops[2] = fields[1, 3:9, 4:9]
    every = np.lib.stride_tricks.sliding_window_view(fields, (6, 5), (1, 2))
    expected = [np.sqrt(((every - crop) ** 2).mean((-2, -1)).min()) for crop in crops]
    np.testing.assert_allclose(nearest_anywhere(crops, fields), expected, atol=1e-7)
    assert expected[2] == 0


class Kernel(torch.nn.Module):
    """The velocity of the best denoiser of a few windows: it knows nothing but these."""

    def __init__(self, windows: torch.Tensor, spread: float) -> None:
        super().__init__()
        self.windows, self.spread = windows, spread
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x_t, told, **_):
        raise NotImplementedError


class Copier(NetworkDenoiser):
    """E[x | x_t] of windows with a Gaussian of some deviation around each; frames may differ in level."""

    def __init__(self, windows: torch.Tensor, *, spread: float) -> None:
        super().__init__(
            Kernel(windows, spread),
            schedule=card_of_prior("ns-vorticity-64").schedule,
            parametrisation=Velocity(),
            reduced=False,
        )

    def forward(self, x_t, t):
        levels = self.schedule.ratio(t if t.ndim == 2 else t[:, None].expand(x_t.shape[:2])).float()
        alpha = self.schedule(t if t.ndim == 2 else t[:, None].expand(x_t.shape[:2]))[0].float()
        s2, v = levels[..., None, None, None] ** 2, self.network.spread**2
        u = x_t / alpha[..., None, None, None]
        away = (u[:, None] - self.network.windows[None]) ** 2 / (2 * (s2[:, None] + v))
        weights = torch.softmax(-away.flatten(2).double().sum(2), dim=1).float()
        near = torch.einsum("bn,nfkyx->bfkyx", weights, self.network.windows)
        return near + v / (v + s2) * (u - near)


def prior_of(windows: torch.Tensor, spread: float) -> Prior:
    card = card_of_prior("ns-vorticity-64")
    assert card.trajectory is not None
    variable = {"name": "height", "unit": "m", "offset": 0.0, "scale": 6.0, "low": -20.0, "high": 20.0}
    card = card.model_copy(
        update={
            "shape": (SIZE, SIZE),
            "trajectory": card.trajectory.model_copy(update={"frames": FRAMES, "spectrum": None}),
            "codec": FieldCodec.model_validate({"variables": [variable]}),
        }
    )
    return Prior.assembled(Copier(windows, spread=spread), card)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "waves")


def windows_of(folder, name: str) -> torch.Tensor:
    values = np.load(folder / f"{name}.npy")
    every = np.concatenate([values[:, first : first + FRAMES] for first in range(4)])
    return torch.from_numpy(np.nan_to_num(every / 6).astype(np.float32))


def test_a_prior_that_can_only_copy_its_trajectories_is_caught(folder):
    rows = audit_data(prior_of(windows_of(folder, "train"), 0.02), folder, EXTENT, lambda _: None)
    found = {each.audit: each for each in rows}
    assert set(found) == {"gap", "copying"}
    assert found["gap"].verdict == "suspect"
    assert found["copying"].verdict == "suspect"
    assert found["copying"].figures["share_below"] == 1.0


def test_a_prior_of_other_trajectories_is_not(folder):
    # 400 other trajectories, smeared out: either split lies as far from them.
    others = torch.from_numpy(waves(7, 400, FRAMES) / 6)
    rows = audit_data(prior_of(others, 0.6), folder, EXTENT, lambda _: None)
    assert [each.verdict for each in rows] == ["ok", "ok"]


def test_the_distance_of_flows_is_of_windows(folder):
    first, second = (prior_of(windows_of(folder, name), 0.1) for name in ("train", "held_out"))
    assert audit_against(first, first, EXTENT).figures["pfd"] == 0
    assert audit_against(first, second, EXTENT).figures["pfd"] > 1
