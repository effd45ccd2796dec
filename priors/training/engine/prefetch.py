"""Batches drawn ahead of time, for a training whose accelerator would otherwise wait for them.

A batch is a pure function of its step, so threads may draw those of the next steps in any order and the run stays
the same to the bit.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Drawn = TypeVar("Drawn")

LARGEST = 16


class Prefetch(Generic[Drawn]):
    """A function of the step that is asked for consecutive steps, evaluated before it is asked.

    Args:
        draw: the batch of a step.
        workers: threads, and how many steps they look ahead; the cores of the machine by default.
    """

    def __init__(self, draw: Callable[[int], Drawn], *, workers: int | None = None) -> None:
        self.draw = draw
        self.workers = workers or min(LARGEST, os.cpu_count() or 1)
        self._drawn: dict[int, Future[Drawn]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def __call__(self, step: int) -> Drawn:
        """Return the batch of ``step`` and let the threads go on with the steps after it."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="batch")
        for later in range(step, step + self.workers + 1):
            if later not in self._drawn:
                self._drawn[later] = self._threads.submit(self.draw, later)
        for passed in [one for one in self._drawn if one < step]:
            self._drawn.pop(passed).cancel()
        return self._drawn.pop(step).result()
