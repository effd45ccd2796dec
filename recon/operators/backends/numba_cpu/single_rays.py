"""Compiled loops for rays traced one by one: any direction, any detector, Joseph's method in three dimensions.

A ray is driven along the axis on which it moves most voxels; at driving index i it crosses the two other axes at

    p(i) = p0 + p1 i,      q(i) = q0 + q1 i

between four voxels, which share it bilinearly. The table of such rays would be as large as a sinogram, so each ray is
worked out from the poses of its view when it is needed, by the same operations in both directions. The forward
projector owns views, the adjoint a range of y: every voxel receives its rays in the same order whoever owns it.
"""

# Numba infers the types of compiled loops; mypy does not see them.
# mypy: ignore-errors

import math

from recon.operators.backends.numba_cpu.simd import fused
from recon.operators.backends.numba_cpu.tiles import compiled


@compiled
def trace_ray(pose, voxel, kind, pixel, shape):
    """Return driving axis (0 x, 1 y, 2 z), first and last index + 1, p0, p1, q0, q1 and the length per index in mm.

    Args:
        pose: source or direction, detector centre, u and v in voxels (x, y, z).
        voxel: size in mm (x, y, z).
        kind: 0 parallel, 1 flat, 2 curved.
        pixel: column and row from the middle of the detector.
        shape: voxels along x, y and z.
    """
    column, row = pixel
    bend = (0.0, 0.0, 0.0)
    if kind == 2:
        bend = _bent(pose, voxel, column)
    x, y, z = (
        _coordinate(pose, kind, (column, row, bend), 0),
        _coordinate(pose, kind, (column, row, bend), 1),
        _coordinate(pose, kind, (column, row, bend), 2),
    )
    if abs(z[1]) > max(abs(x[1]), abs(y[1])):
        axis, drive, p, q, count, np_, nq = 2, z, x, y, shape[2], shape[0], shape[1]
    elif abs(x[1]) < abs(y[1]):
        axis, drive, p, q, count, np_, nq = 1, y, x, z, shape[1], shape[0], shape[2]
    else:
        axis, drive, p, q, count, np_, nq = 0, x, y, z, shape[0], shape[1], shape[2]
    p1, q1 = p[1] / drive[1], q[1] / drive[1]
    p0, q0 = p[0] - p1 * drive[0], q[0] - q1 * drive[0]
    first, stop = 0, count
    # Only the half of the line in front of the source is a ray; parallel rays have no source.
    if kind > 0 and drive[1] > 0:
        first = int(min(max(math.ceil(drive[0]), 0.0), float(count)))
    if kind > 0 and drive[1] < 0:
        stop = int(min(max(math.floor(drive[0]) + 1, 0.0), float(count)))
    first, stop = clipped(p0, p1, (-1.0, float(np_)), (first, stop))
    first, stop = clipped(q0, q1, (-1.0, float(nq)), (first, stop))
    length = math.sqrt((voxel[0] * x[1]) ** 2 + (voxel[1] * y[1]) ** 2 + (voxel[2] * z[1]) ** 2)
    return axis, first, stop, p0, p1, q0, q1, length / abs(drive[1])


@compiled
def _bent(pose, voxel, column):
    """Return what a curved detector needs: cosine and radius / pitch * sine of the column's angle, and the rise of its
    middle above the source in steps of v."""
    rise, square, steps, pitch = 0.0, 0.0, 0.0, 0.0
    for axis in range(3):
        reach, v = voxel[axis] * (pose[1, axis] - pose[0, axis]), voxel[axis] * pose[3, axis]
        rise += reach * v
        square += reach * reach
        steps += v * v
        pitch += (voxel[axis] * pose[2, axis]) ** 2
    rise = rise / steps
    radius = math.sqrt((square - rise * rise * steps) / pitch)
    return math.cos(column / radius), radius * math.sin(column / radius), rise


@compiled
def _coordinate(pose, kind, pixel, axis):
    """Return where a ray starts and its direction along one axis, in voxels."""
    column, row, bend = pixel
    if kind == 0:
        return pose[1, axis] + column * pose[2, axis] + row * pose[3, axis], pose[0, axis]
    reach = pose[1, axis] - pose[0, axis]
    if kind == 1:
        return pose[0, axis], reach + column * pose[2, axis] + row * pose[3, axis]
    across = bend[0] * (reach - bend[2] * pose[3, axis]) + bend[1] * pose[2, axis]
    return pose[0, axis], across + (bend[2] + row) * pose[3, axis]


