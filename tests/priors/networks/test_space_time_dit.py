"""The space-time transformer: exact cache, who sees whom, borders, sizes, and denoisers around it."""

import pytest
import torch

from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.parametrisation import Velocity
from priors.diffusion.schedule import Cosine
from priors.networks import KeyValueCache, SpaceTimeDiT
from priors.networks.space_time_dit.attention import near_places, open_angles, turn, visibility
from priors.networks.space_time_dit.blocks import pad_axis
from priors.runtime.errors import InputError

STAGED = SpaceTimeDiT(stages=(16, 32), width=32, depth=2, head_width=16, features=16, reach=2)
PLAIN = SpaceTimeDiT(
    covariance=(1.0, 0.8, 0.6, 0.4, 0.2),
    stages=(),
    patch=4,
    width=32,
    depth=2,
    head_width=16,
    features=16,
    reach=2,
)
PERIODIC = STAGED.model_copy(update={"padding": ("periodic", "periodic")})
REFLECTING = STAGED.model_copy(update={"padding": ("reflect", "periodic"), "field_channels": 2})
# Float32 sums of some hundred terms in eight layers, in another order: a few 1e-7 of values of order one.
EXACT = 1e-5


def network(settings: SpaceTimeDiT, seed: int = 0) -> torch.nn.Module:
    """Return a network with random weights in every layer, also those that start at zero."""
    torch.manual_seed(seed)
    built = settings.build().eval().requires_grad_(False)
    for weight in built.parameters():
        torch.nn.init.normal_(weight, std=0.4 if weight.ndim == 1 else weight[0].numel() ** -0.5)
    return built


def inputs(settings: SpaceTimeDiT, frames: int = 7, size: tuple[int, int] = (16, 24), seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, frames, settings.field_channels, *size, generator=generator)
    return x, torch.randn(2, frames, generator=generator)


@pytest.mark.parametrize("settings", [STAGED, PLAIN, PERIODIC, REFLECTING])
def test_a_causal_window_equals_cached_frames_one_by_one(settings):
    built = network(settings)
    x, log_ratio = inputs(settings)
    whole = built(x, log_ratio, causal=True)
    assert float(whole.std()) > 0.1
    cache, found = None, []
    for k in range(x.shape[1]):
        now = x[:, k : k + 1], log_ratio[:, k : k + 1]
        found.append(built(*now, causal=True, cache=cache))
        cache = built.remember(*now, cache)
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=EXACT)
    assert cache.frames == settings.reach


@pytest.mark.parametrize("settings", [STAGED, PLAIN])
@pytest.mark.parametrize("causal", [False, True])
def test_frames_in_flight_see_cached_ones_as_they_see_finished_ones(settings, causal):
    built = network(settings)
    x, log_ratio = inputs(settings)
    finished = torch.zeros(2, 7, dtype=torch.bool)
    finished[:, :4] = True
    whole = built(x, log_ratio, finished=finished, causal=causal)
    cache = built.remember(x[:, 1:4], log_ratio[:, 1:4], built.remember(x[:, :1], log_ratio[:, :1]))
    part = built(x[:, 4:], log_ratio[:, 4:], cache=cache, causal=causal)
    torch.testing.assert_close(part, whole[:, 4:], rtol=0, atol=EXACT)


def test_a_cache_is_repeated_for_members():
    built = network(PLAIN)
    x, log_ratio = inputs(PLAIN)
    cache = built.remember(x[:1, :3], log_ratio[:1, :3])
    members = x[:1, 3:].repeat(3, 1, 1, 1, 1) + torch.arange(3.0)[:, None, None, None, None]
    found = built(members, log_ratio[:1, 3:].repeat(3, 1), cache=cache.repeat(3))
    assert isinstance(cache, KeyValueCache)
    for k in range(3):
        alone = built(members[k : k + 1], log_ratio[:1, 3:], cache=cache)
        torch.testing.assert_close(found[k : k + 1], alone, rtol=0, atol=EXACT)


def seen_by(built, x, log_ratio, **mode) -> torch.Tensor:
    """Return [i, j] = whether output frame i depends on input frame j, by perturbation of the first sample."""
    before = built(x, log_ratio, **mode)
    frames = x.shape[1]
    table = torch.zeros(frames, frames, dtype=torch.bool)
    for j in range(frames):
        moved = x.clone()
        moved[0, j] += 1
        table[:, j] = (built(moved, log_ratio, **mode) - before)[0].abs().amax((1, 2, 3)) > 0
    return table


def test_only_past_frames_within_reach_are_seen_causally():
    # One temporal layer: the dependence is the mask itself.
    settings = PLAIN.model_copy(update={"depth": 1})
    built = network(settings)
    i, j = torch.arange(7)[:, None], torch.arange(7)[None]
    found = seen_by(built, *inputs(settings), causal=True)
    assert torch.equal(found, (j <= i) & (i - j <= 2))
    assert torch.equal(seen_by(built, *inputs(settings)), (i - j).abs() <= 2)


