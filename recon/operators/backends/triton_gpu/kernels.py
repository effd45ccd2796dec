"""GPU loops over the ray table: forward along rays, adjoint as a gather, many slices at once.

Both read the crossings p(i) = offset + slope * i as integers in 2**-40 pixel (see ``recon.operators.rays``),
so both find the same weights: at driving index i the pixel floor(p) has 1 - f and its neighbour f, where f
is the fraction of p, cut to the 24 bits that float32 holds exactly (all 40 in float64).

The forward projection walks a block of neighbouring columns along their rays. The adjoint owns a tile of
pixels: in every view it visits the columns within ``reach`` of the column through each pixel's centre and adds
those whose crossing is less than one pixel away. Nothing is added atomically and the order of sums is fixed,
so results repeat to the last bit. Sums are float32 (float64 for float64 arrays), whatever the storage.
"""

# Triton reads these functions as source, and mypy does not know its types.
# mypy: ignore-errors

import inspect

import triton
import triton.language as tl


def compiled(function):
    """Compile a kernel; a run-time type checker may have wrapped it, which triton cannot see through."""
    return triton.jit(inspect.unwrap(function))


@compiled
def fraction(p, REAL: tl.constexpr):
    """Return the fraction of a position in 2**-40 pixel."""
    if REAL == tl.float64:  # noqa: SIM300 - the constant must come first
        f = (p & 0xFFFFFFFFFF).to(tl.float64) * 9.094947017729282379e-13
    else:
        f = ((p >> 16).to(tl.int32) & 0xFFFFFF).to(tl.float32) * 5.9604644775390625e-08
    return f


@compiled
def arctangent(q):
    """Return atan(q) to 2e-8 (Abramowitz and Stegun, 4.4.49)."""
    large = tl.abs(q) > 1
    t = tl.where(large, 1 / q, q)
    s = t * t
    r = 0.0028662257 * s - 0.0161657367
    r = r * s + 0.0429096138
    r = r * s - 0.0752896400
    r = r * s + 0.1065626393
    r = r * s - 0.1420889944
    r = r * s + 0.1999355085
    r = r * s - 0.3333314528
    r = r * s * t + t
    return tl.where(large, tl.where(q > 0, 1.5707963267948966, -1.5707963267948966) - r, r)


@compiled
def column_through(view, x, y, columns, CURVED: tl.constexpr):
    """Return the column through pixel centres, from -1 to ``columns``; see ``recon.operators.backends.gather``."""
    over = tl.load(view) + tl.load(view + 1) * x + tl.load(view + 2) * y
    under = tl.load(view + 3) + tl.load(view + 4) * x + tl.load(view + 5) * y
    q = over / tl.where(tl.abs(under) < 1e-20, 1e-20, under)
    if CURVED:
        q = arctangent(q) * tl.load(view + 7)
    return tl.minimum(tl.maximum(q + tl.load(view + 6), -1.0), columns)


@compiled
def walk(offset, slope, first, stop, ray, inside):
    """Return where a block of rays goes: each one's driving indices [begin, end), those of all of them
    [start, last), its position at ``start`` and the change per index."""
    begin = tl.load(first + ray, mask=inside, other=2147483647)
    end = tl.load(stop + ray, mask=inside, other=0)
    # A ray that misses has the range [0, 0): its 0 must not pull down the start of the loop that all share.
    begin = tl.where(begin < end, begin, 2147483647)
    start, last = tl.min(begin, 0), tl.max(end, 0)
    drift = tl.load(slope + ray, mask=inside, other=0)
    p = tl.load(offset + ray, mask=inside, other=0) + drift * start
    return begin, end, start, last, p, drift


@compiled
def ways(length, width, height):
    """Return the change of pixel per driving index and across it, and how many pixels lie across."""
    along_y = length > 0
    return tl.where(along_y, width, 1), tl.where(along_y, 1, width), tl.where(along_y, width, height)


@compiled
def beside(i, begin, end, p, count, REAL: tl.constexpr):
    """Return where rays are at driving index i: the pixel below, the fraction, and which of the two pixels exist."""
    j = (p >> 40).to(tl.int32)
    here = (i >= begin) & (i < end)
    return j, fraction(p, REAL), here & (j >= 0) & (j < count), here & (j >= -1) & (j < count - 1)


