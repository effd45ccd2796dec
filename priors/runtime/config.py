"""Configuration: YAML layers and ``key.sub=value`` overrides, merged in order, validated by pydantic.

    settings = validate(deep merge of a.yaml, b.yaml, ..., {key: {sub: value}}, ...)

A mapping whose ``name`` differs from the one below it replaces that mapping instead of merging with it:
``name`` picks the member of a family (a method, an orbit), and another member's fields mean nothing to it.
YAML is read by OmegaConf, which understands ``1e-3`` as a number and refuses duplicate keys; its ``${...}``
interpolation is an error here, because a configuration is data and evaluates nothing.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from priors.runtime.errors import InputError
from priors.runtime.shipped import shipped_file
from priors.runtime.yaml_text import one_line, plain_yaml, read_text

MISSING = "???"
"""Stands in a printed configuration where a value must be given; OmegaConf's word for it."""

Tree = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


def load(
    model: type[Model], layers: Sequence[Path | Mapping[str, Any]] = (), overrides: Sequence[str] = ()
) -> Model:
    """Read, merge and validate a configuration.

    Args:
        model: the pydantic model of the whole configuration.
        layers: YAML files or plain mappings, later ones win.
        overrides: ``key.sub=value`` texts that win over every file.

    Raises:
        InputError: a file cannot be read or a key or value is wrong; all mistakes in one message.
    """
    return validate(model, _resolved(model, layers, overrides))


def template_of(
    model: type[BaseModel], layers: Sequence[Path | Mapping[str, Any]] | None, overrides: Sequence[str] | None
) -> str:
    """Return the YAML of a configuration, with ``???`` where a value without a default was not given.

    Args:
        model: the pydantic model of the whole configuration.
        layers: YAML files or plain mappings, later ones win.
        overrides: ``key.sub=value`` texts that win over every file.

    Raises:
        InputError: a file cannot be read or a key or value is wrong.
    """
    tree = _resolved(model, layers or [], overrides or [])
    try:
        return to_yaml(model.model_validate(tree))
    except ValidationError as error:
        details = error.errors(include_url=False)
        if any(detail["type"] != "missing" for detail in details):
            validate(model, tree)
    for name, field in model.model_fields.items():
        if not field.is_required():
            tree.setdefault(name, to_jsonable_python(field.get_default(call_default_factory=True)))
    schema = model.model_json_schema()
    for detail in details:
        path, _ = _locate(detail["loc"], tree, schema)
        _put(tree, path, MISSING)
    return OmegaConf.to_yaml(OmegaConf.create({key: tree[key] for key in model.model_fields if key in tree}))


def _resolved(
    model: type[BaseModel], layers: Sequence[Path | Mapping[str, Any]], overrides: Sequence[str]
) -> Tree:
    """Return the merged tree of a configuration, before it is validated."""
    merged = _defaults(model)
    for layer in layers:
        merged = merge(merged, layer if isinstance(layer, Mapping) else read_yaml(layer))
    dotted: Tree = {}
    for text in overrides:
        dotted = merge(dotted, parse_override(text))
    return dict(_completed(model, None, merge(merged, dotted)))


def _put(tree: Any, path: Sequence[str], value: Any) -> None:
    """Set a value deep inside a tree of mappings and lists."""
    *way, last = path
    for part in way:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    tree[last] = value


def settings_of(
    model: type[Model],
    layers: Sequence[Path] | None,
    options: Mapping[str, Any],
    overrides: Sequence[str] | None,
) -> Model:
    """Return the validated settings of a verb: files, then options that were given, then ``key=value``.

    Args:
        model: of the settings.
        layers: YAML files.
        options: dotted key -> value; None where the option was not given.
        overrides: ``key.sub=value`` texts.

    Raises:
        InputError: a file cannot be read or a key or value is wrong.
    """
    given: Tree = {}
    for key, value in options.items():
        tree = value
        for part in reversed(key.split(".")):
            tree = {part: tree}
        if value is not None:
            given = dict(merge(given, tree))
    # The command line is one layer: ``--steps 4 sampler.name=ddim`` means four steps of DDIM, in either order.
    for text in overrides or []:
        given = merge(given, parse_override(text))
    return load(model, [*(layers or []), given])


