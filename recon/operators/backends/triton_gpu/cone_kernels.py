"""GPU loops over a ``ConeTable``: lanes along detector rows forward, along slices in the gathering adjoint.

A column's line in the plane is walked as in ``kernels``. At driving index i its rows are at the heights

    z(r) = a + b r,      a = A0 + A1 i,  b = B0 + B1 i      (slices)

with a and b rounded to 2**-40 slice, by the same operations in both directions: row, slice and weights then agree
to the last bit. The adjoint visits, for every pixel, the columns that come by, and for every slice k the rows
within 1 / |b| of (k - a) / b.
"""

# Triton reads these functions as source, and mypy does not know its types.
# mypy: ignore-errors

import triton.language as tl

from recon.operators.backends.triton_gpu.kernels import (
    beside,
    column_through,
    compiled,
    fraction,
    met,
    pixels_of,
    walk,
    ways,
)


@compiled
def height(low, high, i):
    """Return low + high * i in 2**-40 slice."""
    return tl.floor(tl.fma(high, i.to(tl.float64), low) * 1099511627776.0 + 0.5).to(tl.int64)


@compiled
def climbs(heights, ray, mask):
    """Return A0, A1, B0, B1 of rays."""
    at = heights + 4 * ray
    a0, a1 = tl.load(at, mask=mask, other=0), tl.load(at + 1, mask=mask, other=0)
    return a0, a1, tl.load(at + 2, mask=mask, other=0), tl.load(at + 3, mask=mask, other=0)


@compiled
def row_through(a, b, k, hit, rows):
    """Return the row, from -1 to ``rows``, of each column (a, b) at the height of each slice k."""
    inverse = 1 / tl.where(hit, b.to(tl.float32) * 9.094947017729282e-13, 1.0)
    origin = a.to(tl.float32) * 9.094947017729282e-13
    row = (k.to(tl.float32)[None, :] - origin[:, None]) * inverse[:, None]
    return tl.minimum(tl.maximum(row, -1.0), rows)


@compiled
def row_share(a, b, r, k, REAL: tl.constexpr):
    """Return whether row r meets slice k, (column, slice), and the share of its ray that the slice gets."""
    # float32 only proposed the rows; this integer height, the same as in ``forward``, decides.
    z = a[:, None] + b[:, None] * r
    level = (z >> 40).to(tl.int32) - k[None, :]
    g = fraction(z, REAL)
    return (level == 0) | (level == -1), tl.where(level == 0, 1 - g, g)


@compiled
def ray_lengths(step, climb, change, r, REAL: tl.constexpr):
    """Return the length of ray per driving index, (column, row), in mm; climb and change are A1 and B1 in mm."""
    zero = tl.zeros((step.shape[0], r.shape[0]), REAL)
    rise = tl.fma(change.to(REAL)[:, None] + zero, r.to(REAL)[None, :] + zero, climb.to(REAL)[:, None] + zero)
    flat = step.to(REAL)[:, None]
    return tl.sqrt(flat * flat + rise * rise)