@compiled
def clipped(start, slope, bounds, indices):
    """Return the part of [first, stop), one index too many at most, where low < start + slope * i < high."""
    low, high = bounds
    first, stop = indices
    if abs(slope) < 1e-12:
        return (first, stop) if low - 1 < start < high + 1 else (first, first)
    near, far = (low - start) / slope, (high - start) / slope
    near, far = min(near, far), max(near, far)
    if near >= stop or far < first:
        return first, first
    return max(first, int(max(near, first - 1.0))), min(stop, int(min(far, stop + 1.0)) + 1)


@compiled
def forward(image, sinogram, rays, view0, view1):
    """Write the rays that do not follow their column's line to the owned views.

    Args:
        image: (y, x, z), contiguous. sinogram: (view, column, row), contiguous.
        rays: poses, voxel size, kind and ``upright`` of the table.
        view0: first owned view. view1: one past the last.
    """
    poses, voxel, kind, upright = rays
    ny, nx, nz = image.shape
    strides = (nz, nx * nz, 1)
    voxels = image.reshape(-1)
    _, columns, rows = sinogram.shape
    for v in range(view0, view1):
        for c in range(columns):
            for r in range(rows):
                if upright[v, c, 0] <= r < upright[v, c, 1]:
                    continue
                pixel = (c - (columns - 1) / 2, r - (rows - 1) / 2)
                axis, first, stop, p0, p1, q0, q1, length = trace_ray(
                    poses[v], voxel, kind, pixel, (nx, ny, nz)
                )
                along, dp, dq, np_, nq = _layout(axis, strides, (nx, ny, nz))
                total = 0.0
                for i in range(first, stop):
                    p, q = fused(p1, i, p0), fused(q1, i, q0)
                    j, k = math.floor(p), math.floor(q)
                    s, t = p - j, q - k
                    at = i * along + j * dp + k * dq
                    if 0 <= j < np_:
                        if 0 <= k < nq:
                            total += (1 - s) * (1 - t) * voxels[at]
                        if 0 <= k + 1 < nq:
                            total += (1 - s) * t * voxels[at + dq]
                    if 0 <= j + 1 < np_:
                        if 0 <= k < nq:
                            total += s * (1 - t) * voxels[at + dp]
                        if 0 <= k + 1 < nq:
                            total += s * t * voxels[at + dp + dq]
                sinogram[v, c, r] = total * length


@compiled
def adjoint(sinogram, image, rays, y0, y1):
    """Add the backprojection of the rays that do not follow their column's line to the owned rows of ``image``.

    Arguments are those of ``forward``, with a range of y instead of views.
    """
    poses, voxel, kind, upright = rays
    ny, nx, nz = image.shape
    strides = (nz, nx * nz, 1)
    voxels = image.reshape(-1)
    views, columns, rows = sinogram.shape
    for v in range(views):
        for c in range(columns):
            for r in range(rows):
                if upright[v, c, 0] <= r < upright[v, c, 1]:
                    continue
                pixel = (c - (columns - 1) / 2, r - (rows - 1) / 2)
                axis, first, stop, p0, p1, q0, q1, length = trace_ray(
                    poses[v], voxel, kind, pixel, (nx, ny, nz)
                )
                along, dp, dq, np_, nq = _layout(axis, strides, (nx, ny, nz))
                value = sinogram[v, c, r] * length
                # The owned range of y: of the driving axis, or of p or q.
                jl, jh, kl, kh = 0, np_, 0, nq
                if axis == 1:
                    first, stop = max(first, y0), min(stop, y1)
                elif axis == 0:
                    jl, jh = y0, y1
                    first, stop = clipped(p0, p1, (y0 - 1.0, float(y1)), (first, stop))
                else:
                    kl, kh = y0, y1
                    first, stop = clipped(q0, q1, (y0 - 1.0, float(y1)), (first, stop))
                for i in range(first, stop):
                    p, q = fused(p1, i, p0), fused(q1, i, q0)
                    j, k = math.floor(p), math.floor(q)
                    s, t = p - j, q - k
                    at = i * along + j * dp + k * dq
                    if jl <= j < jh:
                        if kl <= k < kh:
                            voxels[at] += (1 - s) * (1 - t) * value
                        if kl <= k + 1 < kh:
                            voxels[at + dq] += (1 - s) * t * value
                    if jl <= j + 1 < jh:
                        if kl <= k < kh:
                            voxels[at + dp] += s * (1 - t) * value
                        if kl <= k + 1 < kh:
                            voxels[at + dp + dq] += s * t * value


@compiled
def _layout(axis, strides, shape):
    """Return the steps in memory along the driving axis, p and q, and the sizes of p and q."""
    if axis == 0:
        return strides[0], strides[1], strides[2], shape[1], shape[2]
    if axis == 1:
        return strides[1], strides[0], strides[2], shape[0], shape[2]
    return strides[2], strides[0], strides[1], shape[0], shape[1]