@compiled
def met(offset, slope, step, first, stop, ray, inside, y, x, REAL: tl.constexpr, CUT: tl.constexpr):
    """Return which pixels the rays of a column meet: the column's length per driving index, each pixel's
    driving index, the share of the ray it gets, and whether it is met at all."""
    length = tl.load(step + ray, mask=inside, other=0)
    along_y = length > 0
    i, j = tl.where(along_y, y, x), tl.where(along_y, x, y)
    p = tl.load(offset + ray, mask=inside, other=0) + tl.load(slope + ray, mask=inside, other=0) * i
    # 0: this pixel is floor(p) and gets 1 - f; -1: it is the one above and gets f; else the ray passes it by.
    near = (p >> 40).to(tl.int32) - j
    f = fraction(p, REAL)
    hit = inside & ((near == 0) | (near == -1))
    if CUT:
        hit &= i >= tl.load(first + ray, mask=inside, other=0)
        hit &= i < tl.load(stop + ray, mask=inside, other=0)
    return length, i, tl.where(near == 0, 1 - f, f), hit


@compiled
def pixels_of(tile, width, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Return the rows and columns of the pixels of a tile."""
    across = tl.cdiv(width, WIDTH)
    k = tl.arange(0, HEIGHT * WIDTH)
    return tile // across * HEIGHT + k // WIDTH, tile % across * WIDTH + k % WIDTH


@compiled
def lanes_within(z, slices, SLICES: tl.constexpr):
    """Return which lanes of four neighbouring bundles hold a slice."""
    # Written so that the compiler sees aligned masks, without which it loads number by number.
    lanes, lanes1 = (z < slices)[None, :], (z + SLICES < slices)[None, :]
    return lanes, lanes1, (z + 2 * SLICES < slices)[None, :], (z + 3 * SLICES < slices)[None, :]


@compiled
def size_of(length, i, source, REAL: tl.constexpr, FADING: tl.constexpr):
    """Return the length of rays per driving index, or with ``FADING`` one over the distance from their source."""
    size = tl.abs(length).to(REAL)
    if FADING:
        origin = tl.load(source + tl.where(length > 0, 1, 0))
        size = tl.where(size > 0, 1 / tl.abs(i.to(tl.float64) - origin), 0.0).to(REAL)
    return size


@compiled
def put(target, totals, inside, lanes, SLICES: tl.constexpr, PARTS: tl.constexpr):
    """Write one, two or four blocks of slices."""
    tl.store(target, totals[0], mask=inside & lanes[0])
    if PARTS > 1:
        tl.store(target + SLICES, totals[1], mask=inside & lanes[1])
    if PARTS > 2:
        tl.store(target + 2 * SLICES, totals[2], mask=inside & lanes[2])
        tl.store(target + 3 * SLICES, totals[3], mask=inside & lanes[3])


@compiled
def mixed(total, source, other, near, far, f):
    """Add two neighbouring pixels, weighted 1 - f and f, to a sum."""
    a = tl.load(source, mask=near, other=0).to(total.dtype)
    b = tl.load(other, mask=far, other=0).to(total.dtype)
    return total + a * (1 - f) + b * f


@compiled
def forward(
    image,
    sinogram,
    offset,
    slope,
    step,
    first,
    stop,
    height,
    width,
    columns,
    slices,
    REAL: tl.constexpr,
    COLUMNS: tl.constexpr,
    SLICES: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Write the line integrals of a block of columns of one view, for a block of slices.

    Programs: (block of columns, view, block of slices). ``image`` is (y, x, slice), ``sinogram`` (view, column,
    slice). ``step`` is positive where y drives the ray and negative where x does.
    """
    c = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    z = tl.program_id(2) * (SLICES * PARTS) + tl.arange(0, SLICES)
    inside = c < columns
    ray = tl.program_id(1) * columns + c
    length = tl.load(step + ray, mask=inside, other=0)
    along, across, count = ways(length, width, height)
    begin, end, start, last, p, drift = walk(offset, slope, first, stop, ray, inside)
    pixel = along * start
    lanes, lanes1, lanes2, lanes3 = lanes_within(z, slices, SLICES)
    total = tl.zeros((COLUMNS, SLICES), REAL)
    total1, total2, total3 = total, total, total
    for i in range(start, last):
        j, f, near, far = beside(i, begin, end, p, count, REAL)
        at = (pixel + j * across).to(tl.int64) * slices
        source = image + at[:, None] + z[None, :]
        other = source + (across * slices)[:, None]
        near, far, f = near[:, None], far[:, None], f[:, None]
        total = mixed(total, source, other, near & lanes, far & lanes, f)
        if PARTS > 1:
            here, there = near & lanes1, far & lanes1
            total1 = mixed(total1, source + SLICES, other + SLICES, here, there, f)
        if PARTS > 2:
            here, there = near & lanes2, far & lanes2
            total2 = mixed(total2, source + 2 * SLICES, other + 2 * SLICES, here, there, f)
            here, there = near & lanes3, far & lanes3
            total3 = mixed(total3, source + 3 * SLICES, other + 3 * SLICES, here, there, f)
        p += drift
        pixel += along
    target = sinogram + ray.to(tl.int64)[:, None] * slices + z[None, :]
    inside, size = inside[:, None], tl.abs(length).to(REAL)[:, None]
    totals = (total * size, total1 * size, total2 * size, total3 * size)
    put(target, totals, inside, (lanes, lanes1, lanes2, lanes3), SLICES, PARTS)


@compiled
def adjoint(
    sinogram,
    image,
    offset,
    slope,
    step,
    first,
    stop,
    lines,
    reach,
    source,
    height,
    width,
    views,
    columns,
    slices,
    REAL: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    SLICES: tl.constexpr,
    PARTS: tl.constexpr,
    CURVED: tl.constexpr,
    CUT: tl.constexpr,
    FADING: tl.constexpr,
):
    """Write the backprojection of a tile of pixels, for a block of slices.

    Programs: (tile, block of slices). ``lines`` (view, 8) holds the column through a pixel's centre, see
    ``recon.operators.backends.gather``; ``reach`` (view, tile) bounds how many columns away a ray can be that
    meets a pixel. ``CUT``: some rays end inside the grid, so ``first`` and ``stop`` count. ``FADING``: weights
    are divided by the distance from ``source`` (view, xy).
    """
    tile = tl.program_id(0)
    z = tl.program_id(1) * (SLICES * PARTS) + tl.arange(0, SLICES)
    lanes, lanes1, lanes2, lanes3 = lanes_within(z, slices, SLICES)
    y, x = pixels_of(tile, width, HEIGHT, WIDTH)
    rows, cols = y.to(tl.float32), x.to(tl.float32)
    total = tl.zeros((HEIGHT * WIDTH, SLICES), REAL)
    total1, total2, total3 = total, total, total
    for v in range(views):
        middle = column_through(lines + v * 8, cols, rows, columns, CURVED)
        radius = tl.load(reach + v * tl.num_programs(0) + tile)
        begin = tl.ceil(middle - radius).to(tl.int32)
        for n in range((2 * radius).to(tl.int32) + 1):
            c = begin + n
            inside = (c >= 0) & (c < columns)
            ray = v * columns + c
            length, i, share, hit = met(offset, slope, step, first, stop, ray, inside, y, x, REAL, CUT)
            size = size_of(length, i, source + 2 * v, REAL, FADING)
            weight, hit = (share * size)[:, None], hit[:, None]
            line = sinogram + ray.to(tl.int64)[:, None] * slices + z[None, :]
            total += tl.load(line, mask=hit & lanes, other=0).to(REAL) * weight
            if PARTS > 1:
                total1 += tl.load(line + SLICES, mask=hit & lanes1, other=0).to(REAL) * weight
            if PARTS > 2:
                total2 += tl.load(line + 2 * SLICES, mask=hit & lanes2, other=0).to(REAL) * weight
                total3 += tl.load(line + 3 * SLICES, mask=hit & lanes3, other=0).to(REAL) * weight
    target = image + (y * width + x).to(tl.int64)[:, None] * slices + z[None, :]
    totals, inside = (total, total1, total2, total3), ((y < height) & (x < width))[:, None]
    put(target, totals, inside, (lanes, lanes1, lanes2, lanes3), SLICES, PARTS)
