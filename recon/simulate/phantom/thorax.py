"""Procedural thorax: a synthetic chest CT volume in HU for demonstrations, tests and some training data.

Every structure is a function of continuous model coordinates (a nominal adult in mm, gently warped by a few
waves), so organs, ribs and vessels continue from slice to slice at any slice spacing. The seed draws the
person: size, fat, heart, contrast agent, disease, the height of the volume in the chest, the couch.
"""

import numpy as np

from recon.simulate.phantom.body import (
    Anatomy,
    body_distance,
    cage_distance,
    dome_distance,
    draw_anatomy,
    mediastinum_distance,
    paint_abdomen,
    paint_centre,
    paint_wall,
)
from recon.simulate.phantom.drawing import Array, Canvas, paint, smooth_max
from recon.simulate.phantom.lungs import paint_airways, paint_lesions, paint_parenchyma, paint_vessels
from recon.simulate.phantom.skeleton import paint_front, paint_ribs, paint_shoulders, paint_spine

AIR_HU = -1000.0


def thorax(seed: int, *, shape: tuple[int, int, int], voxel_mm: tuple[float, float, float]) -> Array:
    """Draw a synthetic chest.

    Args:
        seed: draws the person; equal seeds give equal volumes.
        shape: voxels (z, y, x); z grows to the head, y to the back, x to the patient's left.
        voxel_mm: voxel size (z, y, x). The person is scaled to fill 70 to 95 percent of the field of view.

    Returns:
        HU as float32 (z, y, x), between -1000 and about 1100, without noise; -1000 outside.
    """
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(rng)
    grid = _place(rng, anatomy, shape=shape, voxel_mm=voxel_mm)
    axes = _warp(grid, rng, anatomy)
    image = np.full(shape, AIR_HU, dtype=np.float32)
    body, cage = body_distance(anatomy, *axes), cage_distance(anatomy, *axes)
    if rng.random() < 0.7:
        _paint_couch(image, grid, body=body, rng=rng)
    paint_wall(image, grid, anatomy, fields=(body, cage), rng=rng)
    inside = grid.cover(cage)
    dome = dome_distance(anatomy, axes)
    empty = smooth_max(-mediastinum_distance(anatomy, axes), -dome + 2, 5)
    lung = grid.cover(smooth_max(cage + 1.5, empty, 6))
    paint_centre(image, grid, anatomy, axes=axes, inside=inside, rng=rng)
    paint_abdomen(image, grid, axes=axes, dome=grid.cover(smooth_max(dome, cage, 3)), rng=rng)
    paint_parenchyma(image, grid, anatomy, lung=lung, rng=rng)
    paint_shoulders(image, grid, anatomy, within=grid.cover(np.maximum(body + 6, 7 - cage)), rng=rng)
    paint_ribs(image, grid, anatomy, fields=(cage, axes), rng=rng)
    paint_front(image, grid, anatomy, axes=axes, rng=rng)
    paint_spine(image, grid, anatomy, axes=axes, rng=rng)
    paint_vessels(image, grid, anatomy, lung=lung, rng=rng)
    paint_airways(image, grid, inside=inside, rng=rng)
    paint_lesions(image, grid, lung=lung, rng=rng)
    return np.maximum(image, AIR_HU)


def _place(
    rng: np.random.Generator,
    anatomy: Anatomy,
    *,
    shape: tuple[int, int, int],
    voxel_mm: tuple[float, float, float],
) -> Canvas:
    """Lay the grid into model space: scale the person into the field of view, choose height and offset."""
    field = min(shape[1] * voxel_mm[1], shape[2] * voxel_mm[2])
    low, high = -115.0, 105.0
    height = rng.uniform(low, high)
    fill = rng.uniform(0.7, 0.93)
    probe = np.linspace(-260, 260, 261, dtype=np.float32)
    zs = np.array([height], np.float32)[:, None, None]
    wide = body_distance(anatomy, probe[None, None, :], np.zeros((1, 1, 1), np.float32), zs)[0, 0]
    half = float(probe[wide < 0].max()) + 8
    scale = fill * field / (2 * half)
    z, y, x = (
        ((np.arange(count) - (count - 1) / 2) * spacing / scale).astype(np.float32)
        for count, spacing in zip(shape, voxel_mm, strict=True)
    )
    spare = (1 - fill) * field / 2 / scale
    sideways, down = rng.uniform(-0.5, 0.5) * spare, rng.uniform(-25, 10)
    return Canvas(
        x=(x - sideways)[None, None, :],
        y=(y - down + 0.12 * anatomy.cage_depth)[None, :, None],
        z=(z + height)[:, None, None],
        pixel=voxel_mm[1] / scale,
        step=voxel_mm[0] / scale,
    )


def _warp(grid: Canvas, rng: np.random.Generator, anatomy: Anatomy) -> tuple[Array, Array, Array]:
    """Return the model coordinates of each voxel: the grid bent by a few long waves and the spine's curve."""
    angle = rng.uniform(-0.08, 0.08)
    x = grid.x * np.cos(angle) - grid.y * np.sin(angle) + 0 * grid.z
    y = grid.x * np.sin(angle) + grid.y * np.cos(angle) + 0 * grid.z
    bend = [np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)]
    for target in bend:
        for length in (170.0, 95.0, 50.0):
            wave = rng.normal(size=3)
            wave *= 2 * np.pi / length / np.linalg.norm(wave)
            phase = wave[0] * grid.x + wave[1] * grid.y + wave[2] * grid.z + rng.uniform(0, 2 * np.pi)
            target += np.float32(length * 0.014) * np.sin(phase.astype(np.float32))
    curve = anatomy.spine_bend * np.sin((grid.z + 60) / 110)
    return (
        (x + bend[0] + curve).astype(np.float32),
        (y + bend[1]).astype(np.float32),
        grid.z.astype(np.float32),
    )


def _paint_couch(image: Array, grid: Canvas, *, body: Array, rng: np.random.Generator) -> None:
    """Paint a curved couch just below the back: two thin shells around foam."""
    row = np.broadcast_to(grid.y, body.shape)
    back = float(row[body < 0].max()) if (body < 0).any() else float(grid.y.max())
    surface = back + rng.uniform(1, 5) - grid.x**2 / rng.uniform(600, 1500) - grid.y
    reach = np.abs(grid.x) - min(float(-grid.x.min()), float(grid.x.max())) + 3 * grid.pixel
    floor = grid.y - float(grid.y.max()) + 3 * grid.pixel
    frame = grid.cover(np.maximum(reach, floor).astype(np.float32) + 0 * grid.z)
    thickness = rng.uniform(12, 25)
    slab = np.maximum(surface, -surface - thickness)
    paint(image, grid.cover(slab.astype(np.float32)) * frame, rng.uniform(-300, 100))
    paint(image, grid.cover(slab.astype(np.float32) + 2.2) * frame, rng.uniform(-960, -900))
