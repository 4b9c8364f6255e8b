"""Where recordings begin and end: at the borders of periods, at silences, or with the film."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.data.importers.log import Segment
from detach.data.importers.spool import ROW, Period, Spool

SHORTEST_S = 10.0
"""Anything shorter has too few windows to be a recording; its rows are counted."""


@dataclass(frozen=True)
class Piece:
    """What becomes one recording: its time and the changes in it."""

    start_s: float
    end_s: float
    rows: NDArray[Any]
    whole: bool = False
    """Whether it begins where its period does."""
    segments: tuple[Segment, ...] = field(default=())


def cut(periods: Sequence[Period], gap_s: float) -> Iterator[Piece]:
    """Pieces of the periods: each a period, or less where all sensors were silent for long.

    A silence across the border of two periods counts as one.
    """
    before_s = float("-inf")
    for number, period in enumerate(periods):
        rows = period.read()
        after_s = periods[number + 1].first_s if number + 1 < len(periods) else float("inf")
        t_s = rows["t_s"]
        edges = [0, *(np.flatnonzero(np.diff(t_s) > gap_s) + 1).tolist(), len(rows)]
        for first, last in pairwise(edges):
            joined = first == 0 and t_s[0] - before_s <= gap_s
            goes_on = last == len(rows) and after_s - t_s[-1] <= gap_s
            start_s = period.start_s if joined else float(np.floor(t_s[first]))
            end_s = period.end_s if goes_on else float(np.ceil(t_s[last - 1])) + 1
            yield Piece(start_s, min(end_s, period.end_s), rows[first:last], first == 0)
        before_s = float(t_s[-1])


def film_pieces(spool: Spool, films: Sequence[Sequence[Segment]]) -> Iterator[Piece]:
    """One piece for each stretch of film; changes before it come along, for the state there."""
    before = np.empty(0, dtype=ROW)
    periods, at = spool.periods(), 0
    for film in films:
        start_s, end_s = film[0].start_s, film[-1].end_s
        while at < len(periods) and periods[at].start_s < end_s:
            before = np.concatenate([before, periods[at].read()])
            at += 1
        stop = int(np.searchsorted(before["t_s"], end_s))
        yield Piece(start_s, end_s, before[:stop], segments=tuple(film))
        before = before[stop:]
