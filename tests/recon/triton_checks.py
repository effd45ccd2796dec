"""What ``test_triton`` measures inside triton's interpreter; each function returns figures per orbit."""

import torch

from recon.geometry.orbits import FanFlat
from recon.geometry.volume import Volume
from recon.operators.projector import Projector
from tests.recon.test_projector import mismatch
from tests.recon.test_triton import ORBITS, VOLUME


def stacks() -> dict[str, dict[str, float]]:
    return {name: _figures(name) for name in ORBITS}


def _figures(name: str) -> dict[str, float]:
    scan = ORBITS[name].fit(VOLUME).scan()
    A, B = (Projector(VOLUME, scan, backend=kind) for kind in ("triton", "reference"))
    draw = torch.Generator().manual_seed(1)
    x, y = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in (A.domain, A.range))
    ax, aty, faded = B(x), B.adjoint(y), B.faded_adjoint(y)
    forward, adjoint = A(x.float()), A.adjoint(y.float())
    return {
        "forward": _relative(forward, ax),
        "adjoint": _relative(adjoint, aty),
        "faded": _relative(A.faded_adjoint(y.float()), faded),
        "forward64": _relative(A(x), ax),
        "pair": mismatch(A, x.float(), y.float()),
        "pair64": mismatch(A, x, y),
        "bfloat16": _relative(A(x.bfloat16()), ax),
        "repeats": torch.equal(adjoint, A.adjoint(y.float())) and torch.equal(forward, A(x.float())),
    }


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def gradients() -> dict[str, dict[str, float]]:
    volume = Volume((1, 4, 4), (1.0, 1.0, 1.0))
    scan = FanFlat(views=2, sod_mm=9, sdd_mm=14).fit(volume).scan()
    A = Projector(volume, scan, backend="triton")
    x = torch.rand(A.domain, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    return {
        "fan-flat": {
            "first": torch.autograd.gradcheck(A, x, fast_mode=True),
            "second": torch.autograd.gradgradcheck(lambda x: A(x) ** 2, x, fast_mode=True),
            "same_device": A(x).device == x.device,
        }
    }
