"""YAML into frozen dataclasses. An error names the file, the line and the field.

Stricter than YAML: no anchors and aliases, no key twice, no tags, and a size limit, so that no file
grows in memory. Texts stay as they are written: ``active: off`` is the text "off", not a boolean.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from detach.errors import DataError

T = TypeVar("T")

LARGEST_BYTES = 1 << 20
MOST_ENTRIES = 1000
DEEPEST = 10
LONGEST_TEXT = 2000
TRUE, FALSE = {"true", "yes", "on"}, {"false", "no", "off"}


class _FieldError(Exception):
    def __init__(self, at: yaml.Node | int | None, field: str, problem: str) -> None:
        self.line = at if isinstance(at, int) else 1 if at is None else at.start_mark.line + 1
        super().__init__(f"{field}: {problem}" if field else problem)


def limited(low: float, high: float, default: Any = dataclasses.MISSING) -> Any:
    """A field that holds a number in [``low``, ``high``], or nothing where None is its default."""
    return dataclasses.field(default=default, metadata={"limits": (low, high)})


def read_yaml(kind: type[T], path: Path) -> T:
    """A dataclass from a file.

    Fields may be of type str, Path, int, float, bool, a Literal, a dataclass, ``tuple[X, ...]``,
    ``Mapping[str, X]``, or one of these or None. Its own ``__post_init__`` may raise ValueError.

    Raises:
        DataError: The file cannot be read, or a field is missing, unknown or not what it must be.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > LARGEST_BYTES:
        raise DataError(f"{path}: has {len(raw)} bytes; at most {LARGEST_BYTES} are read")
    try:
        return typing.cast("T", _read(kind, _composed(raw), ""))
    except _FieldError as error:
        raise DataError.at(path, error.line, str(error)) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 1 if mark is None else mark.line + 1
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise DataError.at(path, line, f"not YAML: {problem}") from error
    except (ValueError, OverflowError) as error:  # an escape of no character
        raise DataError(f"{path}: not YAML: {error}") from error


def _composed(raw: bytes) -> yaml.Node | None:
    text = raw.decode("utf-8-sig")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = 1 if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _FieldError(line, "", "anchors and aliases are not read; write it out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _FieldError(line, "", f"is nested deeper than {DEEPEST}")
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _read(kind: Any, node: yaml.Node | None, field: str) -> Any:
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        rest = next(option for option in options if option is not types.NoneType)
        return None if node is None or _is_null(node) else _read(rest, node, field)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, node, field)
    if origin is tuple:
        return _read_list(options[0], node, field)
    if origin is Mapping:
        entries = _entries(node, field)
        return {k: _read(options[1], v, _joined(field, k)) for k, (_, v) in entries.items()}
    if not isinstance(node, yaml.ScalarNode):
        raise _FieldError(node, field, f"must be {_must(kind)}, found {_form(node)}")
    return _read_plain(kind, node, field)


def _read_dataclass(kind: Any, node: yaml.Node | None, field: str) -> Any:
    entries, hints = _entries(node, field), _hints(kind)
    for name, (key, _) in entries.items():
        if name not in hints:
            close = difflib.get_close_matches(name, hints, 1)
            meant = f"; perhaps you meant {close[0]!r}" if close else ""
            known = "" if close else f"; there are {', '.join(hints)}"
            raise _FieldError(key, _joined(field, name), f"is no known field{meant}{known}")
    values = {n: _read(hints[n], v, _joined(field, n)) for n, (_, v) in entries.items()}
    for entry in dataclasses.fields(kind):
        if entry.name in values:
            _check_limits(entry, values[entry.name], entries[entry.name][1], field)
        elif (entry.default, entry.default_factory) == (dataclasses.MISSING,) * 2:
            raise _FieldError(node, _joined(field, entry.name), "is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise _FieldError(node, field, str(error)) from error


def _check_limits(entry: Any, value: Any, node: yaml.Node, field: str) -> None:
    limits = entry.metadata.get("limits")
    if limits is not None and value is not None and not limits[0] <= value <= limits[1]:
        must = f"must be in [{limits[0]:g}, {limits[1]:g}], found {value:g}"
        raise _FieldError(node, _joined(field, entry.name), must)


def _read_list(kind: Any, node: yaml.Node | None, field: str) -> tuple[Any, ...]:
    if isinstance(node, yaml.ScalarNode) and kind is str:
        return (_read_plain(str, node, field),)  # one text stands for a list of one
    if not isinstance(node, yaml.SequenceNode) or len(node.value) > MOST_ENTRIES:
        raise _FieldError(
            node, field, f"must be a list of at most {MOST_ENTRIES}, found {_form(node)}"
        )
    return tuple(_read(kind, item, f"{field}[{i}]") for i, item in enumerate(node.value))


def _read_plain(kind: Any, node: yaml.ScalarNode, field: str) -> Any:
    text = str(node.value)
    value: Any
    if typing.get_origin(kind) is typing.Literal:
        options = typing.get_args(kind)
        good, value = text in options, text
    elif kind is str:
        good, value = 0 < len(text) <= LONGEST_TEXT and text.isprintable(), text
    elif kind is Path:
        good, value = 0 < len(text) <= LONGEST_TEXT and text.isprintable(), Path(text)
    elif kind is bool:
        good, value = text.lower() in TRUE | FALSE, text.lower() in TRUE
    else:
        value = _number(kind, text)
        good = value is not None
    if not good:
        close = difflib.get_close_matches(text, typing.get_args(kind), 1)
        meant = f"; perhaps you meant {close[0]!r}" if close else ""
        raise _FieldError(node, field, f"must be {_must(kind)}, found {text[:80]!r}{meant}")
    return value


def _number(kind: Any, text: str) -> float | None:
    try:
        number: float = kind(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _entries(node: yaml.Node | None, field: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    if node is None or _is_null(node):
        return {}
    if not isinstance(node, yaml.MappingNode) or len(node.value) > MOST_ENTRIES:
        raise _FieldError(node, field, f"must be entries NAME: VALUE, found {_form(node)}")
    entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        if not name or not name.isprintable() or len(name) > 200 or name == "<<":
            raise _FieldError(key, field, "has a name that is no plain text")
        if name in entries:
            raise _FieldError(key, _joined(field, name), "stands there twice")
        entries[name] = key, value
    return entries


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _must(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    plain = {str: "a text of one line", Path: "a path", int: "a whole number", float: "a number"}
    return plain.get(kind, "true or false")


def _form(node: yaml.Node | None) -> str:
    if node is None or _is_null(node):
        return "nothing"
    names: dict[type, str] = {yaml.MappingNode: "entries", yaml.SequenceNode: "a list"}
    return names.get(type(node), repr(str(node.value)[:80]))


def _joined(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
