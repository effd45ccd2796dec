"""Two-dimensional flow: conserved quantities, known solutions, orders of convergence, the balance at equilibrium."""

import itertools
import math

import pytest
import torch

from assimilation.systems.base import generator, simulate
from assimilation.systems.kolmogorov import Kolmogorov
from assimilation.systems.navier_stokes import PHASES, NavierStokes
from assimilation.systems.spectral import LENGTH, Spectral

DOUBLE = torch.float64


def points(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    axis = LENGTH * torch.arange(size, dtype=DOUBLE) / size
    return axis[:, None], axis[None]


def smooth(size: int) -> torch.Tensor:
    """A vorticity that is the same function on every grid."""
    y, x = points(size)
    return torch.cos(x) * torch.cos(2 * y) + 0.7 * torch.sin(2 * x + y) + 0.5 * torch.cos(3 * x - 2 * y)


def gradient_squared(flow: Spectral, w: torch.Tensor) -> torch.Tensor:
    """Mean of |grad w|^2 by Parseval's theorem, counting the half of the spectrum that rfft leaves out."""
    double = torch.full((flow.size // 2 + 1,), 2.0, dtype=DOUBLE)
    double[0] = double[-1] = 1
    power = torch.fft.rfft2(w).abs() ** 2 * flow.squared * double
    return power.sum((-2, -1)) / flow.size**4


def test_velocity_and_vorticity_are_each_others_inverse():
    flow = Spectral(48, 0.1, viscosity=0.0, drag=0.0, dtype=DOUBLE)
    w = smooth(48)
    velocity = flow.velocity(flow.coefficients(w))
    torch.testing.assert_close(flow.field(flow.vorticity(velocity)), w, atol=1e-12, rtol=0)
    y, x = points(48)
    # psi = sin(x) sin(2 y) has w = 5 psi, u = dpsi/dy, v = -dpsi/dx.
    u, v = flow.velocity(flow.coefficients(5 * torch.sin(x) * torch.sin(2 * y)))
    torch.testing.assert_close(u, 2 * torch.sin(x) * torch.cos(2 * y), atol=1e-12, rtol=0)
    torch.testing.assert_close(v, -torch.cos(x) * torch.sin(2 * y), atol=1e-12, rtol=0)


def test_advection_is_the_product_of_its_definition():
    flow = Spectral(64, 0.1, viscosity=0.0, drag=0.0, dtype=DOUBLE)
    y, x = points(64)
    # w = cos x + sin 2y: psi = cos x + sin(2y)/4, u = cos(2y)/2, v = sin x.
    expected = -(torch.cos(2 * y) / 2 * -torch.sin(x) + torch.sin(x) * 2 * torch.cos(2 * y))
    got = flow.field(flow.advection(flow.coefficients(torch.cos(x) + torch.sin(2 * y))))
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


def test_advection_conserves_enstrophy_and_energy():
    flow = Spectral(64, 0.1, viscosity=0.0, drag=0.0, dtype=DOUBLE)
    w = flow.coefficients(torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=DOUBLE))
    change, field = flow.field(flow.advection(w)), flow.field(w)
    inverse = torch.where(flow.squared > 0, 1 / flow.squared.clamp(min=1), 0.0)
    psi = flow.field(w * inverse)
    for weight in (field, psi):
        # Rounding of 4096 products, relative to the sum of their sizes.
        scale = (weight * change).abs().sum((-2, -1))
        assert ((weight * change).sum((-2, -1)).abs() < 1e-12 * scale).all()


def test_a_taylor_green_vortex_decays_as_it_must():
    system = NavierStokes(viscosity=0.02, drag=0.1, amplitude=0.0, frame=1.0)
    y, x = points(64)
    start = (torch.cos(3 * x) * torch.cos(3 * y))[None, None]
    got = system.step(start, torch.Generator())
    # Its advection vanishes and the linear terms are integrated exactly: rounding only.
    torch.testing.assert_close(got, start * math.exp(-(0.02 * 18 + 0.1)), atol=1e-13, rtol=0)


def test_halving_the_time_step_divides_the_error_by_sixteen():
    def advanced(count: int) -> torch.Tensor:
        flow = Spectral(48, 1.0 / count, viscosity=2e-3, drag=0.1, dtype=DOUBLE)
        w = flow.coefficients(2 * smooth(48))
        for _ in range(count):
            w = flow.step(w)
        return flow.field(w)

    fine = advanced(320)
    errors = [float((advanced(count) - fine).norm()) for count in (20, 40, 80)]
    for coarse, finer in itertools.pairwise(errors):
        assert coarse / finer == pytest.approx(16, rel=0.2)


def test_the_error_of_the_grid_falls_faster_than_any_power():
    def advanced(size: int) -> torch.Tensor:
        flow = Spectral(size, 0.02, viscosity=5e-3, drag=0.1, dtype=DOUBLE)
        w = flow.coefficients(smooth(size))
        for _ in range(75):
            w = flow.step(w)
        return flow.field(w)[:: size // 16, :: size // 16]

    fine = advanced(128)
    errors = [float((advanced(size) - fine).norm() / fine.norm()) for size in (16, 32, 64)]
    # Doubling the points gains more than an order of magnitude, and gains more the second time.
    assert errors[0] / errors[1] > 10
    assert errors[1] / errors[2] > errors[0] / errors[1]
    assert errors[2] < 1e-4


def test_the_random_forcing_has_the_exact_variance_of_its_linear_equation():
    # From rest, and weak, so that the advection plays no part: every phi_j is an Ornstein-Uhlenbeck process.
    system = NavierStokes(amplitude=1e-3, viscosity=0.01, frame=2.0, time_step=0.2)
    count = 320
    w = system.step(torch.zeros(count, 1, 64, 64, dtype=DOUBLE), torch.Generator().manual_seed(1))
    y, x = points(64)
    functions = {"sin": torch.sin, "cos": torch.cos}
    for name, a, b in PHASES:
        phi = functions[name](a * x + b * y)
        amount = (w * phi).mean((1, 2, 3)) / (phi**2).mean()
        rate = 0.01 * (a**2 + b**2) + 0.1
        expected = 1e-3 * math.sqrt((1 - math.exp(-2 * rate * 2.0)) / (2 * rate))
        # A deviation from n draws errs by 1 / sqrt(2 n); four of those.
        assert float(amount.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * count))


def test_at_equilibrium_the_forcing_puts_in_what_viscosity_and_drag_take_out():
    system = NavierStokes()
    fields = simulate(system, trajectories=16, frames=40, seed=5)
    w = torch.from_numpy(fields.values[:, :, 0]).double()
    flow = Spectral(64, 0.05, viscosity=system.viscosity, drag=system.drag, dtype=DOUBLE)
    drag = system.drag * (w**2).mean()
    viscous = system.viscosity * gradient_squared(flow, w).mean()
    # Enstrophy fluctuates by a fifth within a trajectory and forgets itself in about ten frames: 16 x 4 free
    # samples leave 3 %; the change of the stored enstrophy over the 20 units of time adds as much.
    assert float(drag + viscous) == pytest.approx(system.input_rate(), rel=0.1)
    assert viscous > 0.3 * drag


def test_frames_at_equilibrium_resemble_the_last_one_as_documented():
    w = simulate(NavierStokes(), trajectories=8, frames=12, seed=6).values
    correlation = (w[:, 1:] * w[:, :-1]).mean() / (w**2).mean()
    assert 0.7 < correlation < 0.85


def test_single_precision_follows_double():
    system = NavierStokes()
    start = system.initial(2, generator(0, 0), dtype=DOUBLE)
    one = system.step(start, torch.Generator().manual_seed(2))
    two = system.step(start.float(), torch.Generator().manual_seed(2))
    assert one.dtype == DOUBLE
    assert two.dtype == torch.float32
    # Ten steps of transforms at 1e-7 each, amplified by less than e per unit of time.
    assert (one - two).norm() < 1e-5 * one.norm()


class TestKolmogorov:
    def test_the_laminar_flow_stays(self):
        system = Kolmogorov(viscosity=0.1)
        y, _ = points(64)
        laminar = torch.zeros(1, 2, 64, 64, dtype=DOUBLE)
        laminar[0, 0] = torch.sin(4 * y) / (0.1 * 16 + 0.1)
        after = system.step(laminar, torch.Generator())
        # Forcing and decay balance; the Runge-Kutta step integrates the constant forcing to 4th order.
        torch.testing.assert_close(after, laminar, atol=1e-8, rtol=0)

    def test_the_default_step_is_small_enough(self):
        draw = torch.Generator().manual_seed(3)
        state = Kolmogorov().initial(2, draw)
        exact = Kolmogorov(time_step=0.003).step(state.double(), draw)
        # One frame at the default step stays within the rounding of float32 and its growth.
        assert (Kolmogorov().step(state, draw) - exact).norm() < 1e-4 * exact.norm()
        assert 0.5 < float(state.std()) < 2

    def test_velocity_has_no_divergence(self):
        system, draw = Kolmogorov(), torch.Generator().manual_seed(4)
        state = system.step(system.start(1, draw, dtype=DOUBLE), draw)
        k = torch.fft.fftfreq(64, 1 / 64, dtype=DOUBLE)
        flow = torch.fft.fft2(state[0])
        divergence = k[None] * flow[0] + k[:, None] * flow[1]
        assert divergence.abs().max() < 1e-10 * flow.abs().max()
