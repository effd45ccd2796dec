"""Lungs of the procedural thorax: parenchyma, branching vessels and airways, nodules and common diseases."""

import numpy as np

from recon.simulate.phantom.body import Anatomy
from recon.simulate.phantom.drawing import Array, Canvas, add_capsule, paint

Segment = tuple[Array, Array, float, float]


def paint_parenchyma(
    image: Array, grid: Canvas, anatomy: Anatomy, *, lung: Array, rng: np.random.Generator
) -> None:
    """Paint aerated lung: a gradient towards the dependent back, mottling and the oblique fissures."""
    texture = 14 * grid.noise(rng, 18.0) + 16 * grid.noise(rng, 5.0) + 14 * grid.noise(rng, 2.5)
    paint(image, lung, anatomy.lung + np.float32(0.35) * (grid.y + 20) + texture)
    for side in (-1, 1):
        sheet = grid.z + rng.uniform(0.5, 0.9) * grid.y + rng.uniform(-10, 20) + 6 * grid.noise(rng, 60.0)
        half = (grid.x * side > 0) * lung
        paint(image, 0.3 * half * grid.cover(np.abs(sheet).astype(np.float32) * 0.7 - 0.8), -550)


def grow(
    rng: np.random.Generator,
    start: Array,
    heading: Array,
    *,
    radii: tuple[float, float],
    reach: tuple[float, float],
) -> list[Segment]:
    """Grow a tree of bent tubes that splits by Murray's law, r^3 = r1^3 + r2^3, and heads away from its root.

    Args:
        rng: draws lengths, shares and directions.
        start: root (x, y, z) in mm.
        heading: first direction.
        radii: radius of the root and the least radius that still splits.
        reach: heights (low, high) beyond which branches are dropped.
    """
    segments: list[Segment] = []
    queue = [(start, heading / np.linalg.norm(heading), radii[0])]
    while queue:
        point, direction, size = queue.pop()
        if (
            not reach[0] - 32 * size < point[2] < reach[1] + 32 * size
            or abs(point[0]) > 150
            or abs(point[1]) > 120
        ):
            continue
        for _ in range(2):
            away = point - start
            away = away / (np.linalg.norm(away) + 8)
            direction = direction + 0.12 * away + rng.normal(0, 0.12, 3)
            direction = direction / np.linalg.norm(direction)
            end = (point + direction * (size**0.7 * rng.uniform(2.2, 5.2))).astype(np.float32)
            segments.append((point, end, size, size * 0.985))
            point, size = end, size * 0.985
        share = rng.uniform(0.2, 0.8)
        normal = np.cross(direction, rng.normal(size=3))
        normal /= np.linalg.norm(normal) + 1e-6
        for flow, sign in ((share, 1), (1 - share, -1)):
            child = size * flow ** (1 / 3)
            if child > radii[1]:
                queue.append(
                    (point, direction + sign * rng.uniform(0.4, 0.95) * (1.25 - flow) * normal, child)
                )
    return segments


def lung_trees(
    rng: np.random.Generator, *, roots: int, radii: tuple[float, float], reach: tuple[float, float]
) -> list[Segment]:
    """Return the vessels of both lungs, fanning out from the two hila."""
    segments: list[Segment] = []
    for side in (-1.0, 1.0):
        for index in range(roots):
            angle = 2 * np.pi * (index + rng.uniform(-0.3, 0.3)) / roots
            lift = np.array(
                [rng.uniform(0.2, 0.9) * side, 0.9 * np.cos(angle), np.sin(angle) * 1.1], np.float32
            )
            origin = np.array([side * 30, 2, 2], np.float32) + rng.normal(0, 5, 3).astype(np.float32)
            size = radii[0] * rng.uniform(0.65, 1.1)
            segments += grow(rng, origin, lift, radii=(size, radii[1]), reach=reach)
    return segments


def heights(grid: Canvas) -> tuple[float, float]:
    """Return the lowest and highest z of the grid with a margin of 10 mm."""
    return float(grid.z.min()) - 10, float(grid.z.max()) + 10


