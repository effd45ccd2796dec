"""Outer body and soft tissue of the procedural thorax: skin, fat, muscle, mediastinum, heart, abdomen.

Model space is a nominal adult in mm: x to the patient's left, y to the back, z to the head, and z = 0
at the lung roots.
"""

from dataclasses import dataclass

import numpy as np

from recon.simulate.phantom.drawing import Array, Canvas, ellipsoid, paint, smooth_max, superellipse


@dataclass(frozen=True)
class Anatomy:
    """One person, in mm and HU of the model space; every field is drawn by :func:`draw_anatomy`."""

    cage_width: float
    cage_depth: float
    cage_power: float
    fat: float
    muscle: float
    back: float
    diaphragm: float
    heart: float
    blood: float
    bone: float
    lung: float
    spine_bend: float
    breast: float
    mediastinum: float


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a person."""
    uniform = rng.uniform
    contrast = uniform(120, 320) if rng.random() < 0.3 else 0.0
    return Anatomy(
        cage_width=uniform(116, 142),
        cage_depth=uniform(78, 106),
        cage_power=uniform(2.1, 2.7),
        fat=float(np.exp(uniform(np.log(4), np.log(30)))),
        muscle=uniform(9, 22),
        back=uniform(30, 44),
        diaphragm=uniform(-115, -70),
        heart=uniform(0.82, 1.2),
        blood=uniform(35, 50) + contrast,
        bone=uniform(0.7, 1.25),
        lung=uniform(-900, -800),
        spine_bend=uniform(-12, 12),
        breast=uniform(15, 45) if rng.random() < 0.35 else 0.0,
        mediastinum=uniform(0.8, 1.35),
    )


def cage_axes(anatomy: Anatomy, z: Array) -> tuple[Array, Array, Array]:
    """Return half width, half depth and centre y of the rib cage at heights ``z``: it narrows to the apex."""
    rise = np.clip((z + 40) / 215, 0, 0.985)
    narrow = np.sqrt(1 - rise**2)
    lower = np.clip((-z - 60) / 400, 0, 0.3)
    width = anatomy.cage_width * narrow * (1 - lower)
    depth = anatomy.cage_depth * (0.35 + 0.65 * narrow) * (1 - 0.5 * lower)
    centre = (anatomy.cage_depth - depth) * 0.55
    return width.astype(np.float32), depth.astype(np.float32), centre.astype(np.float32)


def cage_distance(anatomy: Anatomy, x: Array, y: Array, z: Array) -> Array:
    """Return the distance to the inner surface of the rib cage."""
    width, depth, centre = cage_axes(anatomy, z)
    return superellipse(x, y - centre, half=(width, depth), power=anatomy.cage_power)


def body_distance(anatomy: Anatomy, x: Array, y: Array, z: Array) -> Array:
    """Return the distance to the skin: the cage, its wall, shoulders towards the head, sometimes breasts."""
    width, depth, centre = cage_axes(anatomy, z)
    shoulder = 60 * np.clip((z - 10) / 110, 0, 1) ** 1.2
    side = anatomy.muscle + 1.3 * anatomy.fat + shoulder + (anatomy.cage_width - width) * 0.55
    front = 0.6 * anatomy.muscle + 0.9 * anatomy.fat
    half = (width + side, depth + (front + anatomy.back + 0.7 * anatomy.fat) / 2)
    middle = centre + (anatomy.back + 0.7 * anatomy.fat - front) / 2
    body = superellipse(x, y - middle, half=half, power=2.35)
    if anatomy.breast:
        lobe = (np.abs(x) - 75, y + anatomy.cage_depth - 8, z + 35)
        breast = ellipsoid(lobe, (66.0, 22.0 + anatomy.breast, 64.0))
        body = -smooth_max(-body, -breast, 8)
    return body


def paint_wall(
    image: Array, grid: Canvas, anatomy: Anatomy, *, fields: tuple[Array, Array], rng: np.random.Generator
) -> None:
    """Paint skin, fat and muscle; ``fields`` are the distances to the skin and to the cage."""
    body, cage = fields
    paint(image, grid.cover(body), -15 + 15 * grid.noise(rng, 12.0))
    layer = anatomy.fat * (1 + 0.25 * grid.noise(rng, 70.0))
    fat = -103 + 9 * grid.noise(rng, 7.0)
    paint(image, grid.cover(body + 2), fat)
    # Muscle hugs the cage and ends where the fat layer begins; planes of fat run through it.
    muscle = smooth_max(body + 2 + layer, cage - anatomy.muscle * 3.2, 5)
    planes = np.clip(1.1 - np.abs(grid.noise(rng, 24.0)) * 6, 0, 0.7)
    paint(image, grid.cover(muscle), 52 + 9 * grid.noise(rng, 5.0) - 110 * planes * (cage > 9))
    paint(image, grid.cover(cage - 1.5), -60 + 40 * grid.noise(rng, 14.0))


def mediastinum_distance(anatomy: Anatomy, axes: tuple[Array, Array, Array]) -> Array:
    """Return the distance to everything between the lungs except the diaphragm: column, heart, spine."""
    x, y, z = axes
    scale = anatomy.mediastinum
    depth = cage_axes(anatomy, z)[1]
    upper = np.clip((z - 20) / 60, 0, 1)
    waist = (9 + 20 * np.exp(-(((y - 2) / 38) ** 2)) + 7 * upper) * scale
    column = np.abs(x - 3) - waist
    spine = np.hypot(x, y - depth + 16) - 25
    between: Array = np.minimum(np.minimum(column, spine), heart_distance(anatomy, axes))
    return between


def heart_distance(anatomy: Anatomy, axes: tuple[Array, Array, Array]) -> Array:
    """Return the distance to the heart, an ellipsoid whose long axis points left and to the front."""
    x, y, z = axes
    size = anatomy.heart
    right, front = x - 20 * size, y + 0.3 * anatomy.cage_depth
    turn = np.float32(0.55)
    long = right * np.cos(turn) - front * np.sin(turn)
    short = right * np.sin(turn) + front * np.cos(turn)
    return ellipsoid((long + 0.25 * (z + 55), short, z + 55), (58 * size, 42 * size, 60 * size))


def dome_distance(anatomy: Anatomy, axes: tuple[Array, Array, Array]) -> Array:
    """Return the distance to the abdomen below the two domes of the diaphragm."""
    x, y, z = axes
    right = ellipsoid((x + 62, y + 8, z - anatomy.diaphragm + 110), (92, 96, 110))
    left = ellipsoid((x - 66, y + 5, z - anatomy.diaphragm + 125), (84, 92, 108))
    return np.minimum(right, left)


def paint_centre(
    image: Array,
    grid: Canvas,
    anatomy: Anatomy,
    *,
    axes: tuple[Array, Array, Array],
    inside: Array,
    rng: np.random.Generator,
) -> None:
    """Paint heart, great vessels, oesophagus and abdomen; ``inside`` is the cover of the cage."""
    x, y, z = axes
    depth = cage_axes(anatomy, z)[1]
    mottle = grid.noise(rng, 5.0)
    heart = heart_distance(anatomy, axes)
    paint(image, grid.cover(heart) * inside, 30 + 6 * mottle - 90 * (heart > -4))
    paint(image, grid.cover(heart + 6) * inside, 42 + 5 * mottle)
    for shift in ((24, 14, 8), (-18, -8, -10), (2, 20, -2)):
        chamber = ellipsoid(
            (x - shift[0] - 12, y - shift[1] + 0.3 * anatomy.cage_depth, z - shift[2] + 52), (23, 21, 38)
        )
        paint(image, grid.cover(smooth_max(chamber, heart + 12, 5)) * inside, anatomy.blood + 4 * mottle)
    arch = np.clip((z - 10) / 45, 0, 1)
    blood = anatomy.blood + 3 * mottle
    descending = np.maximum(np.hypot(x - 24 + 10 * arch, y - depth + 42) - 12.5, z - 62)
    ascending = np.maximum(np.hypot(x + 14 - 14 * arch, y + 22 - 8 * arch) - 15, np.maximum(z - 62, -20 - z))
    bow = np.hypot(np.hypot((x - 4) * 0.6, y - 8) - 30, z - 58) - 12
    cava = np.hypot(x + 30, y + 12) - 10 + 0 * z
    trunk = np.maximum(np.hypot(x - 18, y + 18) - 14, np.abs(z - 8) - 20)
    hila = np.maximum(np.hypot(y - 0.06 * np.abs(x), z - 4) - 10.5, np.abs(x) - 38)
    branches = [
        np.hypot(x - c, y - d) - 5.5 - 0.02 * (z - 70) + 100 * (z < 58)
        for c, d in ((-12, -10), (6, -6), (17, 4))
    ]
    oesophagus = np.hypot((x - 8) * 0.8, y - depth + 52) - 7 + 0 * z
    paint(image, grid.cover(oesophagus) * inside, 35)
    for tube in (descending, ascending, bow, cava, trunk, hila, *branches):
        paint(image, grid.cover(tube.astype(np.float32)) * inside, blood)


def paint_abdomen(
    image: Array, grid: Canvas, *, axes: tuple[Array, Array, Array], dome: Array, rng: np.random.Generator
) -> None:
    """Paint liver, spleen and stomach (with gas sometimes) where ``dome`` covers."""
    x, y, _ = axes
    mottle = grid.noise(rng, 6.0)
    paint(image, dome, -95 + 8 * mottle)
    liver = smooth_max(
        x - rng.uniform(-5, 45) + 0.35 * y + 8 * grid.noise(rng, 60.0), 0.5 * y + 0.3 * x - 45, 8
    )
    paint(image, grid.cover(liver) * dome, rng.uniform(45, 115) + 5 * mottle)
    spleen = np.hypot((x - 92) / 1.1, (y - 42) * 0.8) - 30 + 4 * grid.noise(rng, 50.0)
    paint(image, grid.cover(spleen) * dome, rng.uniform(45, 110) + 4 * mottle)
    stomach = np.hypot(x - 58, y + 28) - rng.uniform(24, 42) + 8 * grid.noise(rng, 45.0)
    paint(image, grid.cover(stomach) * dome, 25 + 12 * mottle)
    if rng.random() < 0.6:
        gas = smooth_max(stomach + 4, y + rng.uniform(20, 50), 2)
        paint(image, grid.cover(gas) * dome, -990)