def validate(model: type[Model], tree: Mapping[str, Any], *, source: str = "configuration") -> Model:
    """Build ``model`` from plain data.

    Raises:
        InputError: one line with every mistake: full key, value found, what was expected, nearest right key.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        schema = model.model_json_schema()
        told = [_explain(detail, tree, schema) for detail in error.errors(include_url=False)]
        raise InputError(f"{source}: " + "; ".join(told)) from error


def read_yaml(path: Path) -> Tree:
    """Return the mapping in a YAML file as plain data; a shipped one, ``configs/...``, is found from anywhere.

    Raises:
        InputError: the file is absent, is no YAML mapping, or holds a ``${...}``.
    """
    try:
        text = read_text(shipped_file(Path(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a YAML file ({one_line(error)})") from error
    tree = plain_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise InputError(f"{path}: found {_short(tree)}, expected a YAML mapping of keys to values")
    return dict(_without_missing(tree))


def _without_missing(tree: Any) -> Any:
    """Drop the keys whose value is `MISSING`, which says that none was given."""
    if isinstance(tree, dict):
        return {key: _without_missing(value) for key, value in tree.items() if value != MISSING}
    return [_without_missing(value) for value in tree] if isinstance(tree, list) else tree


def parse_override(text: str) -> Tree:
    """Return ``{key: {sub: value}}`` for the text ``key.sub=value``; the value is read as YAML.

    Raises:
        InputError: there is no ``=``, a part of the key is empty, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or not all(part.strip() for part in parts):
        raise InputError(f"override: found '{text}', expected key=value or key.sub=value")
    # Wrapped in a mapping, so that a bare number or list is read by the same parser as in a file.
    wrapped = "value:\n" + "\n".join("  " + line for line in value.splitlines())
    tree: Any = plain_yaml(wrapped, f"override '{text}'")["value"]
    for part in reversed(parts):
        tree = {part.strip(): tree}
    return dict(tree)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """Return ``below`` with the keys of ``above`` laid over it, mapping by mapping."""
    if "name" in below and above.get("name", below["name"]) != below["name"]:
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def to_yaml(model: BaseModel) -> str:
    """Return the YAML text that builds ``model`` again."""
    return tree_to_yaml(model.model_dump(mode="json"))


def tree_to_yaml(tree: Tree) -> str:
    """Return the YAML text of plain data."""
    return OmegaConf.to_yaml(OmegaConf.create(tree))


def _defaults(model: type[BaseModel]) -> Tree:
    """Return the sections a model has by default: ``section.key=value`` then needs no repeated ``name``."""
    fields = model.model_fields.items()
    sections = {name: field.get_default(call_default_factory=True) for name, field in fields}
    return {
        key: item.model_dump(mode="json") for key, item in sections.items() if isinstance(item, BaseModel)
    }


def _completed(annotation: Any, default: Any, data: Any) -> Any:
    """Lay data over the defaults of the models it is meant for, so that one nested key can be given.

    A section ``fast: {levels: 3}`` of a method keeps the other values this method gives ``fast`` by default,
    which the section's own class may not have.
    """
    if not isinstance(data, Mapping):
        return data
    if get_origin(annotation) is dict:
        return {key: _completed(get_args(annotation)[1], None, value) for key, value in data.items()}
    member = _member(annotation, default, data)
    if member is None:
        return data
    laid = merge(default.model_dump(mode="json") if type(default) is member else {}, data)
    for key in laid.keys() & member.model_fields.keys():
        field = member.model_fields[key]
        laid[key] = _completed(field.annotation, field.get_default(call_default_factory=True), laid[key])
    return laid


