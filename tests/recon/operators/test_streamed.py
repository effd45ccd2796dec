"""The projector between arrays on disk: the same results, and never more than one slab and one block in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, DetectorOrbit, FanFlat, HelicalCone
from recon.operators.projector import Projector
from recon.operators.streamed import StreamedProjector

VOLUME = Grid((11, 20, 18), (1.5, 1.3, 1.3), (1.0, 2.0, -1.0))
ORBITS: dict[str, DetectorOrbit] = {
    "fan": FanFlat(views=6, sod_mm=60, sdd_mm=100),
    "cone": CircularCone(views=6, sod_mm=60, sdd_mm=100, start_deg=5),
    "helix": HelicalCone(views_per_turn=5, pitch_mm=9, sod_mm=60, sdd_mm=100),
}


class Watched:
    """An array that remembers the largest piece that was ever read or written at once."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.largest = array, array.shape, 0

    def __getitem__(self, key: object) -> np.ndarray:
        piece = self.array[key]
        self.largest = max(self.largest, piece.size)
        return piece

    def __setitem__(self, key: object, value: np.ndarray) -> None:
        self.largest = max(self.largest, value.size)
        self.array[key] = value


@pytest.mark.parametrize("orbit", ORBITS)
def test_streaming_gives_the_same_arrays_within_its_memory(orbit: str, tmp_path: Path) -> None:
    scan = ORBITS[orbit].fit(VOLUME).geometry()
    A = Projector(scan, VOLUME)
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(A.domain, generator=draw), torch.randn(A.range, generator=draw)
    disk = np.memmap(tmp_path / "volume", np.float32, "w+", shape=A.domain)
    disk[:] = x.numpy()
    volume, sinogram = Watched(disk), Watched(np.zeros(A.range, np.float32))
    streamed = StreamedProjector(scan, VOLUME, slab=4, block=2)
    streamed.forward(volume, sinogram)
    # Sums over slabs and blocks in another order.
    assert float((torch.from_numpy(sinogram.array) - A(x)).norm()) < 1e-6 * float(A(x).norm())
    sinogram.array[:] = y.numpy()
    streamed.adjoint(sinogram, volume)
    assert float((torch.from_numpy(np.array(disk)) - A.adjoint(y)).norm()) < 1e-6 * float(A.adjoint(y).norm())
    assert 8 * volume.largest <= streamed.plan().items["slab"]
    assert 8 * sinogram.largest <= streamed.plan().items["block"]


def test_zarr_arrays_stream(tmp_path: Path) -> None:
    scan = ORBITS["cone"].fit(VOLUME).geometry()
    A = Projector(scan, VOLUME)
    x = torch.rand(A.domain, generator=torch.Generator().manual_seed(2))
    volume = zarr.create_array(tmp_path / "x.zarr", shape=A.domain, chunks=(4, 20, 18), dtype="float32")
    sinogram = zarr.create_array(tmp_path / "y.zarr", shape=A.range, chunks=(2, *scan.shape), dtype="float32")
    volume[:] = x.numpy()
    StreamedProjector(scan, VOLUME, slab=4, block=2).forward(volume, sinogram)
    np.testing.assert_allclose(sinogram[:], A(x).numpy(), atol=1e-6 * float(A(x).max()))


def test_mistakes_are_one_clear_line() -> None:
    scan = ORBITS["fan"].fit(VOLUME).geometry()
    with pytest.raises(InputError, match="expected at least 1"):
        StreamedProjector(scan, VOLUME, slab=0, block=1)
    with pytest.raises(InputError, match=r"found a volume of \(1, 2, 3\)"):
        StreamedProjector(scan, VOLUME, slab=4, block=2).forward(np.zeros((1, 2, 3)), np.zeros((6, 1, 1)))