def test_depth_widens_the_reach_but_never_ahead():
    found = seen_by(network(PLAIN), *inputs(PLAIN), causal=True)
    i, j = torch.arange(7)[:, None], torch.arange(7)[None]
    assert torch.equal(found, (j <= i) & (i - j <= 4))


def test_finished_frames_look_back_only_per_sample():
    built = network(STAGED)
    x, log_ratio = inputs(STAGED)
    finished = torch.zeros(2, 7, dtype=torch.bool)
    finished[0, :3] = True
    found = seen_by(built, x, log_ratio, finished=finished)
    assert not found[:3, 3:].any()
    assert found[3, 4]
    # The other sample has no finished frame and is the same as alone.
    alone = built(x[1:], log_ratio[1:])
    torch.testing.assert_close(built(x, log_ratio, finished=finished)[1:], alone, rtol=0, atol=EXACT)


def test_the_mask_by_hand():
    finished = torch.tensor([[True, False, False]])
    expected = [[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    found = visibility(finished, reach=1, causal=False, cached=1)
    # Cached frame 0, finished 1, in flight 2 and 3: row i is frame i + 1; 2 sees 1 to 3, 3 sees 2 and 3.
    assert torch.equal(found, torch.tensor(expected, dtype=torch.bool))


def test_samples_and_frames_never_mix_outside_attention():
    # Without temporal attention's projections nothing of one frame can reach another: no norm mixes frames.
    built = network(STAGED)
    for name, weight in built.named_parameters():
        if "temporal.proj" in name:
            weight.zero_()
    assert torch.equal(seen_by(built, *inputs(STAGED)), torch.eye(7, dtype=torch.bool))
    x, log_ratio = inputs(STAGED)
    both = built(x, log_ratio)
    torch.testing.assert_close(both[:1], built(x[:1], log_ratio[:1]), rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    "settings", [PERIODIC, PLAIN.model_copy(update={"padding": ("periodic", "periodic")})]
)
def test_a_periodic_network_commutes_with_cyclic_shifts(settings):
    built = network(settings)
    x, log_ratio = inputs(settings, frames=3, size=(32, 48))
    shift, axes = (settings.stride, -2 * settings.stride), (-2, -1)
    rolled = built(x.roll(shift, axes), log_ratio)
    torch.testing.assert_close(rolled, built(x, log_ratio).roll(shift, axes), rtol=0, atol=EXACT)


def test_an_open_network_does_not():
    built = network(STAGED)
    x, log_ratio = inputs(STAGED, frames=3, size=(32, 48))
    rolled = built(x.roll(8, -1), log_ratio)
    assert float((rolled - built(x, log_ratio).roll(8, -1)).abs().max()) > 1e-2


@pytest.mark.parametrize("settings", [STAGED, PLAIN, REFLECTING])
@pytest.mark.parametrize("size", [(16, 16), (17, 30), (33, 49), (5, 9)])
def test_any_field_size(settings, size):
    x, log_ratio = inputs(settings, frames=2, size=size)
    found = network(settings)(x, log_ratio)
    assert found.shape == x.shape
    assert torch.isfinite(found).all()


def test_borders_are_extended_as_named():
    x = torch.arange(4.0)[None]
    assert pad_axis(x, 1, "periodic", 1, 2).tolist() == [[3, 0, 1, 2, 3, 0, 1]]
    assert pad_axis(x, 1, "reflect", 1, 2).tolist() == [[1, 0, 1, 2, 3, 2, 1]]
    assert pad_axis(x, 1, "zeros", 1, 2).tolist() == [[0, 0, 1, 2, 3, 0, 0]]
    # Longer than the axis itself: the reflection goes on.
    assert pad_axis(x[:, :2], 1, "reflect", 0, 4).tolist() == [[0, 1, 0, 1, 0, 1]]


def test_places_near_each_other_by_hand():
    found = near_places((2, 4), 1, periodic=(False, True), device=torch.device("cpu")).reshape(2, 4, 2, 4)
    for y, x, v, u in torch.cartesian_prod(*(torch.arange(n) for n in (2, 4, 2, 4))).tolist():
        assert bool(found[y, x, v, u]) == (min(abs(x - u), 4 - abs(x - u)) <= 1)
    open_axis = near_places((1, 4), 2, periodic=(False, False), device=torch.device("cpu"))
    assert open_axis.sum(1).tolist() == [3, 4, 4, 3]


def test_a_limited_reach_in_space_makes_distant_places_independent():
    # One transformer block on patches of 4, reach 1: a change is seen at most one patch away.
    settings = PLAIN.model_copy(update={"depth": 1, "spatial_reach": 1, "covariance": ()})
    built = network(settings)
    x, log_ratio = inputs(settings, frames=2, size=(4, 32))
    moved = x.clone()
    moved[..., 8:12] += 1
    changed = (built(moved, log_ratio) - built(x, log_ratio)).abs().amax((0, 1, 2, 3)) > 0
    assert changed[4:16].all()
    assert not changed[:4].any()
    assert not changed[16:].any()


def test_a_learned_map_belongs_to_one_domain():
    settings = STAGED.model_copy(update={"place": (17, 30)})
    built = network(settings)
    x, log_ratio = inputs(settings, frames=2, size=(17, 30))
    before = built(x, log_ratio)
    built.place[3, 4] += 1
    assert float((built(x, log_ratio) - before).abs().max()) > 1e-3
    with pytest.raises(InputError, match="found 16 x 24, this prior is for 17 x 30 only"):
        built(*inputs(settings))


def test_rotary_products_depend_on_the_difference_of_positions_alone():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 8, generator=generator, dtype=torch.float64)

    def product(i, j):
        return float(
            (
                turn(q[None], open_angles(torch.tensor([i]), 4))
                * turn(k[None], open_angles(torch.tensor([j]), 4))
            ).sum()
        )

    # Angles are float32: a position of 1000 is off by 1e-4.
    assert product(3, 1) == pytest.approx(product(1003, 1001), abs=1e-3)
    assert abs(product(3, 1) - product(3, 2)) > 1e-2


def test_the_network_starts_as_zero_and_learns_from_every_weight():
    torch.manual_seed(0)
    built = STAGED.build()
    x, log_ratio = inputs(STAGED)
    assert torch.all(built(x, log_ratio) == 0)
    built = network(STAGED).requires_grad_(True)
    built(x, log_ratio).square().mean().backward()
    idle = [name for name, weight in built.named_parameters() if not weight.grad.abs().sum() > 0]
    assert idle == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"width": 30}, "multiple of head_width"),
        ({"stages": (20,)}, "multiples of 16"),
        ({"reach": 0}, "reach"),
        ({"covariance": (1.0, 0.9, 0.9)}, "no covariance of 5 frames"),
    ],
)
def test_settings_that_cannot_be_built(change, told):
    with pytest.raises(ValueError, match=told):
        SpaceTimeDiT.model_validate({**STAGED.model_dump(), **change})


