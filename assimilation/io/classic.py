"""Headers of classic NetCDF files (CDF-1 and CDF-2), walked before a library trusts them.

    header = "CDF" version numrecs dim_list gatt_list var_list
    list   = tag nelems [entry ...], or eight zero bytes        name = nelems characters, padded to four bytes

Counts are plain integers of four bytes: a damaged one makes a reader loop or allocate for hours. Every count must fit
into the bytes that are left, and every variable into the file (NetCDF Classic Format Specification).
"""

from dataclasses import dataclass
from pathlib import Path

from priors.runtime.errors import InputError

_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8}


def check_classic(path: Path) -> None:
    """Check the header of a classic NetCDF file.

    Raises:
        InputError: a count or a place in it does not fit the file.
    """
    content = path.read_bytes()
    try:
        _Header(content).check()
    except _DamageError as damage:
        raise InputError(f"{path}: is a damaged or truncated NetCDF file ({damage})") from damage


class _DamageError(Exception):
    """What is wrong with a header."""


@dataclass
class _Header:
    content: bytes
    place: int = 4

    def check(self) -> None:
        """Walk over the lists, then over the variables' places."""
        version, records = self.content[3], self._integer()
        if records == 2**32 - 1:
            raise _DamageError("its number of records is unknown")
        lengths = [self._dimension() for _ in range(self._count(_DIMENSION))]
        self._attributes()
        variables = [self._variable(lengths, version) for _ in range(self._count(_VARIABLE))]
        stride = sum(size for _, size, is_record in variables if is_record)
        for begin, size, is_record in variables:
            end = (
                begin
                + (stride * (records - 1) if is_record and records else 0)
                + (size if records or not is_record else 0)
            )
            # The last value may lack its padding.
            if end > len(self.content) + 3:
                raise _DamageError(f"a variable ends at byte {end} of {len(self.content)}")

    def _integer(self, width: int = 4) -> int:
        if self.place + width > len(self.content):
            raise _DamageError("the header ends early")
        value = int.from_bytes(self.content[self.place : self.place + width], "big")
        self.place += width
        return value

    def _skip(self, size: int) -> None:
        self.place += size + -size % 4
        if self.place > len(self.content):
            raise _DamageError("the header ends early")

    def _count(self, tag: int) -> int:
        """Return the number of entries of a list; each takes eight bytes at least."""
        found, count = self._integer(), self._integer()
        if found not in (0, tag) or (found == 0 and count):
            raise _DamageError(f"a list begins with {found}, expected {tag}")
        if 8 * count > len(self.content) - self.place:
            raise _DamageError(f"a list of {count} entries")
        return count

    def _dimension(self) -> int:
        self._skip(self._integer())
        return self._integer()

    def _attributes(self) -> None:
        for _ in range(self._count(_ATTRIBUTE)):
            self._skip(self._integer())
            kind, count = self._integer(), self._integer()
            if kind not in _SIZES:
                raise _DamageError(f"an attribute of type {kind}")
            self._skip(_SIZES[kind] * count)

    def _variable(self, lengths: list[int], version: int) -> tuple[int, int, bool]:
        """Return where a variable begins, the bytes of it (of one record of it), and whether it has records."""
        self._skip(self._integer())
        rank = self._integer()
        if 4 * rank > len(self.content) - self.place:
            raise _DamageError(f"a variable of {rank} dimensions")
        axes = [self._integer() for _ in range(rank)]
        if any(axis >= len(lengths) for axis in axes):
            raise _DamageError("a variable of an unknown dimension")
        self._attributes()
        kind = self._integer()
        if kind not in _SIZES:
            raise _DamageError(f"a variable of type {kind}")
        self._integer()  # vsize, which follows from the rest
        begin = self._integer(8 if version == 2 else 4)
        is_record = bool(axes) and lengths[axes[0]] == 0
        size = _SIZES[kind]
        for axis in axes[1 if is_record else 0 :]:
            size *= lengths[axis]
        return begin, size + -size % 4, is_record