def _member(annotation: Any, default: Any, data: Mapping[str, Any]) -> type[BaseModel] | None:
    """Return the model a mapping is meant for: the default's, or the family member that ``name`` picks."""
    own = getattr(default, "name", None)
    if isinstance(default, BaseModel) and data.get("name", own) == own:
        return type(default)
    queue: list[Any] = [annotation]
    found: list[type[BaseModel]] = []
    while queue:
        item = queue.pop()
        if isinstance(item, type) and issubclass(item, BaseModel):
            found.append(item)
        queue += get_args(item)
    tags = {kind.model_fields["name"].default: kind for kind in found if "name" in kind.model_fields}
    return found[0] if len(found) == 1 else tags.get(data.get("name"))


def nearest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word most like ``word``, None where nothing is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return close[0] if close else None


def _explain(detail: ErrorDetails, tree: Any, schema: Tree) -> str:
    """Return ``key: found X, expected Y`` for one pydantic error."""
    path, nodes = _locate(detail["loc"], tree, schema)
    key = ".".join(path) or "the whole"
    kind, found = detail["type"], _short(detail.get("input"))
    if kind == "extra_forbidden":
        known = sorted({name for node in nodes for name in node.get("properties", {})} - {path[-1]})
        guess = nearest(path[-1], known)
        hint = f"did you mean '{guess}'?" if guess else f"expected one of {', '.join(known)}"
        return f"{key}: unknown key (found {found}), {hint}"
    if kind == "missing":
        return f"{key}: found nothing, expected a value"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _explain_tag(key, detail)
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return f"{key}: found {found}: {message}"
    return f"{key}: found {found}, expected {message.removeprefix('should be ')}"


def _explain_tag(key: str, detail: ErrorDetails) -> str:
    """Return the message for a ``name`` that picks no member of its family."""
    context = detail.get("ctx", {})
    if detail["type"] == "union_tag_not_found":
        return f"{key}.name: found nothing, expected the name of one of the family"
    tags = [tag.strip().strip("'") for tag in str(context.get("expected_tags", "")).split(",")]
    guess = nearest(str(context.get("tag")), tags)
    hint = f"; did you mean '{guess}'?" if guess else ""
    return f"{key}.name: found '{context.get('tag')}', expected one of {', '.join(tags)}{hint}"


def _locate(location: Sequence[str | int], tree: Any, schema: Tree) -> tuple[list[str], list[Tree]]:
    """Walk to an error: the key as the user wrote it, and the schemas of the mapping that holds its end.

    pydantic puts the tag of a discriminated union into the location; the user's key has no such part.
    """
    path: list[str] = []
    nodes, holders = [*_variants(schema, tree, schema)], [schema]
    for part in location:
        if isinstance(tree, Mapping) and part == tree.get("name") and part not in tree:
            continue
        path.append(str(part))
        holders = nodes
        inside = tree.get(part) if isinstance(tree, Mapping) else None
        if isinstance(tree, Sequence) and isinstance(part, int) and part < len(tree):
            inside = tree[part]
        tree = inside
        children = [child for node in nodes if (child := _child(node, part)) is not None]
        nodes = [variant for child in children for variant in _variants(child, tree, schema)]
    return path, holders


def _child(node: Tree, part: str | int) -> Tree | None:
    """Return the schema of one key or element of a schema."""
    found = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
    return found if isinstance(found, dict) else None


def _variants(node: Tree, tree: Any, root: Tree) -> Iterator[Tree]:
    """Yield the schemas a node can stand for, only the named member where the data picks one."""
    if "$ref" in node:
        yield from _variants(root["$defs"][node["$ref"].rsplit("/", 1)[1]], tree, root)
        return
    tags = node.get("discriminator", {}).get("mapping", {})
    name = tree.get("name") if isinstance(tree, Mapping) else None
    if name in tags:
        yield from _variants({"$ref": tags[name]}, tree, root)
        return
    branches = node.get("oneOf") or node.get("anyOf") or node.get("allOf")
    if branches:
        for branch in branches:
            yield from _variants(branch, tree, root)
    else:
        yield node


def _short(value: Any) -> str:
    """Return a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