def denoiser(**settings) -> NetworkDenoiser:
    return NetworkDenoiser(
        network(PLAIN), schedule=Cosine(), parametrisation=Velocity(), reduced=False, **settings
    )


def test_one_level_for_all_frames_is_that_level_for_each():
    x, _ = inputs(PLAIN)
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)
    asked = denoiser()
    assert torch.equal(asked(x, t), asked(x, t[:, None].expand(2, 7)))


@pytest.mark.parametrize("causal", [False, True])
def test_a_cached_denoiser_is_the_whole_one(causal):
    # In float64: alpha(0) is 1 - 1.2e-6, which float32's tolerance would hide.
    asked = denoiser(causal=causal).double()
    x = inputs(PLAIN)[0].double()
    t = torch.cat([torch.zeros(2, 4), torch.tensor([[0.2, 0.5, 1.0], [0.7, 0.7, 0.9]])], 1).double()
    whole = asked(x, t)
    # Finished frames at time 0 are the states alpha(0) x; they are remembered as x.
    clean = x[:, :4] / asked.schedule(t[:, :4])[0].to(x)[..., None, None, None]
    cache = None
    for k in range(4):
        cache = asked.remember(clean[:, k : k + 1], cache)
    part = asked.cached(cache)(x[:, 4:], t[:, 4:])
    torch.testing.assert_close(part, whole[:, 4:], rtol=0, atol=1e-12)
    # The denoiser itself has not changed.
    assert torch.equal(asked(x, t), whole)


def test_context_at_time_zero_comes_back_unchanged():
    asked = denoiser()
    x, _ = inputs(PLAIN)
    t = torch.tensor([[0.0] * 4 + [0.5] * 3] * 2, dtype=torch.float64)
    # sigma(0) is 0.0016 of the schedule's own start; the network's output has order one.
    assert float((asked(x, t)[:, :4] - x[:, :4]).abs().max()) < 0.02


def test_gradients_reach_frames_in_flight_through_the_cache_free_path():
    asked = denoiser()
    x, _ = inputs(PLAIN)
    cache = asked.remember(x[:, :4])
    state = x[:, 4:].clone().requires_grad_(True)
    t = torch.full((2, 3), 0.5, dtype=torch.float64)
    asked.cached(cache)(state, t)[:, 0].sum().backward()
    assert float(state.grad[:, 2].abs().sum()) > 0


def test_a_slice_network_has_no_memory():
    plain = NetworkDenoiser(torch.nn.Identity(), schedule=Cosine(), parametrisation=Velocity())
    with pytest.raises(InputError, match="expected a prior of trajectories"):
        plain.remember(torch.zeros(1, 1, 1, 4, 4))
