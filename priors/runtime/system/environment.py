"""Variables of the environment that libraries read when they are imported, checked before that."""

import os

from priors.runtime.errors import InputError

_THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_PROCESSES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


def check_environment() -> None:
    """Check what would end in an error of a library without its name.

    Raises:
        InputError: a number of threads is not a positive integer, or one of processes no integer.
    """
    for name in _THREADS:
        value = os.environ.get(name)
        # OpenMP takes a list, one number per level of nesting.
        if value is not None and not all(
            part.strip().isdigit() and int(part) > 0 for part in value.split(",")
        ):
            raise InputError(
                f"{name}: found {value!r} in the environment, expected a positive number of threads"
            )
    for name in _PROCESSES:
        value = os.environ.get(name)
        if value is not None and not value.strip().isdigit():
            raise InputError(f"{name}: found {value!r} in the environment, expected a number of processes")