def tube_cover(grid: Canvas, segments: list[Segment], *, extra: float = 0.0) -> Array:
    """Return the coverage of a set of tubes, each ``extra`` mm wider."""
    cover = np.zeros(grid.shape, np.float32)
    low, high = heights(grid)
    for first, second, start, stop in segments:
        if min(first[2], second[2]) < high and max(first[2], second[2]) > low:
            add_capsule(cover, grid, ends=(first, second), radii=(start + extra, stop + extra))
    return cover


def paint_vessels(
    image: Array, grid: Canvas, anatomy: Anatomy, *, lung: Array, rng: np.random.Generator
) -> None:
    """Paint arteries and veins inside the lungs."""
    cover = tube_cover(
        grid,
        lung_trees(
            rng, roots=int(rng.integers(8, 13)), radii=(rng.uniform(3.8, 5.5), 0.5), reach=heights(grid)
        ),
    )
    paint(image, cover * lung, anatomy.blood)


def paint_airways(image: Array, grid: Canvas, *, inside: Array, rng: np.random.Generator) -> None:
    """Paint trachea, main bronchi and bronchial trees: a thin wall around air."""
    split = np.array([2, 4, rng.uniform(22, 40)], np.float32)
    top = split + np.array([rng.uniform(-6, 6), -18, 140], np.float32)
    width = rng.uniform(6.5, 9.5)
    segments: list[Segment] = [(top, split, width, width)]
    for side in (-1.0, 1.0):
        root = np.array([side * 36, 8, 4], np.float32)
        segments.append((split, root, width * 0.75, width * 0.62))
        for heading in ((0.5, -0.5, 0.8), (0.7, -0.6, -0.3), (0.35, 0.4, -0.9), (0.5, 0.7, 0.2)):
            way = np.array([heading[0] * side, heading[1], heading[2]], np.float32)
            segments += grow(rng, root, way, radii=(width * 0.4, 1.1), reach=heights(grid))
    paint(image, tube_cover(grid, segments, extra=1.1) * inside, -20)
    paint(image, tube_cover(grid, segments) * inside, -985)


def paint_lesions(image: Array, grid: Canvas, *, lung: Array, rng: np.random.Generator) -> None:
    """Paint nodules, and sometimes ground glass, consolidation, emphysema or an effusion at the back."""
    low, high = float(grid.z.min()), float(grid.z.max())

    def place(radius: float, squash: float = 1.0) -> Array:
        side = rng.choice([-1.0, 1.0])
        centre = (side * rng.uniform(40, 110), rng.uniform(-70, 75), rng.uniform(low - radius, high + radius))
        across = (grid.x - centre[0]) ** 2 + ((grid.y - centre[1]) / squash) ** 2
        distance: Array = np.sqrt(across + (grid.z - centre[2]) ** 2) - radius
        return distance

    for _ in range(int(rng.integers(1, 9))):
        nodule = place(float(np.exp(rng.uniform(np.log(1.8), np.log(11)))))
        value = rng.uniform(200, 500) if rng.random() < 0.1 else rng.uniform(-150, 70)
        paint(image, grid.cover(nodule) * lung, value)
    if rng.random() < 0.35:
        rough = grid.noise(rng, 9.0)
        for _ in range(int(rng.integers(1, 8))):
            patch = place(rng.uniform(8, 32), 0.7) + 9 * rough
            paint(image, np.clip(-patch / 12, 0, 1) * lung * rng.uniform(0.3, 0.9), rng.uniform(-650, -50))
    if rng.random() < 0.2:
        holes = np.clip(grid.noise(rng, 11.0) * 2 - 2.2, 0, 1)
        paint(image, holes * lung * 0.8, -975)
    if rng.random() < 0.12:
        level = grid.y - rng.uniform(40, 75) + 4 * grid.noise(rng, 40.0)
        paint(image, grid.cover(-level) * lung * (grid.x * rng.choice([-1, 1]) > 0), 8)
