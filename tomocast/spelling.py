"""Spellings of one release ago: today's words for the verbs they were, with a note on standard error.

tomocast prepare-ct SOURCE        ->  tomocast prepare slices SOURCE
tomocast simulate CHEST.zip       ->  tomocast simulate scan CHEST.zip
tomocast inspect FILE --json      ->  tomocast inspect FILE --json -
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

RENAMED = {
    "prepare-ct": ("prepare", "slices"),
    "demo-assimilation": ("demo", "assimilation"),
    "simulate-system": ("simulate", "system"),
    "verify": ("score", "ensemble"),
}
"""Verbs of before, and the two words that are meant."""

ALONE = {"prepare": "trajectories", "demo": "recon", "simulate": "scan", "score": "volume"}
"""What a verb that is one of a pair today meant when it stood alone."""


def current(words: Sequence[str], pairs: Mapping[str, Collection[str]]) -> list[str]:
    """Return the words of a command line in today's spelling.

    Args:
        words: after the program's name.
        pairs: verb -> the second words it has today.
    """
    if not words:
        return []
    meant = _meant(words, pairs) or (words[0],)
    return [*meant, *_with_target(words[1:])]


def note(words: Sequence[str], pairs: Mapping[str, Collection[str]]) -> str | None:
    """Return what to say of a spelling that goes with the next release, None for one of today."""
    meant = _meant(words, pairs)
    return meant and f"note: 'tomocast {words[0]}' is 'tomocast {' '.join(meant)}' now"


def _meant(words: Sequence[str], pairs: Mapping[str, Collection[str]]) -> tuple[str, str] | None:
    """Return the verb's two words of today, None where it is spelt as today."""
    if not words:
        return None
    first = words[0]
    if first in ALONE and _stands_alone(words[1:], pairs.get(first, ())):
        return first, ALONE[first]
    return RENAMED.get(first)


def _stands_alone(rest: Sequence[str], seconds: Collection[str]) -> bool:
    """Return whether no second word follows, nor a call for help, nor a misspelt second word."""
    if not rest:
        return True
    word = rest[0]
    if word in seconds or word == "--help":
        return False
    return Path(word).exists() or not difflib.get_close_matches(word, list(seconds), n=1, cutoff=0.7)


def _with_target(words: Sequence[str]) -> list[str]:
    """Give a bare ``--json`` its ``-``: what follows is nothing, an option, a setting or a file that is read."""
    spelt: list[str] = []
    for index, word in enumerate(words):
        spelt.append(word)
        follower = words[index + 1] if index + 1 < len(words) else None
        if word == "--json" and (follower is None or not _is_target(follower)):
            spelt.append("-")
    return spelt


def _is_target(word: str) -> bool:
    """Return whether JSON can be meant to go there."""
    if word == "-" or word.endswith(".json"):
        return True
    return not (word.startswith("-") or "=" in word or Path(word).exists())
