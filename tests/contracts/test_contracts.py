"""Properties that every member of a family has, whoever wrote it."""

import functools

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from priors.card import embedded_names
from priors.codec import Codec
from priors.diffusion.denoiser import Denoiser, GaussianDenoiser
from priors.diffusion.parametrisation import Parametrisation
from priors.diffusion.samplers.gaussian_start import Below, From
from priors.diffusion.samplers.sampler import Sampler
from priors.diffusion.schedule import EDM, Schedule
from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.operators.base import LinearOperator
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, Reconstructor, RunContext
from recon.reconstructors.checkpoint import Checkpoint
from recon.solvers.base import IterativeMethod, Stop, iterate
from recon.solvers.functionals import Functional
from tests.contracts import examples
from tests.contracts.families import FAMILIES, final_classes


def named(make):
    return [pytest.param(item, id=f"{type(item).__name__}{place}") for place, item in enumerate(make())]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_class_has_an_example(family):
    shown = {type(item) for item in examples.EXAMPLES[family]()}
    missing = {kind.__name__ for kind in final_classes(family)} - {kind.__name__ for kind in shown}
    assert not missing, f"add a tiny instance of {sorted(missing)} to tests/contracts/examples.py"


# `From` is made by a sampler around whatever schedule a prior has, also one of its owner's, and is never written.
MODELS = [
    item
    for family, make in examples.EXAMPLES.items()
    for item in make()
    if isinstance(item, BaseModel) and not isinstance(item, From)
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_model_is_frozen_strict_and_built_again_from_its_data(model):
    assert type(model).model_validate(model.model_dump(mode="json")) == model
    with pytest.raises(ValueError, match="Extra inputs"):
        type(model).model_validate({**model.model_dump(), "no_such_field": 1})
    field = next(iter(type(model).model_fields), None)
    if field is not None:
        with pytest.raises(ValueError, match="frozen"):
            setattr(model, field, getattr(model, field))


@pytest.mark.parametrize("operator", named(examples.operators))
class TestOperator:
    def vectors(self, operator):
        draw = torch.Generator().manual_seed(1)
        return (
            torch.randn(shape, generator=draw) for shape in (operator.domain, operator.domain, operator.range)
        )

    def test_is_linear(self, operator):
        x, z, _ = self.vectors(operator)
        left, right = operator(2.0 * x - 3.0 * z), 2.0 * operator(x) - 3.0 * operator(z)
        # float32 keeps seven digits; sums of a few hundred terms lose two.
        assert (left - right).norm() <= 1e-5 * right.norm()

    def test_has_a_matched_adjoint(self, operator):
        x, _, y = self.vectors(operator)
        forward, backward = operator(x).double(), operator.adjoint(y).double()
        gap = abs(float((forward * y).sum() - (x * backward).sum()))
        assert gap <= 1e-5 * float(forward.norm() * y.norm())

    def test_shapes_are_as_declared(self, operator):
        x, _, y = self.vectors(operator)
        assert operator(x).shape == tuple(operator.range)
        assert operator.adjoint(y).shape == tuple(operator.domain)

    def test_transposed_twice_is_itself(self, operator):
        x, _, y = self.vectors(operator)
        assert torch.equal(operator.T(y), operator.adjoint(y))
        assert torch.equal(operator.T.T(x), operator(x))
        assert operator.T.domain == operator.range

    def test_norm_bounds_what_it_does(self, operator):
        x, z, _ = self.vectors(operator)
        for vector in (x, z, operator.adjoint(operator(x))):
            # The power iteration approaches the norm from below, to its tolerance.
            assert operator(vector).norm() <= 1.01 * operator.norm() * vector.norm()


@pytest.mark.parametrize("functional", named(examples.functionals))
@pytest.mark.parametrize("step", [0.2, 3.0])
class TestFunctional:
    def point(self, seed=2):
        return torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))

    def test_prox_is_the_minimum(self, functional, step):
        v = self.point()
        best = functional.prox(v, step)

        def value(x):
            return functional(x) + float(((x - v) ** 2).sum()) / (2 * step)

        for seed in range(40):
            near = best + 10.0 ** -(seed % 4) * self.point(seed + 10)
            assert value(best) <= value(near) + 1e-5 * abs(value(best))

    def test_moreau(self, functional, step):
        v = self.point()
        parts = functional.prox(v, step) + step * functional.conjugate_prox(v / step, 1 / step)
        assert torch.allclose(parts, v, atol=1e-5)

    def test_prox_is_firmly_nonexpansive(self, functional, step):
        v, w = self.point(), self.point(3)
        p, q = functional.prox(v, step), functional.prox(w, step)
        assert float(((p - q) ** 2).sum()) <= float(((p - q) * (v - w)).sum()) + 1e-5


