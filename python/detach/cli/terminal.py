"""What all verbs do: read their options, and speak."""

import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Any, TypeVar, get_origin, get_type_hints

import tyro

from detach.errors import UsageError

Args = TypeVar("Args")


def parse(kind: type[Args], argv: list[str], verb: str, default: Args | None = None) -> Args:
    """The options of a verb from the words after it; `--help` ends here.

    Raises:
        UsageError: A value out of range, or a list that is empty or given twice.
    """
    _check_lists(kind, argv)
    try:
        if default is None:
            return tyro.cli(kind, args=argv, prog=f"detach {verb}")
        return tyro.cli(kind, args=argv, prog=f"detach {verb}", default=default)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _check_lists(kind: type[Any], argv: Sequence[str]) -> None:
    """That no list is named again, for the first would be lost without a word, and none is empty.

    Of a recipe's options an empty list stands for none, instead of what the recipe has.
    """
    lists = _lists(kind)
    seen: set[str] = set()
    for word, after in pairwise([*argv, "--"]):
        name = word.partition("=")[0].replace("_", "-")
        if name not in lists:
            continue
        if name in seen:
            raise UsageError(f"{name} is given twice; name all its values after one {name}")
        if "." not in name and "=" not in word and after.startswith("--"):
            raise UsageError(f"{name} needs at least one value after it, or leave it out")
        seen.add(name)


def _lists(kind: type[Any], prefix: str = "--") -> set[str]:
    """Options that take several values; those of a recipe without the name of its field."""
    found: set[str] = set()
    for name, hint in get_type_hints(kind).items():  # without what tyro adds to them
        option = f"{prefix}{name.replace('_', '-')}"
        if get_origin(hint) is tuple:
            found.add(option)
        elif is_dataclass(hint) and isinstance(hint, type):
            found |= _lists(hint, "--" if name == "run" else f"{option}.")
    return found


def say(line: str) -> None:
    """A line for the person at the terminal, at once."""
    print(line, flush=True)


def say_aside(line: str) -> None:
    """Beside the lines that a program may read from the standard output."""
    print(line, file=sys.stderr, flush=True)
