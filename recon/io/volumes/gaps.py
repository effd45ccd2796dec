"""Slices that are missing between others: which, and their values where a user asks to go on without them."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Shaped


def missing_numbers(names: list[str]) -> list[int]:
    """Return the numbers left out in the names of files, in order; empty where names are not numbered evenly.

    The number that counts is the last one that differs between names; its usual step may be any, so that every tenth
    slice is whole.
    """
    numbers = _numbers(names)
    if numbers is None or len(numbers) < 3:
        return []
    steps = [b - a for a, b in pairwise(numbers)]
    usual = Counter(steps).most_common(1)[0][0]
    if usual < 1 or any(step < 1 or step % usual for step in steps):
        return []
    return sorted(set(range(numbers[0], numbers[-1] + 1, usual)) - set(numbers))


def filled(
    values: Shaped[np.ndarray, "z y x"], names: list[str], missing: list[int]
) -> tuple[Float32[np.ndarray, "z2 y x"], str]:
    """Return the slices with those of the ``missing`` numbers interpolated linearly, and a sentence that says so."""
    numbers = _numbers(names)
    assert numbers is not None
    return interpolated(values, np.array(numbers), np.array(sorted({*numbers, *missing})))


def interpolated(
    values: Shaped[np.ndarray, "z y x"], known: np.ndarray, wanted: np.ndarray
) -> tuple[Float32[np.ndarray, "z2 y x"], str]:
    """Return slices at the places ``wanted`` from those at ``known``, and a sentence that says how many are made up."""
    after = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    low, high = known[after - 1], known[after]
    share = ((wanted - low) / (high - low)).astype(np.float32)
    result = np.empty((len(wanted), *values.shape[1:]), np.float32)
    for k, (index, fraction) in enumerate(zip(after, share, strict=True)):
        result[k] = (1 - fraction) * values[index - 1] + fraction * values[index]
    made = len(wanted) - len(known)
    return result, f"{made} of {len(wanted)} slices are missing and were interpolated from their neighbours"


def _numbers(names: list[str]) -> list[int] | None:
    words_of = [[int(word) for word in re.findall(r"\d+", name)] for name in names]
    if not words_of or len({len(words) for words in words_of}) != 1:
        return None
    differing = [k for k in range(len(words_of[0])) if len({words[k] for words in words_of}) > 1]
    return [words[differing[-1]] for words in words_of] if len(differing) == 1 else None
