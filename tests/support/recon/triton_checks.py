"""What ``test_triton`` measures inside triton's interpreter; each function returns figures per orbit."""

import torch

from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, DetectorOrbit, FanFlat, HelicalCone
from recon.operators.projector import Projector
from tests.recon.operators.test_triton import ORBITS, VOLUME

SMALL = Grid((5, 10, 9), (1.5, 1.3, 1.3), (1.0, 2.0, -1.0))
CONE = {"sod_mm": 60.0, "sdd_mm": 100.0}
CONES: dict[str, DetectorOrbit] = {
    "flat": CircularCone(views=1, start_deg=3, offset_columns=0.25, **CONE),
    "curved": CircularCone(views=1, start_deg=40, detector="curved", offset_rows=1.3, **CONE),
    "helix": HelicalCone(views_per_turn=2, turns=1, pitch_mm=9, **CONE),
}


def stacks() -> dict[str, dict[str, float]]:
    return {name: _figures(name) for name in ORBITS}


def _figures(name: str) -> dict[str, float]:
    scan = ORBITS[name].fit(VOLUME).geometry()
    A, B = (Projector(scan, VOLUME, backend=kind) for kind in ("triton", "reference"))
    found = _pair(A, B)
    draw = torch.Generator().manual_seed(2)
    y = torch.randn(A.range, generator=draw)
    if not scan.parallel:
        found["faded"] = _relative(A.distance_weighted_adjoint(y), B.distance_weighted_adjoint(y.double()))
        return found
    x = torch.randn(A.domain, generator=draw)
    found["bfloat16"] = _relative(A(x.bfloat16()), B(x.double()))
    found["repeats"] = torch.equal(A.adjoint(y), A.adjoint(y))
    return found


def cones() -> dict[str, dict[str, float]]:
    found = {}
    for name, orbit in CONES.items():
        scan = orbit.fit(SMALL).geometry()[:1]
        found[name] = _pair(*(Projector(scan, SMALL, backend=kind) for kind in ("triton", "reference")))
    return found


def _pair(A: Projector, B: Projector) -> dict[str, float]:
    """Return the errors of A and A.T against B, and how well they are matched, in both precisions."""
    draw = torch.Generator().manual_seed(1)
    x, y = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in (A.domain, A.range))
    found = {}
    for dtype, name in ((torch.float32, "32"), (torch.float64, "64")):
        ax, aty = A(x.to(dtype)).double(), A.adjoint(y.to(dtype)).double()
        found |= {f"forward{name}": _relative(ax, B(x)), f"adjoint{name}": _relative(aty, B.adjoint(y))}
        found[f"pair{name}"] = float(abs((ax * y).sum() - (x * aty).sum()) / (ax.norm() * y.norm()))
    return found


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def gradients() -> dict[str, dict[str, float]]:
    volume = Grid((1, 4, 4), (1.0, 1.0, 1.0))
    scan = FanFlat(views=2, sod_mm=9, sdd_mm=14).fit(volume).geometry()
    A = Projector(scan, volume, backend="triton")
    x = torch.rand(A.domain, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    return {
        "fan-flat": {
            "first": torch.autograd.gradcheck(A, x, fast_mode=True),
            "second": torch.autograd.gradgradcheck(lambda x: A(x) ** 2, x, fast_mode=True),
            "same_device": A(x).device == x.device,
        }
    }
