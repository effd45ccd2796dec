"""Compiled loops for rays that cross slices: forward projection and its adjoint from one ``ConeTable``.

At a crossing the two pixels beside a column's line are blended into one vertical profile

    P(k) = (1 - w) I(j, k) + w I(j + 1, k),        ray r:  (1 - f) P(k) + f P(k + 1),   k + f = z(i, r)

so a sample costs two numbers, not four. The adjoint goes backwards: the rows of a column are collected in a
profile, which is added to the two pixels. Heights are fused multiply-adds in float64 of the same numbers in both
directions, so the weights are the same to the last bit. Rows come in bundles of ``LANES``; profiles are padded, so that
rows of a bundle that miss the volume read zeros.

The forward projector owns views, the adjoint tiles of the (y, x) plane: no two workers ever write the same number,
every sum has a fixed order, and results do not depend on the number of workers.
"""

# Numba infers the types of compiled loops; mypy does not see them.
# mypy: ignore-errors

import math

import numpy as np

from recon.operators.backends.numba_cpu.simd import (
    add,
    add_pairs,
    between,
    fma,
    fused,
    load,
    multiply,
    ramp,
    remainder,
    shares,
    spread,
    store,
    whole,
)
from recon.operators.backends.numba_cpu.tiles import MASK, SCALE, compiled, part_in_tile
from recon.operators.rays import FRACTION_BITS

LANES = 8
WIDE = (0, 0, 0)


@compiled
def rows_inside(a, b, rows, low, top):
    """Return the range of rows within [first, stop) where low <= a + b * r < top, exactly."""
    begin, end = rows
    start, last = fused(b, begin, a), fused(b, end - 1, a)
    if low <= start < top and low <= last < top:
        return begin, end
    if b == 0:
        return begin, begin
    near, far = (low - a) / b, (top - a) / b
    # Division only proposes the ends; the heights themselves decide.
    near, far = min(near, far), max(near, far)
    if near >= end or far < begin - 1:
        return begin, begin
    begin, end = int(max(begin, near - 1)), int(min(end, far + 2))
    while begin < end and not low <= fused(b, begin, a) < top:
        begin += 1
    while end > begin and not low <= fused(b, end - 1, a) < top:
        end -= 1
    return begin, end


@compiled
def slices_of(a, b, begin, end, low, top):
    """Return the first and last slice that rows [begin, end) touch, within [low, top)."""
    k0, k1 = int(fused(b, begin, a)), int(fused(b, end - 1, a))
    return max(min(k0, k1), low), min(max(k0, k1) + 1, top - 1)


