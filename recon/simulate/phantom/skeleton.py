"""Skeleton of the procedural thorax: spine, ribs, sternum, scapulae, clavicles and arms' heads."""

import numpy as np

from recon.simulate.phantom.body import Anatomy, cage_axes
from recon.simulate.phantom.drawing import Array, Canvas, add_capsule, paint, smooth_max, superellipse

DISC_MM = 25.0
RIB_MM = 27.0


def paint_bone(image: Array, grid: Canvas, distance: Array, *, density: float, marrow: Array) -> None:
    """Paint a bone: a dense shell of about 2 mm around spongy ``marrow`` (HU)."""
    paint(image, grid.cover(distance), 750 * density)
    paint(image, grid.cover(distance + 2.2), marrow)


def paint_spine(
    image: Array,
    grid: Canvas,
    anatomy: Anatomy,
    *,
    axes: tuple[Array, Array, Array],
    rng: np.random.Generator,
) -> None:
    """Paint vertebral bodies and discs, the canal, the arch and the processes."""
    x, y, z = axes
    y = y - cage_axes(anatomy, z)[1] + 14
    marrow = (170 + 45 * grid.noise(rng, 4.0)) * anatomy.bone
    level = np.mod(z + rng.uniform(0, DISC_MM), DISC_MM)
    disc = np.clip(1 - np.abs(level - DISC_MM / 2) / 2.5, 0, 1)
    body = superellipse(x, y, half=(17.0 + 1.5 * disc, 14.0 + 0 * z), power=2.3)
    arch = np.abs(superellipse(x, y - 20, half=(13.0, 10.5), power=2.0)) - 3.6
    lamina = np.clip(np.abs(level) / 4, 0, 1)
    spinous = np.maximum(np.abs(x) - 3.2, np.abs(y - 39) - 12)
    reach = np.abs(x) - 32 * np.clip(1.6 - np.abs(level - 6) / 6, 0.35, 1)
    transverse = np.maximum(
        np.hypot((y - 18 - 0.28 * np.abs(x)), 0 * z) - 4.6, np.maximum(reach, 10 - np.abs(x))
    )
    for process in (spinous, transverse, arch):
        paint_bone(
            image,
            grid,
            smooth_max(process, -2 * lamina + 0 * process, 1),
            density=anatomy.bone,
            marrow=marrow * 1.2,
        )
    paint_bone(image, grid, body, density=anatomy.bone * 0.8, marrow=marrow * (1 - disc) + 85 * disc)
    paint(image, grid.cover(np.hypot(x * 0.85, y - 20) - 7.6 + 0 * z), 28)


def paint_ribs(
    image: Array,
    grid: Canvas,
    anatomy: Anatomy,
    *,
    fields: tuple[Array, tuple[Array, Array, Array]],
    rng: np.random.Generator,
) -> None:
    """Paint ribs: tubes that wind down the cage from the spine to the front, where they are cartilage."""
    cage, (x, y, z) = fields
    turn = np.arctan2(np.abs(x), y - cage_axes(anatomy, z)[2])
    fall = rng.uniform(70, 125)
    height = z + fall * turn / np.pi + (x > 0) * rng.uniform(-4, 4) + rng.uniform(0, RIB_MM)
    across = (np.mod(height, RIB_MM) - RIB_MM / 2) * np.float32(0.85)
    shell = cage - 5.5
    tube = (np.sqrt((shell / 3.7) ** 2 + (across / 5.6) ** 2) - 1) * np.float32(3.7)
    tube = np.maximum(tube, 0.22 - turn)
    front = rng.uniform(2.15, 2.5)
    bony = turn < front
    marrow = np.where(bony, 230 * anatomy.bone + 40 * grid.noise(rng, 5.0), 105)
    paint(image, grid.cover(tube), np.where(bony, 800 * anatomy.bone, 130))
    paint(image, grid.cover(tube + 1.9), marrow)


def paint_front(
    image: Array,
    grid: Canvas,
    anatomy: Anatomy,
    *,
    axes: tuple[Array, Array, Array],
    rng: np.random.Generator,
) -> None:
    """Paint the sternum."""
    x, y, z = axes
    _, depth, centre = cage_axes(anatomy, z)
    width = 17 + 9 * np.clip((z - 40) / 40, 0, 1)
    sternum = superellipse(x, y - centre + depth + 5, half=(width, 6.5 + 0 * z), power=3.0)
    sternum = np.maximum(sternum, np.maximum(-85 - z, z - 92))
    paint_bone(
        image,
        grid,
        sternum,
        density=anatomy.bone * 0.7,
        marrow=130 * anatomy.bone + 30 * grid.noise(rng, 5.0),
    )


def paint_shoulders(
    image: Array, grid: Canvas, anatomy: Anatomy, *, within: Array, rng: np.random.Generator
) -> None:
    """Paint scapulae (a fan of thin capsules), clavicles and the heads of the arms inside the body."""
    tilt = rng.uniform(-8, 8)
    for side in (-1.0, 1.0):
        plate, thick = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
        for height in np.arange(-30.0, 105.0, 1.6):
            width, depth, centre = (float(v[0]) for v in cage_axes(anatomy, np.array([height])))
            medial = np.array([side * (0.5 * width + 8), centre + depth * 0.92 + 12, height], np.float32)
            reach = 40 * np.clip((height + 40) / 90, 0.15, 1)
            lateral = np.array(
                [side * (0.5 * width + 14 + reach), centre + depth * 0.92 - 0.45 * reach, height], np.float32
            )
            add_capsule(plate, grid, ends=(medial, lateral), radii=(2.4, 3.4))
            if 45 < height < 95:
                tip = lateral + np.array([side * 8, 14 + tilt, 0], np.float32)
                add_capsule(plate, grid, ends=((medial + lateral) / 2, tip), radii=(2.5, 4.0))
        width, depth, centre = (float(v[0]) for v in cage_axes(anatomy, np.array([85.0])))
        head = np.array([side * (anatomy.cage_width + 22), centre + 0.35 * depth, 100], np.float32)
        add_capsule(thick, grid, ends=(head, head + np.array([side * 10, 5, 70], np.float32)), radii=(21, 12))
        inner = np.array([side * 20, centre - depth - 2, 88], np.float32)
        middle = np.array([side * 85, centre - 0.6 * depth, 105], np.float32)
        add_capsule(thick, grid, ends=(inner, middle), radii=(8, 6))
        add_capsule(thick, grid, ends=(middle, head + np.array([0, 0, 22], np.float32)), radii=(6, 7))
        marrow = (260 + 50 * grid.noise(rng, 5.0)) * anatomy.bone
        paint(image, plate * within, 600 * anatomy.bone)
        paint(image, thick * within, marrow)