@pytest.mark.parametrize("solve", examples.solves(), ids=lambda solve: type(solve.method).__name__)
class TestMethod:
    def test_comes_to_rest(self, solve):
        early, late = (
            iterate(solve.method, solve.problem, start=solve.start, stop=Stop(iterations=n))
            for n in (10, 500)
        )
        assert late.figures["change"] < 0.1 * early.figures["change"]
        assert late.figures["change"] < 1e-4

    def test_continues_from_a_state_exactly(self, solve):
        whole = iterate(solve.method, solve.problem, start=solve.start, stop=Stop(iterations=20))
        half = iterate(solve.method, solve.problem, start=solve.start, stop=Stop(iterations=8))
        rest = iterate(solve.method, solve.problem, start=half.state, stop=Stop(iterations=20))
        assert torch.equal(whole.x, rest.x)


@pytest.mark.parametrize("reconstructor", named(examples.reconstructors))
class TestReconstructor:
    def test_plans_its_memory(self, reconstructor):
        if hasattr(reconstructor, "prior") and reconstructor.prior not in embedded_names():
            pytest.skip(f"the prior {reconstructor.prior} is not embedded yet")
        small, large = (reconstructor.plan(examples.GRID, examples.geometry(views)) for views in (4, 400))
        assert 0 < small.total < large.total

    def test_a_rehearsal_stands_for_every_step_of_the_whole(self, reconstructor):
        rehearsal = reconstructor.rehearsal()
        if rehearsal is None:
            pytest.skip("its first steps tell the pace")
        assert len(rehearsal.stands_for) == len(rehearsal.method.levels())
        assert sum(rehearsal.stands_for) == len(reconstructor.levels())

    def test_makes_a_finite_volume_that_explains_the_data_better_than_nothing(self, reconstructor):
        if hasattr(reconstructor, "prior") and reconstructor.prior not in embedded_names():
            pytest.skip(f"the prior {reconstructor.prior} is not embedded yet")
        projector, measurement = noisy_box()
        x, records = whole_run(reconstructor)
        assert x.shape == examples.GRID.shape
        assert torch.isfinite(x).all()
        y = measurement.sinogram
        assert (projector(x) - y).norm() < 0.5 * y.norm()
        assert records[-1].iteration <= records[-1].total
        if hasattr(reconstructor, "prior"):
            assert float(x.min()) >= 0
        again = reconstructor(measurement, projector, RunContext(seed=1))
        assert torch.equal(x, again)

    @pytest.mark.parametrize("reach", [1, 2])
    def test_an_interrupted_run_continues_to_the_same_bits(self, reconstructor, reach, tmp_path):
        projector, measurement = noisy_box()
        wanted, whole = whole_run(reconstructor)
        if len(whole) <= reach:
            pytest.skip("it has no more steps")

        def interrupt(record):
            if len(seen) == reach:
                raise KeyboardInterrupt
            seen.append(record)

        seen, checkpoint = [], Checkpoint(tmp_path / "state.pt")
        with pytest.raises(KeyboardInterrupt):
            reconstructor(measurement, projector, RunContext(1, checkpoint, interrupt))
        checkpoint.save()
        rest, kept = [], Checkpoint(tmp_path / "state.pt", resume=True)
        assert kept.earlier.wall > 0
        x = reconstructor(measurement, projector, RunContext(1, kept, rest.append))
        assert torch.equal(x, wanted)
        # It took up where it was: no step is done twice.
        assert all(record.iteration > seen[-1].iteration for record in rest)
        other = Measurement(measurement.sinogram * 1.01, measurement.weights)
        with pytest.raises(InputError, match="run with other"):
            reconstructor(other, projector, RunContext(1, Checkpoint(tmp_path / "state.pt", resume=True)))

    def test_an_operator_of_ones_own_serves_as_well_or_is_refused(self, reconstructor):
        projector, measurement = noisy_box()
        own = examples.Own(projector, examples.GRID)
        if getattr(reconstructor, "warm_start", None) == "fbp":
            reconstructor = reconstructor.model_copy(update={"warm_start": "tv"})
        if reconstructor.name == "fbp" or getattr(reconstructor, "subsets", 1) > 1:
            with pytest.raises(InputError, match="operator"):
                reconstructor(measurement, own, RunContext(seed=1))
            return
        x = reconstructor(measurement, own, RunContext(seed=1))
        assert torch.equal(x, whole_run(reconstructor)[0])