@compiled
def weighed(
    sinogram,
    target,
    step,
    heights,
    dz,
    rays,
    rows,
    REAL: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write ``sinogram`` times the length of every ray per driving index. Programs: (block of rays, of rows)."""
    ray = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    r = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside, thick = ray < rays, tl.load(dz)
    length = tl.load(step + ray, mask=inside, other=0)
    climb = tl.load(heights + 4 * ray + 1, mask=inside, other=0) * thick
    change = tl.load(heights + 4 * ray + 3, mask=inside, other=0) * thick
    at = ray.to(tl.int64)[:, None] * rows + r[None, :]
    mask = inside[:, None] & (r < rows)[None, :]
    value = tl.load(sinogram + at, mask=mask, other=0).to(REAL)
    tl.store(target + at, value * ray_lengths(length, climb, change, r, REAL), mask=mask)


@compiled
def forward(
    image,
    sinogram,
    offset,
    slope,
    step,
    first,
    stop,
    heights,
    dz,
    rows_of_grid,
    width,
    columns,
    slices,
    rows,
    REAL: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Write the line integrals of a block of columns and rows of one view.

    Programs: (block of columns, view, block of rows). ``image`` is (y, x, z), ``sinogram`` (view, column, row),
    ``heights`` (view, column, 4), ``dz`` one number. ``step`` is negative where x drives the ray.
    """
    thick = tl.load(dz)
    c = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    r = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    inside = c < columns
    ray = tl.program_id(1) * columns + c
    length = tl.load(step + ray, mask=inside, other=0)
    a0, a1, b0, b1 = climbs(heights, ray, inside)
    along, across, count = ways(length, width, rows_of_grid)
    begin, end, start, last, p, drift = walk(offset, slope, first, stop, ray, inside)
    pixel = along * start
    lanes = (r < rows)[None, :]
    steps = r.to(tl.int64)[None, :]
    total = tl.zeros((COLUMNS, ROWS), REAL)
    for i in range(start, last):
        j, f, near, far = beside(i, begin, end, p, count, REAL)
        f = f[:, None]
        index = tl.zeros((COLUMNS,), tl.int32) + i
        z = height(a0, a1, index)[:, None] + height(b0, b1, index)[:, None] * steps
        k = (z >> 40).to(tl.int32)
        g = fraction(z, REAL)
        low, high = lanes & (k >= 0) & (k < slices), lanes & (k >= -1) & (k < slices - 1)
        source = image + (pixel + j * across).to(tl.int64)[:, None] * slices + k
        other = source + (across * slices)[:, None]
        v00 = tl.load(source, mask=near[:, None] & low, other=0).to(REAL)
        v01 = tl.load(source + 1, mask=near[:, None] & high, other=0).to(REAL)
        v10 = tl.load(other, mask=far[:, None] & low, other=0).to(REAL)
        v11 = tl.load(other + 1, mask=far[:, None] & high, other=0).to(REAL)
        below, above = v00 * (1 - f) + v10 * f, v01 * (1 - f) + v11 * f
        total += below * (1 - g)
        total += above * g
        p += drift
        pixel += along
    total = total * ray_lengths(length, a1 * thick, b1 * thick, r, REAL)
    tl.store(sinogram + ray.to(tl.int64)[:, None] * rows + r[None, :], total, mask=inside[:, None] & lanes)


@compiled
def adjoint(
    sinogram,
    image,
    offset,
    slope,
    step,
    first,
    stop,
    heights,
    lines,
    reach,
    row_reach,
    rows_of_grid,
    width,
    views,
    columns,
    slices,
    rows,
    REAL: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    SLICES: tl.constexpr,
    CURVED: tl.constexpr,
    CUT: tl.constexpr,
):
    """Write the backprojection of a tile of pixels, for a block of slices, of a sinogram that was ``weighed``.

    Programs: (tile, block of slices). ``lines`` and ``reach`` as in ``kernels.adjoint``; ``row_reach``
    (view) bounds how many rows away from a slice's height a ray can be that meets the slice.
    """
    tile = tl.program_id(0)
    k = tl.program_id(1) * SLICES + tl.arange(0, SLICES)
    lanes = (k < slices)[None, :]
    y, x = pixels_of(tile, width, HEIGHT, WIDTH)
    down, right = y.to(tl.float32), x.to(tl.float32)
    total = tl.zeros((HEIGHT * WIDTH, SLICES), REAL)
    for v in range(views):
        middle = column_through(lines + v * 8, right, down, columns, CURVED)
        radius = tl.load(reach + v * tl.num_programs(0) + tile)
        nearby = tl.load(row_reach + v)
        begin = tl.ceil(middle - radius).to(tl.int32)
        for m in range((2 * radius).to(tl.int32) + 1):
            c = begin + m
            inside = (c >= 0) & (c < columns)
            ray = v * columns + c
            length, i, across_share, hit = met(offset, slope, step, first, stop, ray, inside, y, x, REAL, CUT)
            hit &= length != 0
            a0, a1, b0, b1 = climbs(heights, ray, hit)
            a, b = height(a0, a1, i), height(b0, b1, i)
            lowest = tl.ceil(row_through(a, b, k, hit, rows) - nearby).to(tl.int32)
            weight = across_share[:, None]
            line = sinogram + ray.to(tl.int64)[:, None] * rows
            for s in range((2 * nearby).to(tl.int32) + 1):
                r = lowest + s
                near, share = row_share(a, b, r, k, REAL)
                seen = hit[:, None] & lanes & (r >= 0) & (r < rows) & near
                value = tl.load(line + r, mask=seen, other=0).to(REAL)
                total += value * share * weight
    target = image + (y * width + x).to(tl.int64)[:, None] * slices + k[None, :]
    tl.store(target, total, mask=((y < rows_of_grid) & (x < width))[:, None] & lanes)
