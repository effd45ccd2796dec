"""Linear algebra on callables: conjugate gradients, GMRES and the norm of a self-adjoint operator.

    cg:          x_{k+1} = x_k + a d,   a = |r|^2 / <d, M d>,   d the M-conjugate residual directions
    power_norm:  v <- M v / |M v|,      |M v| -> largest eigenvalue

M is symmetric and positive semidefinite in the inner product that sums over all elements, and is never
stored. Arrays may have any shape and memory layout; inner products are summed in float64, since the float32
sum of 10^7 products loses the digits that make directions conjugate.

``cg_each`` and ``gmres_each`` solve (I + G) x = b for every sample of a batch on its own and return not x but L x,
where one call of ``apply`` gives G d and L d: with G = H L the product L x then costs nothing more.

Sources: Hestenes and Stiefel, Journal of Research of the NBS 49 (1952) 409; Saad and Schultz, SIAM Journal on
Scientific and Statistical Computing 7 (1986) 856.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError

Operator = Callable[[Tensor], Tensor]
PairOperator = Callable[[Tensor], tuple[Tensor, Tensor]]


def inner(x: Float[Tensor, "*shape"], y: Float[Tensor, "*shape"]) -> float:
    """Return the sum of products, accumulated in float64."""
    return float((x * y).sum(dtype=torch.float64))


def cg(
    matvec: Operator,
    b: Float[Tensor, "*shape"],
    x0: Float[Tensor, "*shape"] | None = None,
    *,
    iterations: int,
    tolerance: float = 0.0,
) -> Float[Tensor, "*shape"]:
    """Solve M x = b by conjugate gradients.

    Args:
        matvec: M, symmetric positive semidefinite.
        b: right-hand side; in the range of M if M is singular.
        x0: first guess, zero by default.
        iterations: largest number of applications of M (one more with ``x0``).
        tolerance: stop when |b - M x| <= tolerance * |b|.

    Raises:
        InputError: a product is not finite, or M is not positive semidefinite.
    """
    x = torch.zeros_like(b) if x0 is None else x0.clone()
    residual = b.clone() if x0 is None else b - matvec(x0)
    direction = residual.clone()
    squared = inner(residual, residual)
    target = tolerance**2 * inner(b, b)
    for iteration in range(iterations):
        if squared == 0 or squared <= target:
            break
        image = matvec(direction)
        curvature = inner(direction, image)
        _check_finite(curvature, iteration)
        # Rounding alone may turn the curvature of a singular operator slightly negative.
        if curvature < -1e-3 * math.sqrt(inner(direction, direction) * inner(image, image)):
            raise InputError("linear solver: the operator is not positive semidefinite")
        if curvature <= 0:
            break
        step = squared / curvature
        x.add_(direction, alpha=step)
        residual.add_(image, alpha=-step)
        previous, squared = squared, inner(residual, residual)
        direction.mul_(squared / previous).add_(residual)
    return x


def cg_each(
    apply: PairOperator, b: Float[Tensor, "b n"], *, iterations: int, tolerance: float = 0.0
) -> Float[Tensor, "b ..."]:
    """Return L (I + G)^-1 b by conjugate gradients, sample by sample.

    Args:
        apply: d -> (G d, L d); G symmetric positive semidefinite for every sample.
        b: right-hand sides.
        iterations: calls of ``apply``, at least one.
        tolerance: a sample stays as it is once its residual is below this share of its right-hand side.
    """
    residual, direction = b, b
    squared = (b * b).sum(1)
    target = tolerance**2 * squared
    total: Tensor | float = 0.0
    for iteration in range(iterations):
        image, extra = apply(direction)
        image = direction + image
        length = (direction * direction).sum(1)
        # I + G >= I. The Jacobian of a trained network may break that: then G counts as zero along this direction.
        curvature = torch.maximum((direction * image).sum(1), length)
        step = torch.where(squared > target, squared / curvature, 0.0)
        total = total + step.reshape(-1, *(1,) * (extra.ndim - 1)) * extra
        if iteration == iterations - 1:
            break
        residual = residual - step[:, None] * image
        previous, squared = squared, (residual * residual).sum(1)
        if bool((squared <= target).all()):
            break
        direction = residual + torch.where(previous > 0, squared / previous, 0.0)[:, None] * direction
    return torch.as_tensor(total)


def gmres_each(apply: PairOperator, b: Float[Tensor, "b n"], *, iterations: int) -> Float[Tensor, "b ..."]:
    """Return L (I + G)^-1 b by GMRES, sample by sample; G need not be symmetric.

    Args:
        apply: d -> (G d, L d).
        b: right-hand sides.
        iterations: calls of ``apply``, the dimension of the Krylov space.

    Raises:
        InputError: a product is not finite.
    """
    norm = b.norm(dim=1, keepdim=True)
    basis = [torch.where(norm > 0, b / norm, 0.0)]
    extras: list[Tensor] = []
    hessenberg = b.new_zeros(len(b), iterations + 1, iterations)
    for j in range(iterations):
        image, extra = apply(basis[j])
        extras.append(extra)
        rest = basis[j] + image
        for i, old in enumerate(basis):
            hessenberg[:, i, j] = (old * rest).sum(1)
            rest = rest - hessenberg[:, i, j, None] * old
        length = rest.norm(dim=1, keepdim=True)
        hessenberg[:, j + 1, j] = length[:, 0]
        basis.append(torch.where(length > 1e-6 * norm, rest / length, 0.0))
    if not bool(torch.isfinite(hessenberg).all()):
        raise InputError(
            "linear solver: a value is not finite; check the units and sigma of what is observed"
        )
    # The pseudo-inverse also answers where a Krylov space ended early and its last columns are zero.
    weights = torch.linalg.pinv(hessenberg)[:, :, 0] * norm
    total = torch.zeros_like(extras[0])
    for j, extra in enumerate(extras):
        total = total + weights[:, j].reshape(-1, *(1,) * (extra.ndim - 1)) * extra
    return total


def power_norm(
    matvec: Operator, start: Float[Tensor, "*shape"], *, iterations: int = 100, tolerance: float = 1e-4
) -> float:
    """Return the largest eigenvalue of a self-adjoint positive semidefinite operator.

    Args:
        matvec: M; for the norm of W^(1/2) A pass x -> A.T W A x, whose eigenvalue is the norm squared.
        start: first vector; it must not be orthogonal to the leading one. A positive one suits projectors.
        iterations: largest number of applications of M.
        tolerance: stop when the estimate changes by less than this fraction.

    Raises:
        InputError: a product is not finite.
    """
    vector, value = start / start.norm(), 0.0
    for iteration in range(iterations):
        vector = matvec(vector)
        previous, value = value, math.sqrt(inner(vector, vector))
        _check_finite(value, iteration)
        if value == 0 or abs(value - previous) < tolerance * value:
            break
        vector = vector / value
    return value


def _check_finite(value: float, iteration: int) -> None:
    if not math.isfinite(value):
        raise InputError(f"linear solver: a value is NaN or infinite at iteration {iteration + 1}")
