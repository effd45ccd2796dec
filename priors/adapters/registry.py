"""Every family of checkpoints: who claims a file, and who reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from priors.adapters import diffusers
from priors.adapters.foreign import Foreign, Told
from priors.runtime.config import nearest
from priors.runtime.errors import InputError


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint.

    Attributes:
        name: what users call it.
        claims: tells whether a file or folder is one, without raising.
        read: reads it; raises `InputError` where it cannot be a prior, is damaged, or something must be told.
    """

    name: str
    claims: Callable[[Path], bool]
    read: Callable[[Path, Told], Foreign]


FAMILIES = (Family(diffusers.FAMILY, diffusers.claims, diffusers.read),)


def family_of(source: Path, name: str | None = None) -> Family:
    """Return the family of a checkpoint, by name where one was given.

    Raises:
        InputError: there is no such family, no such file, or no family claims it.
    """
    known = [family.name for family in FAMILIES]
    if name is not None:
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(known)}"
            raise InputError(f"family: found {name!r}, {hint}")
        return FAMILIES[known.index(name)]
    if not source.exists():
        raise InputError(
            f"{source}: does not exist, expected a checkpoint (a file, or a folder of diffusers or MONAI)"
        )
    found = next((family for family in FAMILIES if family.claims(source)), None)
    if found is None:
        raise InputError(
            f"{source}: of no known family, expected a checkpoint of {', '.join(known)} (or say --family)"
        )
    return found


def claims(source: Path) -> bool:
    """Tell whether any family claims a file or folder."""
    return any(family.claims(source) for family in FAMILIES)
