"""No path of the machine in a record: absolute paths give way to the name they end with.

A run folder, a report or a card is passed on; where its maker keeps files tells others about people, patients and
machines. What a path led to is in ``inputs.json`` and ``fingerprint.json`` by its hash.
"""

import os
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from priors.runtime.config import tree_to_yaml

# In quotes a path may hold spaces; elsewhere it ends at one.
_QUOTED = re.compile(
    r"(['\"])(?:file://)?(?:~[^/'\"]*|[A-Za-z]:)?[/\\](?:[^'\"/\\]*[/\\])*([^'\"/\\]+)[/\\]?\1"
)
_BARE = re.compile(r"(?<![\w.:/~-])(?:~\w*|[A-Za-z]:)?/(?:[^\s'\",;()\[\]/]+/)+([^\s'\",;()\[\]/:]+)/?")


def without_paths(text: str) -> str:
    """Return a text whose absolute paths are cut to their last names; ``1/mm`` and URLs stay."""
    return _BARE.sub(r"\1", _QUOTED.sub(r"\1\2\1", text))


def public(settings: BaseModel) -> Any:
    """Return settings as plain data, with absolute paths cut to their last names."""
    return _cut(settings.model_dump(mode="json"), lambda text: os.path.isabs(os.path.expanduser(text)))


def portable(settings: BaseModel) -> Any:
    """Return settings for a comparison: every path that exists is cut too, so that files may have been moved."""
    return _cut(settings.model_dump(mode="json"), lambda text: "/" in text and os.path.exists(text))


def public_yaml(settings: BaseModel) -> str:
    """Return the YAML text of `public` settings."""
    return tree_to_yaml(public(settings))


def _cut(tree: Any, is_path: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _cut(value, is_path) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_cut(value, is_path) for value in tree]
    if isinstance(tree, str) and "\0" not in tree and (os.path.isabs(tree) or is_path(tree)):
        return PurePath(tree).name or tree
    return tree
