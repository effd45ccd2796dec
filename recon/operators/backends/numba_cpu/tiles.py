"""Compiled loops over tiles of the image: forward projection and its adjoint from one ray table.

A tile of edge T is copied to a buffer with a border of one zero pixel and an odd row pitch; power-of-two
rows would all fall on the same cache lines. Rays cross the tile at driving indices i in [i0, i1), where

    j0 - 1 <= p(i) < j1,      p(i) = offset + slope * i,      pixels j = floor(p) and j + 1

so a crossing between two tiles is visited once in each and lands on the border of the other. Pixels hold a
bundle of slices (see ``simd``), which share the weights. The forward projector owns views and adds each
tile's share to the sinogram; the adjoint owns tiles. No two workers ever write the same number and the
order of sums is fixed, so results do not depend on the number of workers.
"""

# Numba infers the types of compiled loops; mypy does not see them.
# mypy: ignore-errors

import inspect

import numba
import numpy as np

from recon.operators.backends.numba_cpu.simd import add_scaled, fma, load, real, spread, store, two_fit
from recon.operators.rays import FRACTION_BITS

MASK = (1 << FRACTION_BITS) - 1
SCALE = 2.0**-FRACTION_BITS


def compiled(function):
    """Compile a loop; a run-time type checker may have wrapped it, which numba cannot see through."""
    return numba.njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)(
        inspect.unwrap(function)
    )


@compiled
def crossings(offset, slope, first, stop, low, high):
    """Return the range of i within [first, stop) where low <= offset + slope * i < high, exactly."""
    if slope == 0:
        return (first, stop) if low <= offset < high else (first, first)
    inverse = 1.0 / slope
    near, far = (low - offset) * inverse, (high - offset) * inverse
    # Floating point only proposes the ends; integers decide.
    begin = max(first, int(min(near, far)) - 1)
    end = min(stop, int(max(near, far)) + 2)
    while begin < end and not low <= offset + slope * begin < high:
        begin += 1
    while end > begin and not low <= offset + slope * (end - 1) < high:
        end -= 1
    return begin, end


@compiled
def part_in_tile(along_y, ray, tile):
    """Return the range of i in which a ray crosses a tile, and the tile's first i and j.

    Args:
        along_y: whether i is y.
        ray: offset, slope, first, stop.
        tile: y and x of its first pixel, its edge.
    """
    offset, slope, first, stop = ray
    y0, x0, edge = tile
    i0, j0 = (y0, x0) if along_y else (x0, y0)
    low, high = (j0 - 1) << FRACTION_BITS, (j0 + edge) << FRACTION_BITS
    begin, end = crossings(offset, slope, max(first, i0), min(stop, i0 + edge), low, high)
    return begin, end, i0, j0