def noisy_box():
    """Return a projector and what it measures, with noise, of a box."""
    projector = Projector(examples.geometry(24), examples.GRID)
    truth = torch.zeros(examples.GRID.shape)
    truth[:, 5:11, 4:12] = 0.02
    y = projector(truth)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    return projector, Measurement(y + 0.01 * noise, torch.full_like(y, 1e4))


@functools.cache
def whole_run(reconstructor):
    """Return the volume of an undisturbed run and the records of its steps, once for all tests that compare with it."""
    projector, measurement = noisy_box()
    records = []
    return reconstructor(measurement, projector, RunContext(seed=1, on_step=records.append)), records


@pytest.mark.parametrize("step", named(examples.steps))
class TestStep:
    def test_keeps_the_shape_and_is_recorded(self, step):
        scan, generator = examples.geometry(24), np.random.default_rng(0)
        truth = torch.zeros(examples.GRID.shape)
        truth[:, 5:11, 4:12] = 0.02
        sinogram = Projector(scan, examples.GRID)(truth).numpy()
        sinogram = (sinogram + generator.normal(0, 1e-3, sinogram.shape)).astype(np.float32)
        data = Scan(sinogram, scan, examples.GRID, np.full_like(sinogram, 1e6))
        done = step(data)
        assert done.sinogram.shape == done.weights.shape == sinogram.shape
        assert np.isfinite(done.sinogram).all()
        assert (done.weights >= 0).all()
        assert done.provenance["preprocess"][0]["name"] == step.name
        assert step(done).provenance["preprocess"][1]["name"] == step.name
        assert not data.provenance


@pytest.mark.parametrize("schedule", named(examples.schedules))
class TestSchedule:
    def test_noise_grows_with_time(self, schedule):
        t = torch.linspace(0, 1, 201, dtype=torch.float64)
        alpha, sigma = schedule(t)
        assert alpha.dtype == sigma.dtype == torch.float64
        assert (alpha > 0).all()
        assert (schedule.ratio(t).diff() > 0).all()

    def test_the_inverse_undoes_it(self, schedule):
        t = torch.linspace(0, 1, 57, dtype=torch.float64)
        assert torch.allclose(schedule.inverse(schedule.ratio(t)), t, atol=1e-8)

    def test_ratios_out_of_range_give_the_ends(self, schedule):
        ends = schedule.inverse(torch.tensor([1e-12, 1e12], dtype=torch.float64))
        assert ends.tolist() == pytest.approx([0, 1], abs=1e-9)

    def test_any_shape_of_times(self, schedule):
        assert schedule(torch.rand(2, 3, generator=torch.Generator().manual_seed(0)))[1].shape == (2, 3)


