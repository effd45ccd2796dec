"""Forecasts in the frame of the rain: a travelling shower arrives where it should; without motion nothing changes."""

import numpy as np
import pytest

from assimilation.fields.grid import Grid, Variable
from assimilation.inference.lagrangian import Advection, Draws, advection_of
from assimilation.inference.motion import cells, mirrored, motion, sampled
from priors.runtime.errors import InputError

SIZE = 64
RAIN = (Variable("rain_rate", "mm/h", "rainfall_rate", 0.0),)
VELOCITY = (1.3, 2.4)
# Cubic splines err by 0.0047 h^4 max|f''''| per axis; a Gaussian of deviation s has f'''' = 3 f / s^4, and the cut to
# the cells around costs up to f / (8 s^2) per axis where the peak lies between them.
HEIGHT, WIDTH = 8.0, 5.0
TOLERANCE = HEIGHT / (4 * WIDTH**2) + 2 * 0.0047 * 3 * HEIGHT / WIDTH**4


def shower(*centre: float) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return HEIGHT * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * WIDTH**2))


def travelling(frames: int) -> np.ndarray:
    """(1, 1, f, 1, y, x) in physical units."""
    path = [shower(20 + VELOCITY[0] * f, 18 + VELOCITY[1] * f) for f in range(frames)]
    return np.stack(path)[None, None, :, None].astype(np.float32)


def uniform(rows: float, columns: float) -> np.ndarray:
    return np.stack([np.full((SIZE, SIZE), float(rows)), np.full((SIZE, SIZE), float(columns))])[None, None]


def plane(periodic: bool = False) -> Grid:
    axis = 2.0 * np.arange(SIZE)
    return Grid(axis, axis, "plane", "km", (periodic, periodic))


def test_the_context_of_a_travelling_shower_stands_still():
    frames = travelling(4)
    still = Advection(uniform(*VELOCITY)).context(frames)
    np.testing.assert_array_equal(still[:, :, -1], frames[:, :, -1])
    assert np.abs(still - frames[:, :, -1:]).max() < TOLERANCE


def test_a_forecast_arrives_where_the_shower_is():
    whole, advection = travelling(8), Advection(uniform(*VELOCITY))
    unchanged = whole[0, :, 3]
    for lead in (0, 1, 2, 3, 2):
        told = advection.carried(np.repeat(unchanged, 2, axis=0), 0, lead)
        assert told.shape == (2, 1, SIZE, SIZE)
        assert np.abs(told - whole[0, :, 4 + lead]).max() < TOLERANCE


def test_a_run_that_continues_carries_as_if_it_had_never_stopped():
    whole = travelling(4)
    first, later = Advection.seen(whole), Advection.seen(whole)
    for lead in range(4):
        told = first.carried(whole[0, :, 3], 0, lead)
    np.testing.assert_array_equal(later.carried(whole[0, :, 3], 0, 3), told)


def test_seen_motion_carries_a_shower_better_than_persistence():
    whole = travelling(8)
    told = Advection.seen(whole[:, :, :4]).carried(whole[0, :, 3], 0, 3)
    truth = whole[0, :, 7]
    assert np.abs(told - truth).mean() < 0.3 * np.abs(whole[0, :, 3] - truth).mean()


def test_motion_is_that_of_the_rain_where_the_flow_diverges():
    # A shower and the edge of another that leaves: at the edge and where it is dry optical flow may say anything.
    seen = [shower(30, 20 + 3 * f) + shower(64, 58 + 3 * f) for f in range(4)]
    velocity = motion(np.stack(seen).astype(np.float32))
    assert velocity[:, 30, 28] == pytest.approx([0, 3], abs=0.5)
    assert np.hypot(*velocity).max() < 3 + 6


def test_members_of_the_start_keep_their_own_motion():
    advection = Advection(np.concatenate([uniform(0, 3), uniform(2, 0)], axis=1))
    state = np.repeat(shower(30, 30)[None, None], 3, axis=0).astype(np.float32)
    told = advection.carried(state, 0, 1)
    for member, centre in enumerate([(30, 36), (34, 30), (30, 36)]):
        # Whole cells: splines interpolate, up to the rounding of their float64 filter.
        np.testing.assert_allclose(told[member, 0], shower(*centre), atol=1e-5 * HEIGHT)


def test_what_comes_from_beyond_the_grid_passes_over_to_what_the_prior_says_there():
    state = np.random.default_rng(0).random((1, 1, SIZE, SIZE)).astype(np.float32)
    told = Advection(uniform(0, 10)).carried(state, 0, 1)
    np.testing.assert_allclose(told[..., 20:], state[..., :-20], atol=1e-5)
    # 20 to 1 cells from the edge the share of the edge's value falls by a factor e every 3 cells.
    share = np.exp(-np.arange(20, 0, -1) / 3)
    expected = share * state[..., :1] + (1 - share) * state[..., :20]
    np.testing.assert_allclose(told[..., :20], expected, atol=1e-5)
    frames = np.random.default_rng(1).random((1, 1, 2, 1, SIZE, SIZE)).astype(np.float32)
    given = Advection(uniform(0, 20)).context(frames)
    expected = share * frames[:, :, 0, ..., :1] + (1 - share) * frames[:, :, 1, ..., :20]
    np.testing.assert_allclose(given[:, :, 0, ..., :20], expected, atol=1e-5)


