"""Which chunks a Zarr store of ours has: one that is lost later must not read as missing values without a word.

Zarr does not store a chunk that holds nothing but the fill value, so an absent chunk says nothing by itself. A store
that is complete therefore notes in its attributes which chunks it does without; its reader compares.
"""

import itertools
from pathlib import Path

import zarr

from priors.runtime.errors import InputError

KEY = "tomocast_absent_chunks"


def note_absent(folder: Path) -> None:
    """Write the names of the chunks that a finished store does without into its attributes."""
    group = zarr.open_group(str(folder), mode="r+", use_consolidated=False)
    group.attrs[KEY] = absent(folder, group)


def check_chunks(folder: Path) -> None:
    """Check that a store has the chunks it had when it was finished; one that notes nothing is not checked.

    Raises:
        InputError: one is gone.
    """
    try:
        group = zarr.open_group(str(folder), mode="r", use_consolidated=False)
        noted = group.attrs.get(KEY)
        missing = absent(folder, group) if isinstance(noted, list) else []
    except Exception:
        # What is wrong with the store, its reader tells.
        return
    if not isinstance(noted, list):
        return
    lost = sorted(set(missing) - set(map(str, noted)))
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise InputError(
            f"{folder}: the chunk {lost[0]}{more} is missing, which was there when the archive was written; its values "
            "are lost"
        )


def absent(folder: Path, group: zarr.Group) -> list[str]:
    """Return the names of the chunks of a store of format 3 that are no files."""
    found = []
    for name, array in group.arrays():
        counts = [-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)]
        here = folder / name
        stored = {path.relative_to(folder).as_posix() for path in here.rglob("*") if path.is_file()}
        for place in itertools.product(*map(range, counts)):
            key = "/".join([name, "c", *map(str, place)])
            if key not in stored:
                found.append(key)
    return found
