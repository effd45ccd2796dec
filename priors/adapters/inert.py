r"""Reading checkpoints of strangers: tensors and plain data come out, nothing runs.

A pickle is a program. It names functions and classes, and loading calls them. `weights_only` of torch refuses what it
does not know; many published checkpoints hold an ``argparse.Namespace``, an OmegaConf tree or a NumPy scalar beside
their tensors, and some hold nothing but a pickled network class. They are read by an unpickler that knows how to build
tensors and containers. Every other class becomes an inert stand-in that remembers what it was given and does nothing. A
name that could only be there to run something (``os.system``, ``builtins.eval``, a loader of code) ends the reading.
"""

import contextlib
import io
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from priors.runtime.errors import InputError
from priors.runtime.system.memory import available_bytes, human

# What rebuilds tensors, as torch's own restricted reader knows it.
TENSORS = {
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch", "device"),
}
STORAGES = {
    "FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "IntStorage", "ShortStorage",
    "CharStorage", "ByteStorage", "BoolStorage",
}  # fmt: skip
PLAIN = {
    "set",
    "frozenset",
    "complex",
    "bytearray",
    "list",
    "dict",
    "tuple",
    "int",
    "float",
    "str",
    "bool",
    "slice",
}
CODE = {
    "os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "importlib", "runpy", "pty", "ctypes", "pickle",
    "_pickle", "code", "codeop", "webbrowser", "marshal", "types", "functools", "operator", "inspect", "asyncio",
    "multiprocessing", "threading", "signal", "builtins", "__builtin__", "commands", "pip", "site", "tempfile", "io",
    "pathlib", "urllib", "http", "requests", "ftplib", "smtplib", "platform", "timeit", "cProfile", "profile", "pdb",
    "bdb", "doctest", "distutils", "setuptools", "numba", "cffi", "nodes", "gc", "atexit",
}  # fmt: skip


class StandIn:
    """In place of an object whose class is not known: it keeps what it is given.

    Attributes:
        path: module and name of the class.
        given: arguments of its construction.
        state: what it was restored from; a mapping where that is what the class keeps.
    """

    path = ""
    given: tuple[Any, Any]
    state: Any
    held: list[Any]

    def __new__(cls, *given: Any, **named: Any) -> "StandIn":
        """Accept any arguments."""
        stand_in = object.__new__(cls)
        stand_in.given, stand_in.state = (given, named), None
        stand_in.held = []
        return stand_in

    def __init__(self, *given: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.held.append((key, value))

    def append(self, value: Any) -> None:
        """Keep an element of a list."""
        self.held.append(value)

    def extend(self, values: Any) -> None:
        """Keep the elements of a list."""
        self.held.extend(values)

    def __call__(self, *given: Any, **named: Any) -> "StandIn":
        """Return another stand-in, whatever it would have been called for."""
        return StandIn(*given, **named)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<{self.path or 'unknown'}>"


class Inert(pickle.Unpickler):
    """An unpickler that builds tensors, containers and stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of a pickle stands for.

        Raises:
            InputError: the name could only be there to run something.
        """
        if (module, name) in TENSORS:
            return _only_called(super().find_class(module, name))
        if module == "torch" and name in STORAGES:
            return super().find_class(module, name)
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            raise InputError("holds a checkpoint within a checkpoint, expected tensors")
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("builtins", "__builtin__") and name in PLAIN:
            return getattr(__import__("builtins"), name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) == ("_codecs", "encode"):
            return _encoded
        if module.split(".")[0] in CODE or name.split(".")[0] in (
            "eval",
            "exec",
            "system",
            "getattr",
            "__import__",
        ):
            raise InputError(
                f"asks to call {module}.{name}, expected tensors and plain data; nothing of it was run"
            )
        return type(name.rsplit(".", 1)[-1] or "Unknown", (StandIn,), {"path": f"{module}.{name}"})


def _only_called(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a new function, so that a pickle which changes attributes of what it named changes nothing of torch."""

    def call(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    return call


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Return the bytes that protocol 2 wrote as text."""
    return str(text).encode("latin1" if encoding not in ("latin1", "utf-8", "ascii") else encoding)


def _load(stream: Any, **named: Any) -> Any:
    return Inert(stream, **named).load()


# What torch.load asks of a pickle module.
MODULE = SimpleNamespace(
    Unpickler=Inert,
    load=_load,
    loads=lambda data, **named: Inert(io.BytesIO(data), **named).load(),
    UnpicklingError=pickle.UnpicklingError,
    __name__="inert",
)


def read_tensors(path: Path) -> Any:
    """Return the content of a checkpoint: safetensors, or what ``torch.save`` wrote, zip or legacy.

    Raises:
        InputError: not such a file, damaged, too large, or it asks to run something.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if size > available_bytes():
        raise InputError(f"{path}: holds {human(size)}, and {human(available_bytes())} are free")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"{path}: not a safetensors file ({' '.join(str(error).split())[:120]})"
            ) from error
    _check_zip(path, size)
    with contextlib.suppress(Exception):
        return torch.load(path, map_location="cpu", weights_only=True)
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=MODULE)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except MemoryError as error:
        raise InputError(f"{path}: asks for more memory than there is") from error
    except Exception as error:
        told = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: is no checkpoint of torch, or damaged ({type(error).__name__}: {told})"
        ) from error


def read_pickle(path: Path) -> Any:
    """Return the content of a bare pickle, tensors included, with stand-ins for everything else.

    Raises:
        InputError: not a pickle, damaged, or it asks to run something.
    """
    try:
        with path.open("rb") as stream:
            return _Bare(stream).load()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, MemoryError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__})") from error
    except Exception as error:
        told = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: is no pickle, or damaged ({type(error).__name__}: {told})") from error


class _Bare(Inert):
    """Tensors inside a bare pickle are checkpoints of their storages, as bytes."""

    def find_class(self, module: str, name: str) -> Any:
        """See `Inert`."""
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _storage_from_bytes
        return super().find_class(module, name)


def _storage_from_bytes(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _check_zip(path: Path, size: int) -> None:
    """Refuse archives that hold a program, or far more than their size.

    Raises:
        InputError: they do.
    """
    if not zipfile.is_zipfile(path):
        if tarfile.is_tarfile(path):
            raise InputError(f"{path}: is a tar archive, expected a checkpoint written by torch.save")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: is a damaged archive ({' '.join(str(error).split())[:80]})") from error
    if any(Path(entry.filename).name == "constants.pkl" for entry in names):
        raise InputError(f"{path}: is a TorchScript program, expected weights (a state dict)")
    if sum(entry.file_size for entry in names) > max(2 * size, size + (1 << 20)):
        raise InputError(f"{path}: is a compressed archive, expected one written by torch.save")