def test_without_motion_nothing_changes():
    frames = np.repeat(np.random.default_rng(0).random((1, 1, 1, 1, SIZE, SIZE)), 3, axis=2).astype(
        np.float32
    )
    for advection in (Advection.seen(frames), Advection.seen(0 * frames)):
        assert (advection.velocity == 0).all()
        np.testing.assert_array_equal(advection.context(frames), frames)
        np.testing.assert_array_equal(advection.carried(frames[0, :, 0], 0, 5), frames[0, :, 0])


def test_sampling_makes_nothing_wet_and_no_peak_higher():
    generator = np.random.default_rng(3)
    field = np.maximum(generator.normal(-1, 2, (24, 24)), 0)
    place = cells(field.shape) + generator.uniform(-0.9, 0.9, (2, 24, 24))
    found = sampled(field, place)
    around = np.pad(field, 1, mode="edge")
    near = np.stack([around[i : i + 24, j : j + 24] for i in range(3) for j in range(3)])
    assert (found >= near.min(axis=0)).all()
    assert (found <= near.max(axis=0)).all()
    np.testing.assert_allclose(sampled(field, cells(field.shape)), field, atol=1e-12)


@pytest.mark.parametrize(
    ("variables", "frames", "periodic", "wanted", "found"),
    [
        (RAIN, 3, False, "auto", True),
        (RAIN, 3, False, "advect", True),
        (RAIN, 3, False, "none", False),
        (RAIN, 1, False, "auto", False),
        (RAIN, 3, True, "auto", False),
        ((Variable("depth", "m", "", 0.0),), 3, False, "auto", False),
        ((Variable("depth", "m", "", 0.0),), 3, False, "advect", True),
    ],
)
def test_only_rain_moves_by_itself(variables, frames, periodic, wanted, found):
    start = travelling(frames)
    assert (advection_of(start, variables, plane(periodic), wanted=wanted) is not None) == found


@pytest.mark.parametrize(
    ("variables", "frames", "periodic", "told"),
    [
        (RAIN, 1, False, "found 1 frame"),
        (RAIN, 3, True, "periodic grid"),
        ((Variable("t2m", "K"),), 3, False, r"t2m \[K\]"),
    ],
)
def test_motion_that_cannot_be_had_is_refused(variables, frames, periodic, told):
    with pytest.raises(InputError, match=told):
        advection_of(travelling(frames), variables, plane(periodic), wanted="advect")


def draws(members: int, *, reach: float, offset: float = 0.0, shift: float = 0.0) -> Draws:
    two = np.ones((members, 2))
    return Draws(shift * two, offset * two, np.full(members, reach))


def some_rain(members: int = 2) -> np.ndarray:
    return np.random.default_rng(4).gamma(0.5, 2.0, (members, 1, SIZE, SIZE)).astype(np.float32)


def test_places_beyond_the_grid_are_reflected_as_padding_reflects():
    field, pad = np.random.default_rng(0).random((5, 7)), 9
    origin = cells((5 + 2 * pad, 7 + 2 * pad)) - pad
    rows, columns = mirrored(origin, (5, 7)).astype(int)
    # Wider than the field itself, so that it is reflected more than once.
    assert np.array_equal(field[rows, columns], np.pad(field, pad, mode="symmetric"))


def test_near_the_edge_comes_in_the_mirror_image_of_the_rain_inside():
    rain = some_rain()
    moved = Advection(uniform(0, 5)).carried(rain, 0, 0, draws(2, reach=1e6))
    padded = np.pad(rain[:, 0], ((0, 0), (0, 0), (5, 0)), mode="symmetric")[:, :, :SIZE]
    # Whole cells: splines return the samples up to rounding of their coefficients.
    np.testing.assert_allclose(moved[:, 0], padded, rtol=1e-4, atol=1e-4)


def test_far_from_the_edge_comes_in_the_rain_of_another_place():
    rain = some_rain()
    moved = Advection(uniform(0, 20)).carried(rain, 0, 0, draws(2, reach=0.0, offset=11.0))
    padded = np.pad(rain[:, 0], ((0, 0), (0, 32), (32, 32)), mode="symmetric")
    taken = padded[:, 11 : 11 + SIZE, 32 - 20 + 11 : 32 - 20 + 11 + SIZE]
    # Column 0 has come from 20 cells beyond; the weight of the mirror image there is 1 / (1 + e^20).
    np.testing.assert_allclose(moved[:, 0, :, :8], taken[:, :, :8], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(moved[:, 0, :, 20:], rain[:, 0, :, :-20], rtol=1e-4, atol=1e-4)


def test_what_comes_in_travels_on():
    rain, chosen = some_rain(), draws(2, reach=3.0, offset=17.0)
    carried = Advection(uniform(0, 4))
    first, second = (carried.carried(rain, 0, frame, chosen) for frame in (0, 1))
    np.testing.assert_allclose(second[..., 4:], first[..., :-4], rtol=1e-3, atol=1e-3)


def test_as_much_rain_comes_in_as_there_is():
    rain = some_rain(40)
    generator = np.random.default_rng(1)
    # Whole cells: between cells white noise would be smoothed.
    offsets = generator.integers(2 * SIZE, size=(40, 2)).astype(float)
    chosen = Draws(np.zeros((40, 2)), offsets, generator.exponential(8, 40))
    moved = Advection(uniform(0, 30)).carried(rain, 0, 0, chosen)
    # 40 x 64 x 30 independent cells of a gamma law with mean 1 and variance 2: standard error 0.005.
    assert moved[..., :30].mean() == pytest.approx(rain.mean(), rel=0.03)
    assert (moved[..., :30] > 1).mean() == pytest.approx((rain > 1).mean(), rel=0.05)
