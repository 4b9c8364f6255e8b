"""Recipes: YAML files that hold only what differs from a preset. Errors name file and line."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from detach.config import PRESETS, RunConfig, override, preset
from detach.errors import UsageError

SIZE_LIMIT = 1_000_000
MALFORMED = (
    *(yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError),
)
"""What PyYAML raises of a text: its own errors, and Python's where a tag does not fit a value."""


def find(name: Path) -> Path:
    """A recipe by path, or by the name of one that comes with the package.

    Raises:
        UsageError: There is none.
    """
    if name.is_file():
        return name
    shipped = {p.stem: p for p in sorted(models_folder().glob("*.yaml"))}
    if str(name) in shipped:
        return shipped[str(name)]
    raise UsageError(
        f"recipe {name} is not there; give a YAML file, or one of {', '.join(shipped)}"
    )


def models_folder() -> Path:
    """Where recipes and the sample recordings are: in the package, or beside a source tree."""
    inside = Path(str(files("detach"))) / "models"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "models"


def read(path: Path, name: str | None = None) -> RunConfig:
    """The configuration a recipe describes, on its preset, or on ``name`` where given.

    Raises:
        UsageError: Not YAML, an option that does not exist, a value of the wrong kind.
    """
    node = _compose(path)
    changes: dict[str, Any] = {}
    leaves = list(_leaves(path, node))
    for keys, value, line in leaves:
        _check(path, line, keys, value)
        place = changes
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    base: Any = name or changes.get("preset", "recommended")
    try:
        return override(preset(base), {**changes, "preset": base})
    except ValueError as error:
        raise UsageError(f"{path}{_blame(preset(base), leaves)}: {error}") from error


def _blame(base: RunConfig, leaves: Sequence[tuple[tuple[str, ...], Any, int]]) -> str:
    """``:LINE`` of the option that is out of range by itself; nothing where two do not agree."""
    for keys, value, line in leaves:
        change = value
        for key in reversed(keys):
            change = {key: change}
        try:
            override(base, change)
        except ValueError:
            return f":{line}"
    return ""


def _compose(path: Path) -> yaml.MappingNode:
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise UsageError(f"{path}: {path.stat().st_size} bytes are too many for a recipe")
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{path}:{line}: not YAML: {error.problem}") from error
    except (OSError, *MALFORMED) as error:
        raise UsageError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if node is None:
        return yaml.MappingNode("tag:yaml.org,2002:map", [])
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{path}:1: a recipe is a mapping, `option: value` on each line")
    return node


def _leaves(
    path: Path, node: yaml.MappingNode, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, int]]:
    """(keys, value, line) of every option."""
    for key_node, value_node in node.value:
        keys = (*prefix, str(key_node.value))
        if isinstance(value_node, yaml.MappingNode):
            _field(path, key_node.start_mark.line + 1, keys)
            yield from _leaves(path, value_node, keys)
        else:
            line = key_node.start_mark.line + 1
            try:
                value = yaml.SafeLoader("").construct_object(value_node, deep=True)
            except MALFORMED as error:
                raise UsageError(f"{path}:{line}: {'.'.join(keys)} is no plain value") from error
            yield keys, value, line


def _field(path: Path, line: int, keys: tuple[str, ...]) -> Any:
    """Type of the option ``keys``."""
    kind: Any = RunConfig
    for depth, key in enumerate(keys):
        hints = typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
        if key not in hints:
            name = ".".join(keys[: depth + 1])
            if not hints:
                name = ".".join(keys[:depth])
                raise UsageError(f"{path}:{line}: {name} must be {_words(kind)}, got a mapping")
            near = difflib.get_close_matches(key, hints, 1)
            hint = f"perhaps you meant {near[0]}" if near else f"there are {', '.join(hints)}"
            raise UsageError(f"{path}:{line}: {name} is no option; {hint}")
        kind = hints[key]
    return kind


def _check(path: Path, line: int, keys: tuple[str, ...], value: object) -> None:
    kind = _field(path, line, keys)
    name = ".".join(keys)
    if name == "preset" and not (isinstance(value, str) and value in PRESETS):
        raise UsageError(f"{path}:{line}: preset must be one of {', '.join(PRESETS)}")
    if not _fits(value, kind):
        hint = "; YAML wants a point in 1.0e-4" if isinstance(value, str) and "e" in value else ""
        hint = hint if _fits(0.5, kind) else ""
        raise UsageError(f"{path}:{line}: {name} must be {_words(kind)}, got {value!r}{hint}")


def _words(kind: Any) -> str:
    """A type as people say it."""
    if dataclasses.is_dataclass(kind):
        return f"a mapping of {', '.join(f.name for f in dataclasses.fields(kind))}"
    options = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(str, options))
    if typing.get_origin(kind) is tuple:
        return "a list of names, like [switch]"
    if options:
        return " or ".join(map(_words, options))
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return words.get(kind, "null")


def _fits(value: object, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return any(_fits(value, option) for option in typing.get_args(kind))
    if origin is tuple:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
