"""JSON into frozen dataclasses: every value is checked against the annotation of its field."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

LARGEST = 1e12
"""No number is larger."""
LONGEST = 2000
"""Characters of a text, entries of a list or an object."""


def decode(raw: bytes) -> Any:
    """JSON without what JSON leaves open: no key twice, no NaN or infinity.

    Raises:
        ValueError: It is not JSON that can be read, and why.
    """
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read(kind: type[T], value: object) -> T:
    """A dataclass from what `decode` gave.

    Fields may be of type str, int, float, bool, a Literal, a dataclass, ``tuple[X, ...]``,
    ``tuple[X, X]``, ``Mapping[str, X]``, or one of these or None.

    Raises:
        ValueError: A field is unknown, not of its type, or missing and without a default; says
            which.
    """
    return typing.cast("T", _read(kind, value, ""))


def _read(kind: Any, value: object, field: str) -> Any:
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        rest = next(option for option in options if option is not type(None))
        return None if value is None else _read(rest, value, field)
    if origin is tuple:
        return _read_tuple(options, value, field)
    if origin is Mapping:
        return _read_mapping(options[1], value, field)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, field)
    return _read_plain(kind, value, field)


def _read_dataclass(kind: Any, value: object, field: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(field or "the whole", "an object", value)
    hints = _hints(kind)
    for name in value:
        if name not in hints:
            raise ValueError(f"{_joined(field, name)} is no known field")
    usual = {f.name for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}
    for name in hints:
        if name not in value and name not in usual:
            raise ValueError(f"{_joined(field, name)} is missing")
    given = {n: hint for n, hint in hints.items() if n in value}
    return kind(**{n: _read(hint, value[n], _joined(field, n)) for n, hint in given.items()})


def _read_tuple(options: tuple[Any, ...], value: object, field: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > LONGEST:
        raise _wrong(field, f"a list of at most {LONGEST}", value)
    if options[-1] is Ellipsis:
        options = options[:1] * len(value)
    if len(options) != len(value):
        raise _wrong(field, f"a list of {len(options)}", value)
    pairs = zip(options, value, strict=True)
    return tuple(_read(option, item, f"{field}[{i}]") for i, (option, item) in enumerate(pairs))


def _read_mapping(kind: Any, value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > LONGEST:
        raise _wrong(field, f"an object of at most {LONGEST} entries", value)
    for name in value:
        _read_plain(str, name, f"a name in {field}")
    return {name: _read(kind, item, _joined(field, name)) for name, item in value.items()}


def _read_plain(kind: Any, value: object, field: str) -> Any:
    must, good = _rule(kind, value)
    if not good:
        raise _wrong(field, must, value)
    return float(value) if kind is float else value  # type: ignore[arg-type] # it is a number


def _rule(kind: Any, value: object) -> tuple[str, bool]:
    """What a value of a plain type must be, and whether it is."""
    if typing.get_origin(kind) is typing.Literal:
        options = typing.get_args(kind)
        return f"one of {', '.join(map(str, options))}", value in options
    if kind is str:
        text = isinstance(value, str) and len(value) <= LONGEST and value.isprintable()
        return f"at most {LONGEST} printable characters", text
    if kind is bool:
        return "true or false", isinstance(value, bool)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    small = number and abs(value) <= LARGEST  # type: ignore[arg-type] # NaN is not
    if kind is int:
        return "a whole number", small and isinstance(value, int)
    return "a finite number", small


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _wrong(field: str, must: str, value: object) -> ValueError:
    return ValueError(f"{field} must be {must}, found {repr(value)[:80]}")


def _joined(field: str, name: object) -> str:
    return f"{field}.{name}"[:200] if field else repr(name)[1:-1][:200]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice")
    return body


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")
