"""Every family of checkpoints: who claims a file, and who reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from priors.adapters.families import adm, diffusers, edm, forcing, monai, score_sde
from priors.adapters.foreign import Foreign, Told, refuse
from priors.adapters.inert import read_pickle, read_tensors
from priors.adapters.refusals import FLAX, refusal_by_name, refusal_of_content
from priors.runtime.config import nearest
from priors.runtime.errors import InputError


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint.

    Attributes:
        name: what users call it.
        claims: tells, without raising, whether a file or folder is one; a file's content is given, None for a folder.
        read: reads it; raises `InputError` where it cannot be a prior or is damaged.
    """

    name: str
    claims: Callable[[Path, Any], bool]
    read: Callable[[Path, Any, Told], Foreign]


FAMILIES = (
    Family(diffusers.FAMILY, diffusers.claims, diffusers.read),
    Family(adm.FAMILY, adm.claims, adm.read),
    Family(monai.FAMILY, monai.claims, monai.read),
    Family(forcing.FAMILY, forcing.claims, forcing.read),
    Family(score_sde.FAMILY, score_sde.claims, score_sde.read),
    Family(edm.FAMILY, edm.claims, edm.read),
)
SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".pkl", *FLAX)


def read_checkpoint(source: Path, told: Told, *, family: str | None = None) -> Foreign:
    """Read a checkpoint of any family.

    Raises:
        InputError: there is no such file or family, no family claims it, it cannot be a prior, or it is damaged.
    """
    if not source.exists():
        raise InputError(
            f"{source}: does not exist, expected a checkpoint (a file, or a folder of diffusers or MONAI)"
        )
    named = None if family is None else _named(family)
    reason = refusal_by_name(source)
    if reason is not None:
        raise refuse(source, reason)
    try:
        content = _content(source)
        reason = refusal_of_content(content)
        if reason is not None:
            raise refuse(source, reason)
        chosen = named or next((each for each in FAMILIES if each.claims(source, content)), None)
        if chosen is None:
            raise InputError(
                f"{source}: {_seen(content)}, of no known family; expected a checkpoint of "
                f"{', '.join(each.name for each in FAMILIES)} (or say --family)"
            )
        if not chosen.claims(source, content):
            raise InputError(f"{source}: {_seen(content)}, not what checkpoints of {chosen.name} hold")
        return chosen.read(source, content, told)
    except (RecursionError, MemoryError) as error:
        raise InputError(f"{source}: is nested or sized beyond reading ({type(error).__name__})") from error


def claims(source: Path) -> bool:
    """Tell whether a file or folder may be a checkpoint, by its name."""
    if source.is_dir():
        return refusal_by_name(source) is not None or any(each.claims(source, None) for each in FAMILIES)
    return source.suffix in SUFFIXES


def _content(source: Path) -> Any:
    """Return what a file holds, None for a folder."""
    if source.is_dir():
        return None
    return read_pickle(source) if source.suffix == ".pkl" else read_tensors(source)


def _named(name: str) -> Family:
    """Return the family of a name.

    Raises:
        InputError: there is none.
    """
    known = [each.name for each in FAMILIES]
    if name not in known:
        near = nearest(name, known)
        hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(known)}"
        raise InputError(f"family: found {name!r}, {hint}")
    return FAMILIES[known.index(name)]


def _seen(content: Any) -> str:
    """Return what a checkpoint holds, in a few words."""
    if content is None:
        return "found a folder"
    if not isinstance(content, dict):
        return f"found {type(content).__name__}"
    names = [str(key) for key in content][:3]
    return f"found {len(content)} entries ({', '.join(names)}, ...)"