@compiled
def forward(image, sinogram, table, columns, work):
    """Add the sums along the rows that follow their column's line to the owned views; ``lengthen`` comes next.

    Args:
        image: (y, x, z), contiguous. sinogram: (view, column, row), contiguous, zero.
        table: driving axis, offset, slope, first and stop of the table's lines, ``height`` and ``upright``.
        columns: what ``columns_of_tiles`` found.
        work: slices of padding, tile edge, tiles along y and x, first owned view, one past the last.
    """
    along_y, offset, slope, first, stop, height, upright = table
    pad, tile, tiles, view0, view1 = work
    nz, rows_all = image.shape[2], sinogram.shape[2]
    pitch = (nz // LANES + 2) * LANES
    buffer = np.zeros((tile + 2) * (tile + 3) * pitch, image.dtype)
    profile = np.zeros(nz + 2 * pad + LANES, image.dtype)
    total = np.zeros(rows_all + LANES, image.dtype)
    one = image.dtype.type(1.0)
    for t in range(tiles[0] * tiles[1]):
        y0, x0 = t // tiles[1] * tile, t % tiles[1] * tile
        fill(buffer, image, (y0, x0, tile, pitch))
        for v in range(view0, view1):
            for c in range(columns[v, t, 0], columns[v, t, 1]):
                line = offset[v, c], slope[v, c], first[v, c], stop[v, c]
                i_begin, i_end, i0, j0 = part_in_tile(along_y[v, c], line, (y0, x0, tile))
                rows = upright[v, c, 0], upright[v, c, 1]
                if i_begin >= i_end or rows[0] >= rows[1]:
                    continue
                a0, a1, b0, b1 = height[v, c, 0] + pad, height[v, c, 1], height[v, c, 2], height[v, c, 3]
                along, across = ((tile + 3) * pitch, pitch) if along_y[v, c] else (pitch, (tile + 3) * pitch)
                total[:] = 0
                for i in range(i_begin, i_end):
                    a, b = fused(a1, i, a0), fused(b1, i, b0)
                    begin, end = rows_inside(a, b, rows, pad - 1.0, float(pad + nz))
                    if begin >= end:
                        continue
                    p = line[0] + line[1] * i
                    share = image.dtype.type((p & MASK) * SCALE)
                    here = (i - i0 + 1) * along + ((p >> FRACTION_BITS) - j0 + 1) * across - pad
                    near, far = spread(image, one - share, WIDE), spread(image, share, WIDE)
                    k0, k1 = slices_of(a, b, begin, end, pad, pad + nz)
                    # Whole bundles: ``pad`` is a multiple of LANES, and the pitch has room beyond the last slice.
                    for k in range(k0 - k0 % LANES, k1 + 1, LANES):
                        left = multiply(near, load(buffer, here + k, WIDE))
                        store(profile, k, fma(far, load(buffer, here + across + k, WIDE), left))
                    for at in range(begin - begin % LANES, end, LANES):
                        z = ramp(a, b, at, WIDE)
                        level = whole(z)
                        sample = between(profile, 0, level, remainder(image, z, level))
                        store(total, at, add(load(total, at, WIDE), sample))
                for r in range(rows[0], rows[1]):
                    sinogram[v, c, r] += total[r]


@compiled
def lengthen(source, target, lengths, views):
    """Write ``source`` times the length of ray per driving index to the owned views of ``target``.

    ``lengths`` are the step of the table's lines, ``height``, ``upright`` and dz. Rows that do not follow their
    column's line become zero.
    """
    step, height, upright, dz = lengths
    for v in range(views[0], views[1]):
        for c in range(source.shape[1]):
            first, stop = upright[v, c, 0], upright[v, c, 1]
            target[v, c, :first] = 0
            for r in range(first, stop):
                rise = dz * fused(height[v, c, 3], r, height[v, c, 1])
                length = math.sqrt(fused(step[v, c], step[v, c], rise * rise))
                target[v, c, r] = source[v, c, r] * source.dtype.type(length)
            target[v, c, stop:] = 0


@compiled
def fill(buffer, image, block):
    """Copy a tile of the image to a buffer with a border of one zero pixel."""
    y0, x0, tile, pitch = block
    ny, nx, nz = image.shape
    height, width = min(tile, ny - y0), min(tile, nx - x0)
    if height < tile or width < tile:
        buffer[:] = 0
    for y in range(height):
        for x in range(width):
            at = ((y + 1) * (tile + 3) + x + 1) * pitch
            for k in range(nz):
                buffer[at + k] = image[y0 + y, x0 + x, k]


@compiled
def adjoint(sinogram, image, table, columns, work):
    """Add the backprojection of the rows that follow their column's line to the owned tiles of ``image``.

    Args:
        sinogram: (view, column, row), contiguous, from ``lengthen``. image: (y, x, z), contiguous.
        table: as for ``forward``.
        columns: what ``columns_of_tiles`` found.
        work: slices of padding, tile edge, tiles along y and x, first owned tile, one past the last.
    """
    along_y, offset, slope, first, stop, height, upright = table
    pad, tile, tiles, tile0, tile1 = work
    ny, nx, nz = image.shape
    pitch = (nz // LANES + 2) * LANES
    buffer = np.empty((tile + 2) * (tile + 3) * pitch, image.dtype)
    stride = pitch + 2 * pad
    profile = np.zeros(4 * stride, image.dtype)
    value = np.zeros(sinogram.shape[2] + LANES, image.dtype)
    one = image.dtype.type(1.0)
    for t in range(tile0, tile1):
        y0, x0 = t // tiles[1] * tile, t % tiles[1] * tile
        buffer[:] = 0
        for v in range(sinogram.shape[0]):
            for c in range(columns[v, t, 0], columns[v, t, 1]):
                line = offset[v, c], slope[v, c], first[v, c], stop[v, c]
                i_begin, i_end, i0, j0 = part_in_tile(along_y[v, c], line, (y0, x0, tile))
                rows = upright[v, c, 0], upright[v, c, 1]
                if i_begin >= i_end or rows[0] >= rows[1]:
                    continue
                a0, a1, b0, b1 = height[v, c, 0] + pad, height[v, c, 1], height[v, c, 2], height[v, c, 3]
                along, across = ((tile + 3) * pitch, pitch) if along_y[v, c] else (pitch, (tile + 3) * pitch)
                for r in range(sinogram.shape[2]):
                    value[r] = sinogram[v, c, r]
                for i in range(i_begin, i_end):
                    a, b = fused(a1, i, a0), fused(b1, i, b0)
                    begin, end = rows_inside(a, b, rows, pad - 1.0, float(pad + nz))
                    if begin >= end:
                        continue
                    # Whole bundles: the rows added at either end miss the volume and land in the padding, which is
                    # dropped, or were set to zero by ``lengthen``.
                    begin -= begin % LANES
                    for at in range(begin, end, LANES):
                        z = ramp(a, b, at, WIDE)
                        level = whole(z)
                        pairs = shares(load(value, at, WIDE), remainder(image, z, level))
                        add_pairs(profile, 0, stride, level, pairs)
                    end += -end % LANES
                    p = line[0] + line[1] * i
                    far = image.dtype.type((p & MASK) * SCALE)
                    here = (i - i0 + 1) * along + ((p >> FRACTION_BITS) - j0 + 1) * across - pad
                    k0, k1 = slices_of(a, b, begin, end, 0, stride)
                    both = (here, here + across), (one - far, far)
                    collect(profile, stride, buffer, both, (k0, k1, pad, pad + nz))
        for y in range(min(tile, ny - y0)):
            for x in range(min(tile, nx - x0)):
                at = ((y + 1) * (tile + 3) + x + 1) * pitch
                for k in range(nz):
                    image[y0 + y, x0 + x, k] += buffer[at + k]


@compiled
def collect(profile, stride, buffer, pixels, slices):
    """Add the four parts of a profile to two pixels and clear them."""
    (at, beyond), weights = pixels
    k0, k1, low, top = slices
    zero = spread(buffer, 0.0, WIDE)
    near, far = spread(buffer, weights[0], WIDE), spread(buffer, weights[1], WIDE)
    for k in range(k0 - k0 % LANES, k1 + 1, LANES):
        total = load(profile, k, WIDE)
        store(profile, k, zero)
        for copy in range(1, 4):
            total = add(total, load(profile, copy * stride + k, WIDE))
            store(profile, copy * stride + k, zero)
        if low <= k < top:
            here, there = at + k, beyond + k
            store(buffer, here, fma(near, total, load(buffer, here, WIDE)))
            store(buffer, there, fma(far, total, load(buffer, there, WIDE)))
