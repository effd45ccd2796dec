"""How compiled loops share work: equal parts to plain threads, since the loops release Python's lock.

The number of threads is torch's, which follows OMP_NUM_THREADS, and never above NUMBA_NUM_THREADS.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import torch
from numba.core import config


def run_shares(work: Callable[[int, int], None], count: int) -> None:
    """Run ``work(first, stop)`` on ``count`` parts, an equal share per thread."""
    threads = min(_threads(), count)
    shares = list(pairwise(count * k // threads for k in range(threads + 1)))
    if threads == 1:
        work(*shares[0])
        return
    for future in [_pool(threads).submit(work, *share) for share in shares]:
        future.result()


def _threads() -> int:
    return max(1, min(torch.get_num_threads(), int(config.NUMBA_NUM_THREADS)))  # type: ignore[attr-defined]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="projector")


# Threads do not survive a fork: a child process starts its own.
os.register_at_fork(after_in_child=_pool.cache_clear)
