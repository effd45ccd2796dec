"""Types and shapes checked in the first calls of every function in every test, and not again in the loops that follow.

``--jaxtyping-packages`` decorates every function of the product with ``jaxtyping.jaxtyped``. A check takes about a
millisecond, twenty times what an iteration on a small volume takes, so that a solver's loop in a test would be checks
and little else; and preparing the checks of all functions, most of which no test of a process calls, takes 20 seconds
of processor time in each process. Here a function is prepared when it is first called, and checked in its first
``CHECKED`` calls of each test: loops call it again with arguments of the same kind.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

import jaxtyping
from jaxtyping._decorator import jaxtyped as jaxtyped_always

CHECKED = 10

_calls: dict[CodeType, int] = {}


def begin_test() -> None:
    """Check every function anew."""
    _calls.clear()


def jaxtyped(fn: Any = None, *, typechecker: Any) -> Any:
    """Decorate a function, or a dataclass's ``__init__``, as ``jaxtyping.jaxtyped`` does; see the module."""
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isclass(fn):
        if dataclasses.is_dataclass(fn) and inspect.isfunction(fn.__dict__.get("__init__")):
            fn.__init__ = _checked_at_first(fn.__init__, typechecker)
        return fn
    return (
        _checked_at_first(fn, typechecker)
        if inspect.isfunction(fn)
        else jaxtyped_always(fn, typechecker=typechecker)
    )


def _checked_at_first(fn: Callable, typechecker: Any) -> Callable:
    if hasattr(fn, "__wrapped__"):
        # An ``__init__`` that its class inherits or wrote is decorated already.
        return fn
    code, checked = fn.__code__, None

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked
        calls = _calls.get(code, 0)
        if calls >= CHECKED:
            return fn(*args, **kwargs)
        _calls[code] = calls + 1
        if checked is None:
            checked = jaxtyped_always(fn, typechecker=typechecker)
        return checked(*args, **kwargs)

    return call


def install() -> None:
    """Let the hook, which finds the decorator by its name, use this one for modules that are imported from now on."""
    jaxtyping.jaxtyped = jaxtyped