@compiled
def columns_of_tiles(rays, tile, tiles):
    """Return, per view and tile, the first column that crosses it and one past the last."""
    along_y, offset, slope, _, first, stop = rays
    views, columns = offset.shape
    ranges = np.zeros((views, tiles[0] * tiles[1], 2), np.int32)
    for v in range(views):
        for c in range(columns):
            if first[v, c] >= stop[v, c]:
                continue
            across = tiles[1] if along_y[v, c] else tiles[0]
            for strip in range(first[v, c] // tile, (stop[v, c] - 1) // tile + 1):
                i0, i1 = max(first[v, c], strip * tile), min(stop[v, c], (strip + 1) * tile) - 1
                p0 = (offset[v, c] + slope[v, c] * i0) >> FRACTION_BITS
                p1 = (offset[v, c] + slope[v, c] * i1) >> FRACTION_BITS
                lowest, highest = min(p0, p1) // tile, (max(p0, p1) + 1) // tile
                for k in range(max(0, lowest), min(across - 1, highest) + 1):
                    t = strip * tiles[1] + k if along_y[v, c] else k * tiles[1] + strip
                    if ranges[v, t, 1] == 0:
                        ranges[v, t, 0] = c
                    ranges[v, t, 1] = c + 1
    return ranges


@compiled
def forward(image, sinogram, rays, work, doublings):
    """Add the projection of some slices to the owned views of ``sinogram``.

    Args:
        image: (y, x, slice), contiguous. sinogram: (view, column, slice), contiguous.
        rays: six columns of the ray table, and what ``columns_of_tiles`` found.
        work: tile edge, tiles along y and x, first slice, number of slices, first owned view, one past the
            last.
        doublings: width of the bundle.
    """
    along_y, offset, slope, step, first, stop, columns = rays
    tile, tiles, slice0, slices, view0, view1 = work
    lanes = 1 << len(doublings)
    pitch = (tile + 3) * lanes
    buffer = np.zeros((tile + 2) * pitch, image.dtype)
    spill = np.zeros(lanes, image.dtype)
    # Two sums do not wait for one another.
    two_sums = two_fit(image, doublings)
    lines = sinogram.reshape(-1)
    for t in range(tiles[0] * tiles[1]):
        y0, x0 = t // tiles[1] * tile, t % tiles[1] * tile
        _fill(buffer, pitch, lanes, image, (y0, x0, tile, slice0, slices))
        for v in range(view0, view1):
            for c in range(columns[v, t, 0], columns[v, t, 1]):
                ray = offset[v, c], slope[v, c], first[v, c], stop[v, c]
                begin, end, i0, j0 = part_in_tile(along_y[v, c], ray, (y0, x0, tile))
                if begin >= end:
                    continue
                along, across = (pitch, lanes) if along_y[v, c] else (lanes, pitch)
                at = (begin - i0 + 1) * along - (j0 - 1) * across
                p = ray[0] + ray[1] * begin
                length, scale = real(image, step[v, c]), real(image, step[v, c] * SCALE)
                total = spread(image, 0.0, doublings)
                other = spread(image, 0.0, doublings)
                for _ in range(end - begin):
                    here = at + (p >> FRACTION_BITS) * across
                    weight = real(image, p & MASK) * scale
                    total = fma(
                        spread(image, length - weight, doublings), load(buffer, here, doublings), total
                    )
                    far = load(buffer, here + across, doublings)
                    if two_sums:
                        other = fma(spread(image, weight, doublings), far, other)
                    else:
                        total = fma(spread(image, weight, doublings), far, total)
                    p += slope[v, c]
                    at += along
                one = spread(image, 1.0, doublings)
                total = fma(total, one, other)
                line = (v * sinogram.shape[1] + c) * sinogram.shape[2] + slice0
                if slices == lanes:
                    store(lines, line, fma(total, one, load(lines, line, doublings)))
                else:
                    store(spill, 0, total)
                    for k in range(slices):
                        lines[line + k] += spill[k]


@compiled
def adjoint(sinogram, image, rays, work, doublings, source):
    """Write the backprojection of some slices to the owned tiles of ``image``.

    Arguments are those of ``forward``, with tiles instead of views. ``source`` is None, or the
    source of every view in pixels (x, y): each weight is then divided by the distance in mm from the source,
    which at driving index i is step * abs(i - source).
    """
    along_y, offset, slope, step, first, stop, columns = rays
    tile, tiles, slice0, slices, tile0, tile1 = work
    lanes = 1 << len(doublings)
    pitch = (tile + 3) * lanes
    buffer = np.empty((tile + 2) * pitch, image.dtype)
    spill = np.zeros(lanes, image.dtype)
    lines = sinogram.reshape(-1)
    for t in range(tile0, tile1):
        y0, x0 = t // tiles[1] * tile, t % tiles[1] * tile
        buffer[:] = 0
        for v in range(sinogram.shape[0]):
            for c in range(columns[v, t, 0], columns[v, t, 1]):
                ray = offset[v, c], slope[v, c], first[v, c], stop[v, c]
                begin, end, i0, j0 = part_in_tile(along_y[v, c], ray, (y0, x0, tile))
                if begin >= end:
                    continue
                along, across = (pitch, lanes) if along_y[v, c] else (lanes, pitch)
                at = (begin - i0 + 1) * along - (j0 - 1) * across
                p = ray[0] + ray[1] * begin
                length, scale = real(image, step[v, c]), real(image, step[v, c] * SCALE)
                line = (v * sinogram.shape[1] + c) * sinogram.shape[2] + slice0
                if slices == lanes:
                    value = load(lines, line, doublings)
                else:
                    for k in range(slices):
                        spill[k] = lines[line + k]
                    value = load(spill, 0, doublings)
                for i in range(begin, end):
                    if source is not None:
                        length = real(image, 1.0 / abs(i - source[v, int(along_y[v, c])]))
                        scale = length * real(image, SCALE)
                    here = at + (p >> FRACTION_BITS) * across
                    weight = real(image, p & MASK) * scale
                    add_scaled(buffer, here, length - weight, value)
                    add_scaled(buffer, here + across, weight, value)
                    p += slope[v, c]
                    at += along
        _drain(buffer, pitch, lanes, image, (y0, x0, tile, slice0, slices))


@compiled
def _fill(buffer, pitch, lanes, image, block):
    y0, x0, tile, slice0, slices = block
    height, width = min(tile, image.shape[0] - y0), min(tile, image.shape[1] - x0)
    if height < tile or width < tile:
        buffer[:] = 0
    for y in range(height):
        for x in range(width):
            at = (y + 1) * pitch + (x + 1) * lanes
            for k in range(slices):
                buffer[at + k] = image[y0 + y, x0 + x, slice0 + k]


@compiled
def _drain(buffer, pitch, lanes, image, block):
    y0, x0, tile, slice0, slices = block
    height, width = min(tile, image.shape[0] - y0), min(tile, image.shape[1] - x0)
    for y in range(height):
        for x in range(width):
            at = (y + 1) * pitch + (x + 1) * lanes
            for k in range(slices):
                image[y0 + y, x0 + x, slice0 + k] = buffer[at + k]
