"""No output over an input: checked before a verb reads or writes anything.

An output is an input's file when the two are one file: by name, through symbolic links, or as two names of one file
(hard links, bind mounts). What lies in a folder that is read is an input too.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from priors.runtime.errors import InputError


def check_output(out: Path | None, inputs: Iterable[Path | None], *, folder: bool = False) -> None:
    """Refuse to write over what is read.

    Args:
        out: file or folder to write; None is nothing.
        inputs: files and folders to be read; None stands for one that was not given.
        folder: the output is a folder, which then must not lie within an input.

    Raises:
        InputError: the output is an input, is part of one, or contains one.
    """
    if out is None:
        return
    for item in inputs:
        if item is None or not os.path.lexists(item):
            continue
        if same_file(out, item):
            raise InputError(f"{out}: is an input of this command; it will not be written over")
        if item.is_dir() and within(out, item) and (folder or os.path.lexists(out)):
            raise InputError(f"{out}: lies in the input {item}; write to another place")
        if within(item, out):
            raise InputError(f"{out}: contains the input {item}; it will not be written over")


def check_outputs(*outs: Path | None) -> None:
    """Refuse to write two outputs to one place.

    Raises:
        InputError: two are the same.
    """
    given = [out for out in outs if out is not None]
    for number, out in enumerate(given):
        if any(same_file(out, other) for other in given[:number]):
            raise InputError(f"{out}: is given for two outputs, expected one each")


def same_file(one: Path, other: Path) -> bool:
    """Tell whether two paths are one file."""
    if os.path.abspath(one) == os.path.abspath(other) or os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def within(inner: Path, outer: Path) -> bool:
    """Tell whether a path lies in a folder, by its name or where its links lead."""
    for real in (os.path.abspath, os.path.realpath):
        a, b = Path(real(inner)), Path(real(outer))
        if b in a.parents:
            return True
    return False
