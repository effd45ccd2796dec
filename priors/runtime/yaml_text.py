"""YAML that people write, read as plain data: nothing is evaluated, and a short text cannot become a large tree."""

import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from priors.runtime.errors import InputError

LARGEST_TEXT = 2**25
DEEPEST = 50


def read_text(path: Path) -> str:
    """Return the text of a small file that people write.

    Raises:
        InputError: it is a pipe or a device, or larger than any such file.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no file, expected YAML")
    if path.stat().st_size > LARGEST_TEXT:
        raise InputError(
            f"{path}: found {path.stat().st_size} bytes of YAML, expected at most {LARGEST_TEXT}"
        )
    return path.read_text(encoding="utf-8")


def check_yaml(text: str, source: str) -> None:
    """Refuse what makes a short text a large tree: names that stand for other parts, and endless nesting.

    Raises:
        InputError: it has some, or is no YAML.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise InputError(f"{source}: found the alias '*{event.anchor}', expected values written out")
            if depth > DEEPEST:
                raise InputError(f"{source}: is nested more than {DEEPEST} levels deep")
    except YAMLError as error:
        raise InputError(f"{source}: is no valid YAML ({one_line(error)})") from error


def safe_yaml(path: Path) -> Any:
    """Return the content of a YAML file as plain data.

    Raises:
        InputError: it cannot be read, is no YAML, or is made to cost much.
    """
    try:
        text = read_text(path)
        check_yaml(text, str(path))
        return yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InputError(f"{path}: is not a readable YAML file ({one_line(error)})") from error


def plain_yaml(text: str, source: str) -> Any:
    """Parse YAML text without resolving anything."""
    check_yaml(text, source)
    if "${" in text:
        raise InputError(f"{source}: found '${{...}}', expected a value: expressions are not evaluated")
    try:
        return OmegaConf.to_container(OmegaConf.create(_ranges_quoted(text)), resolve=False)
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise InputError(f"{source}: is no valid YAML ({one_line(error)})") from error


def _ranges_quoted(text: str) -> str:
    """Return YAML in which 20:28 is the text it looks like: YAML 1.1 reads it as a number of base 60, 1228."""
    return re.sub(r"(?<=[\s\[,{:])(\d+(?::\d+)+)(?=\s*(?:[,\]}#]|$))", r"'\1'", text, flags=re.MULTILINE)


def one_line(error: Exception) -> str:
    """Return the first line that says something of an error's text."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200]
