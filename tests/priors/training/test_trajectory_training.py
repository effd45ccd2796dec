"""Training on trajectories: weights in closed form, honest windows, one loop, a prior like any other."""

import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from priors.card import load_prior, self_test_errors
from priors.commands.inspect import describe_prior
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.parametrisation import Velocity
from priors.diffusion.samplers.sampler import Multistep
from priors.diffusion.schedule import Cosine
from priors.runtime.config import load
from priors.runtime.errors import InputError
from priors.training.configuration.config import TrajectoryConfig
from priors.training.export import export_prior
from priors.training.loop import open_subject, train
from priors.training.plan import expected_seconds, memory_plan
from priors.training.slices.gallery import draw_trajectories
from priors.training.trajectories.data import Moves, PreparedTrajectories, encode
from priors.training.trajectories.task import denoising_errors, forecast_errors, masked_rms
from tests.priors.training.test_training_loop import KilledError, kill_at, silent
from tests.priors.training.test_trajectory_objective import Zero
from tests.support.priors.small_trajectories import SIZE, STEPS, settings, waves, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("waves"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    config = TrajectoryConfig.model_validate(settings(data, steps=STEPS))
    folder = tmp_path_factory.mktemp("run")
    denoiser = train(config, folder, resume=False, report=silent)
    export_prior(denoiser, config, folder / "prior", command="tests", subject=open_subject(config))
    return config, folder


# ---- windows


def test_a_batch_is_a_function_of_seed_and_step(data):
    subject = open_subject(TrajectoryConfig.model_validate(settings(data, steps=3)))
    denoiser = NetworkDenoiser(Zero(), schedule=Cosine(), parametrisation=Velocity(), reduced=False)
    losses = [float(subject.loss(denoiser, step).detach()) for step in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


def test_windows_are_pieces_of_one_trajectory(data):
    prepared = PreparedTrajectories.load(data, "validation")
    generator = np.random.default_rng(0)
    for _ in range(20):
        window = prepared.draw(generator, frames=3, size=8, moves=Moves())
        assert window.shape == (3, 1, 8, 8)
        pieces = np.lib.stride_tricks.sliding_window_view(prepared.arrays[0], (3, 1, 8, 8), (1, 2, 3, 4))
        assert (pieces == window).all((-4, -3, -2, -1)).any()


def test_a_shift_adds_one_constant_to_a_whole_window(data):
    plain, shifted = (
        open_subject(load(TrajectoryConfig, [settings(data, steps=1)], overrides))
        for overrides in ([], ["shift=[3.0]"])
    )
    # The amounts are drawn after the window, so both runs draw the same one.
    pairs = [
        (plain._window(np.random.default_rng(k)), shifted._window(np.random.default_rng(k)))
        for k in range(200)
    ]
    added = [b - a for a, b in pairs]
    for each in added:
        assert np.nanmax(each) - np.nanmin(each) < 1e-5
    # The deviation of 200 draws is known to 5 % (one standard error).
    assert np.std([np.nanmean(each) for each in added]) == pytest.approx(3.0, rel=0.2)


def test_missing_values_are_zero_and_marked(data):
    prepared = PreparedTrajectories.load(data, "train")
    window = prepared.arrays[0][3, 3:6]
    codec = TrajectoryConfig.model_validate(settings(data, steps=1)).codec
    x, valid = encode([window], codec)
    assert torch.isfinite(x).all()
    assert not valid[0, 1].any()
    assert torch.equal(valid[0], torch.from_numpy(np.isfinite(window)))
    assert torch.all(x[~valid] == 0)
    torch.testing.assert_close(x[0, 0][valid[0, 0]], torch.from_numpy(window[0])[valid[0, 0]] / 6)


@pytest.mark.parametrize("seed", range(6))
def test_half_turns_and_half_shifts_keep_each_forcing_function_up_to_its_sign(seed):
    # What configs/train/ns-vorticity-64.yaml declares of its system, checked on the forcing itself.
    y, x = np.mgrid[:64, :64] * (2 * np.pi / 64)
    forcing = np.stack([np.sin(6 * x), np.cos(7 * x), np.sin(5 * (x + y)), np.cos(8 * (x + y))])
    moves = Moves(half_turn=True, roll="half")
    moved = moves(forcing[:, None], periodic=(True, True), generator=np.random.default_rng(seed))[:, 0]
    for before, after in zip(forcing, moved, strict=True):
        assert min(np.abs(after - before).max(), np.abs(after + before).max()) < 1e-12


def test_undeclared_moves_do_nothing_and_declared_ones_keep_values():
    window = np.arange(2 * 16, dtype=np.float32).reshape(2, 1, 4, 4)
    generator = np.random.default_rng(0)
    assert np.array_equal(Moves()(window, periodic=(True, True), generator=generator), window)
    every = Moves(flip_y=True, flip_x=True, half_turn=True, roll="any")
    seen = {every(window, periodic=(True, False), generator=generator).tobytes() for _ in range(200)}
    assert 16 >= len(seen) > 8
    for frame in (np.frombuffer(raw, np.float32).reshape(window.shape) for raw in seen):
        assert np.array_equal(np.sort(frame.reshape(2, -1), 1), window.reshape(2, -1))
        # The open axis is only mirrored: neighbours stay neighbours.
        assert set(np.abs(np.diff(frame, axis=3)).flatten().tolist()) == {1.0}


def test_axes_are_exchanged_in_square_windows_alone():
    window = np.arange(2 * 12, dtype=np.float32).reshape(1, 2, 3, 4)
    generator = np.random.default_rng(0)
    draws = [Moves(transpose=True)(window, periodic=(False, False), generator=generator) for _ in range(20)]
    assert all(np.array_equal(draw, window) for draw in draws)
    square = window[..., :3]
    draws = [Moves(transpose=True)(square, periodic=(False, False), generator=generator) for _ in range(40)]
    seen = {draw.tobytes() for draw in draws}
    assert seen == {square.tobytes(), np.swapaxes(square, 2, 3).tobytes()}


# ---- the run


def test_it_learns_to_move_waves_better_than_persistence(run):
    config, folder = run
    rows = [json.loads(row) for row in (folder / "training.jsonl").read_text().splitlines()]
    assert rows[-1]["error_1"] < 0.8 * rows[0]["error_1"]
    prior = load_prior(folder / "prior")
    x, valid = encode(list(waves(9, 10, 5)), config.codec)
    forecast, persistence = forecast_errors(prior.denoiser, x, valid)
    assert persistence == pytest.approx(float((x[:, -1] - x[:, -2]).square().mean().sqrt()))
    assert forecast < 0.7 * persistence
    # Against the best affine estimate that knows the variance only.
    variance = float(x.var())
    found = denoising_errors(prior.denoiser, x, valid, levels=(0.5,))[0.5]
    assert found < 0.8 * (variance * 0.25 / (variance + 0.25)) ** 0.5


def test_the_prior_is_one_like_any_other(run, capsys, tmp_path):
    config, folder = run
    prior = load_prior(folder / "prior")
    card = prior.card
    assert prior.fields == config.codec
    with pytest.raises(InputError, match="expected one of slices"):
        _ = prior.slices
    assert card.trajectory.frames == 5
    assert card.trajectory.step_s == 60
    assert card.trajectory.spacing == (0.5, 0.5)
    assert card.trajectory.periodic == (True, True)
    assert card.unit == "m"
    assert set(card.held_out_psnr) == {0.1, 0.3, 1.0}
    assert self_test_errors(prior) == pytest.approx(card.self_test, rel=1e-3)
    assert "space-time-dit" in describe_prior(str(folder / "prior"))


def test_trajectories_are_drawn_and_shown(run, tmp_path):
    from priors.training.sampling import draw

    _, folder = run
    prior = load_prior(folder / "prior")
    first = draw_trajectories(prior, Multistep(steps=8), count=2, seed=1)
    assert torch.equal(first, draw_trajectories(prior, Multistep(steps=8), count=2, seed=1))
    assert first.shape == (2, 5, 1, SIZE, SIZE)
    assert 1 < float(first.std()) < 20
    for name in ("page.png", "samples.npy"):
        draw(str(folder / "prior"), tmp_path / name, count=2, steps=4, size=None, seed=0, beside=None)
    assert np.load(tmp_path / "samples.npy").shape == (2, 5, 1, SIZE, SIZE)
    with pytest.raises(InputError, match="shows slices"):
        draw(str(folder / "prior"), tmp_path / "p.png", count=1, steps=2, size=None, seed=0, beside=tmp_path)
    open_subject(run[0]).save_page(prior, tmp_path / "own.png")
    from matplotlib.image import imread

    assert imread(tmp_path / "own.png")[..., :3].std() > 0.05


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(data, tmp_path):
    config = TrajectoryConfig.model_validate(settings(data, steps=12))
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = train(config, tmp_path / "whole", resume=False, report=silent)
    with pytest.raises(KilledError):
        train(config, tmp_path / "cut", resume=False, report=kill_at(8))
    resumed = train(config, tmp_path / "cut", resume=True, report=silent)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value)


def test_the_plan_knows_the_batch(data):
    config = TrajectoryConfig.model_validate(settings(data, steps=10))
    subject = open_subject(config)
    plan = memory_plan(config, subject)
    double = TrajectoryConfig.model_validate({**settings(data, steps=10), "batch": 12})
    ratio = memory_plan(double, open_subject(double)).items["activations"] / plan.items["activations"]
    assert ratio == pytest.approx(2, rel=1e-6)
    assert plan.items["data"] == np.load(data / "train.npy").nbytes
    assert expected_seconds(config, subject) > 0


def test_masked_errors_by_hand():
    error = torch.tensor([3.0, torch.nan, 4.0])
    assert masked_rms(error, torch.tensor([True, False, True])) == pytest.approx(12.5**0.5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "slices"}, "kind"),
        ({"variables": []}, "variables"),
        ({"step_s": 0}, "step_s"),
        ({"events": [{"file": "train.npy", "split": "test", "source": "s", "licence": "l"}]}, "split"),
        (
            {"events": [{"file": "train.npy", "split": "train", "source": "s", "licence": "l"}]},
            "'validation'",
        ),
        ({"variables": [{"name": "depth", "unit": "m"}]}, r"found \['height'\], the prepared data holds"),
        ({"variables": [{"name": "a", "unit": "m"}, {"name": "b", "unit": "m"}]}, "found 1 variables"),
    ],
)
def test_a_manifest_that_does_not_fit(data, tmp_path, change, told):
    for name in ("train", "held_out"):
        (tmp_path / f"{name}.npy").symlink_to(data / f"{name}.npy")
    tree = OmegaConf.to_container(OmegaConf.load(data / "manifest.yaml"))
    OmegaConf.save(OmegaConf.create({**tree, **change}), tmp_path / "manifest.yaml")
    with pytest.raises(InputError, match=told) as caught:
        open_subject(TrajectoryConfig.model_validate(settings(tmp_path, steps=1)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((2, 8, 1, 16, 16)), "found float64"),
        (np.zeros((8, 1, 16, 16), np.float32), "expected float32 \\(trajectory, time"),
        (np.full((2, 8, 1, 16, 16), np.nan, np.float32), "no finite one"),
        (np.full((2, 8, 1, 16, 16), np.inf, np.float32), "infinite"),
        (np.zeros((2, 4, 1, 16, 16), np.float32), "frames: found 5, train.npy holds 4"),
        (np.full((2, 8, 1, 16, 16), 300.0, np.float32), "outside the codec's range"),
        (np.zeros((2, 8, 1, 12, 16), np.float32), "larger than the fields"),
    ],
)
def test_arrays_that_cannot_be_used(data, tmp_path, array, told):
    np.save(tmp_path / "train.npy", array)
    (tmp_path / "held_out.npy").symlink_to(data / "held_out.npy")
    (tmp_path / "manifest.yaml").symlink_to(data / "manifest.yaml")
    config = {**settings(tmp_path, steps=1), "size": 16}
    with pytest.raises(InputError, match=told):
        open_subject(TrajectoryConfig.model_validate(config))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("network.field_channels=2", "must be the number of variables"),
        ("frames=1", "frames: found 1"),
        ("sampling={name: spaced, ratio_max: 300.0}", "its level at time 1 is 300, that of training 636.6"),
        ("weighting.kind=fused", "weighting.kind"),
        ("moves.roll=all", "moves.roll"),
        ("levels.lags=[]", "levels.lags"),
        ("network.padding=[wrap,zeros]", "network.padding"),
        ("codec.variables=[]", "codec.variables"),
        ("crops=[]", "crops: unknown key"),
        ("shift=[1.0,2.0]", "one per variable"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_key(data, override, told):
    with pytest.raises(InputError) as caught:
        load(TrajectoryConfig, [settings(data, steps=1)], [override])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
