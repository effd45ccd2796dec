r"""What of a difference between two volumes no measurement can see: its share in the null space of the projector.

    x = x_r + x_n,     x_r = A^+ A x,     share = ||x_n||^2 / ||x||^2

x_r is approached by conjugate gradients on min ||A v - A x||, whose iterates stay in the range of A.T (CGLS). After
few steps what they have not reached yet counts as unseen: it is what data of finite precision hardly see either.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from priors.linalg import cg
from recon.operators.base import LinearOperator

ITERATIONS = 40
TOLERANCE = 1e-4


def null_space_share(
    x: Float[Tensor, "z y x"], projector: LinearOperator, *, iterations: int = ITERATIONS
) -> float:
    """Return the share of the energy of ``x`` in the null space of the projector, 0 to 1; 0 of nothing."""
    energy = float(x.square().sum(dtype=torch.float64))
    if energy == 0:
        return 0.0
    with torch.no_grad():
        # Beyond what float32 resolves, steps on a singular system lose what they have reached.
        target = projector.adjoint(projector(x))
        seen = cg(projector.normal, target, iterations=iterations, tolerance=TOLERANCE)
    return min(1.0, float((x - seen).square().sum(dtype=torch.float64)) / energy)
