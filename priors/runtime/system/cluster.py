"""Work on an archive that is shared by the processes of a Dask cluster, with the results of one process, in its order.

    local      a worker per processor, on this machine
    ADDRESS    a scheduler that runs already, such as tcp://host:8786; its workers see the same files and have tomocast

Every item is worked on whole by one worker and results are taken in order, so the numbers are those of one process to
the bit. Few results wait at a time: an archive does not gather in the memory of this process.
"""

import importlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from priors.runtime.errors import InputError, show_warnings

Item = TypeVar("Item")
Result = TypeVar("Result")
PATIENCE = "10s"
AHEAD = 2
"""Items per worker that are worked on or wait to be taken."""


@dataclass(frozen=True)
class Workers:
    """Where work is done: in this process, or by a cluster's workers."""

    client: Any = None

    @property
    def alone(self) -> bool:
        """Whether this process does all of it."""
        return self.client is None

    def ordered(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results of all items in their order.

        Raises:
            InputError: what the work raises, or the cluster lost the workers that had it.
        """
        if self.client is None:
            yield from map(work, items)
            return
        count = max(1, len(self.client.scheduler_info(n_workers=-1)["workers"])) * AHEAD
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(self.client.submit(_guarded, work, item, pure=False))
            if len(waiting) >= count:
                yield self._taken(waiting.popleft())
        while waiting:
            yield self._taken(waiting.popleft())

    def _taken(self, future: Any) -> Any:
        try:
            result = future.result()
        except Exception as error:
            kind = type(error).__name__
            if kind not in ("KilledWorker", "CancelledError", "CommClosedError", "FutureCancelledError"):
                raise
            raise InputError(
                f"--cluster: the cluster lost the workers that had a part of the work ({kind}); perhaps they ran "
                "out of memory"
            ) from error
        return self._checked(result)

    def _checked(self, result: Any) -> Any:
        if isinstance(result, Mistake):
            raise InputError(result.text)
        return result


@dataclass(frozen=True)
class Mistake:
    """What a worker found wrong with an input: given back as a result, since Dask would log an error with its place."""

    text: str


def _guarded(work: Callable[[Item], Result], item: Item) -> Result | Mistake:
    try:
        return work(item)
    except InputError as error:
        return Mistake(str(error))


ALONE = Workers()
"""This process."""


@contextmanager
def workers(cluster: str | None) -> Iterator[Workers]:
    """Yield workers: of a new local cluster, of the scheduler at an address, or this process where None.

    Raises:
        InputError: Dask is not installed, or nothing answers at the address.
    """
    if cluster is None:
        yield Workers()
        return
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise InputError("--cluster: needs Dask: install the extra, pip install 'tomocast[dask]'") from error
    # A mistake in a file is told once, by this process; Dask would add a traceback.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    own = None
    try:
        if cluster == "local":
            # Memory is the plan's business: a limit per worker would end what fits.
            own = distributed.LocalCluster(
                n_workers=os.cpu_count() or 1, threads_per_worker=1, memory_limit=0, dashboard_address=None
            )
        client = distributed.Client(own or cluster, timeout=PATIENCE)
    except (OSError, ValueError, TypeError, TimeoutError) as error:
        raise InputError(
            f"--cluster: nothing answers at {cluster!r}, expected local or the address of a scheduler "
            "(tcp://host:8786)"
        ) from error
    try:
        if own is not None:
            client.run(show_warnings)
        yield Workers(client)
    finally:
        client.close()
        if own is not None:
            own.close()
