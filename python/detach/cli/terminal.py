"""What all verbs do: read their options, and speak."""

import sys
from typing import TypeVar

import tyro

from detach.errors import UsageError

Args = TypeVar("Args")


def parse(kind: type[Args], argv: list[str], verb: str, default: Args | None = None) -> Args:
    """The options of a verb from the words after it; `--help` ends here.

    Raises:
        UsageError: A value out of range.
    """
    try:
        if default is None:
            return tyro.cli(kind, args=argv, prog=f"detach {verb}")
        return tyro.cli(kind, args=argv, prog=f"detach {verb}", default=default)
    except ValueError as error:
        raise UsageError(str(error)) from error


def say(line: str) -> None:
    """A line for the person at the terminal, at once."""
    print(line, flush=True)


def say_aside(line: str) -> None:
    """Beside the lines that a program may read from the standard output."""
    print(line, file=sys.stderr, flush=True)