@pytest.mark.parametrize("parametrisation", named(examples.parametrisations))
@pytest.mark.parametrize("level", [0.05, 1.0, 8.0])
def test_a_parametrisation_recovers_the_clean_field_from_its_target(parametrisation, level):
    draw = torch.Generator().manual_seed(3)
    x, z = (torch.randn(2, 1, 4, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    for alpha, sigma in (
        (torch.tensor(1.0), torch.tensor(level)),
        (torch.tensor(0.6), torch.tensor(0.6 * level)),
    ):
        alpha, sigma = alpha.double(), sigma.double()
        x_t = alpha * x + sigma * z
        output = parametrisation.target(x, z, alpha, sigma)
        assert torch.allclose(parametrisation.clean(output, x_t, alpha, sigma), x, atol=1e-6)


@pytest.mark.parametrize("denoiser", named(examples.denoisers))
class TestDenoiser:
    def state(self, denoiser):
        inner = denoiser.inner if isinstance(denoiser, Below) else getattr(denoiser, "prior", denoiser)
        shape, dtype = (3, 1, 16, 16), torch.float32
        if isinstance(inner, GaussianDenoiser):
            # A conditioned denoiser answers for one frame less than its prior knows.
            own = inner.mean[1:] if hasattr(denoiser, "past") else inner.mean
            shape, dtype = (3, *own.shape), torch.float64
        return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=dtype)

    def test_keeps_shape_and_dtype(self, denoiser):
        x_t = self.state(denoiser)
        for t in (0.0, 0.5, 1.0):
            clean = denoiser(x_t, torch.full((3,), t, dtype=torch.float64))
            assert clean.shape == x_t.shape
            assert clean.dtype == x_t.dtype
            assert torch.isfinite(clean).all()

    def test_changes_little_where_there_is_no_noise(self, denoiser):
        x = self.state(denoiser)
        t = torch.zeros(3, dtype=torch.float64)
        alpha = float(denoiser.schedule(t[:1])[0])
        assert (denoiser(alpha * x, t) - x).norm() < 0.05 * x.norm()

    def test_lets_gradients_through(self, denoiser):
        x_t = self.state(denoiser).requires_grad_()
        denoiser(x_t, torch.full((3,), 0.3, dtype=torch.float64)).sum().backward()
        assert x_t.grad is not None
        assert x_t.grad.abs().sum() > 0


@pytest.mark.parametrize("sampler", named(examples.samplers))
def test_a_sampler_draws_from_the_distribution_of_its_denoiser(sampler: Sampler):
    mean, deviation = torch.tensor([0.4], dtype=torch.float64), 0.7
    schedule: Schedule = EDM(sigma_min=0.002, sigma_max=20.0)
    covariance = torch.tensor([[deviation**2]], dtype=torch.float64)
    denoiser: Denoiser = GaussianDenoiser(mean, covariance, schedule=schedule)
    draw = torch.Generator().manual_seed(8)
    count = 4000
    noise = 20.0 * torch.randn(count, 1, generator=draw, dtype=torch.float64)
    samples = sampler.sample(denoiser, noise, generator=draw)[:, 0]
    # Four standard errors of 4000 draws, and two percent for the discretisation of time.
    assert float(samples.mean()) == pytest.approx(0.4, abs=4 * deviation / count**0.5 + 0.02 * deviation)
    assert float(samples.std()) == pytest.approx(deviation, rel=4 / (2 * count) ** 0.5 + 0.02)
    ordered = samples.sort().values
    normal = 0.5 * (1 + torch.erf((ordered - 0.4) / deviation / 2**0.5))
    gap = (normal - (torch.arange(count) + 0.5) / count).abs().max()
    # Kolmogorov's 1 % point is 1.63 / sqrt(n); the two percent above move the curve by at most 0.01.
    assert float(gap) < 1.63 / count**0.5 + 0.01


@pytest.mark.parametrize("codec", named(examples.codecs))
def test_a_codec_undoes_itself(codec: Codec):
    physical = torch.linspace(codec.low, codec.high, 101)
    network = codec.encode(physical)
    assert torch.allclose(codec.decode(network), physical, atol=1e-3)  # float32 holds 1500 to 1e-4
    assert (network.diff() > 0).all()


def test_families_are_complete():
    assert set(examples.EXAMPLES) == set(FAMILIES)
    assert {LinearOperator, Functional, IterativeMethod, Reconstructor, Parametrisation} <= set(FAMILIES)
