"""Frames out of a file, a block of times at once where its chunks hold several.

A chunk is decompressed as a whole. Reading one time after another from chunks of many times would decompress
each chunk once per time, so the times of one chunk are read together, as long as they fit into ``LARGEST``.
"""

import numpy as np
from jaxtyping import Float32

from assimilation.fields.cf import Described
from assimilation.fields.streams import FieldStream

LARGEST = 128 * 2**20
"""Bytes of a block, unless a single frame is larger."""


def stream(found: Described) -> FieldStream:
    """Return the frames of a described dataset; its file must stay open while they are read."""
    n, m = found.shape[:2]
    reader = _Blocks(found)
    return FieldStream(n, m, found.times, found.variables, found.grid, reader.read, found.attributes)


class _Blocks:
    """Reads blocks of times of one trajectory and keeps the last."""

    def __init__(self, found: Described) -> None:
        self._found = found
        frame = 4 * int(np.prod([found.shape[1], *found.shape[3:]]))
        self._length = max(1, min(_chunk(found), LARGEST // frame))
        self._held: tuple[int, int] | None = None
        self._values = np.empty((0, 0, 0, 0, 0), np.float32)

    def read(self, trajectory: int, time: int) -> Float32[np.ndarray, "m k y x"]:
        """Return the members of one trajectory at one time."""
        block = trajectory, time // self._length
        if block != self._held:
            first = block[1] * self._length
            self._held = None
            rows = slice(trajectory, trajectory + 1)
            self._values = self._found.read(trajectory=rows, time=slice(first, first + self._length))[0]
            self._held = block
        return self._values[:, time % self._length]


def _chunk(found: Described) -> int:
    """Return how many times a chunk of the file holds."""
    encodings = [found.dataset[item.name].encoding for item in found.variables]
    return max(int((encoding.get("preferred_chunks") or {}).get("time", 1)) for encoding in encodings)
