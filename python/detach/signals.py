"""What a process does about a signal, for a while."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


@contextmanager
def handled(number: signal.Signals, handler: Handler) -> Iterator[bool]:
    """Whether ``handler`` hears a signal meanwhile: not outside the main thread."""
    try:
        before = signal.signal(number, handler)
    except ValueError:
        yield False
        return
    try:
        yield True
    finally:
        signal.signal(number, before)
