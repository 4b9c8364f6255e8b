"""Clocks of short recordings of one room, from what moves where when a switch turns.

A sequence of 45 s has a handful of switchings, too few to find its lag by itself (`detach sync`
wants minutes). Two things help. Sequences of one session share their clocks, so their switchings
are laid over one another. And in all sessions the same cupboard moves in the same patches of the
picture, for a closing as for an opening in reverse: what the picture does around the switchings of
all other sessions, closings turned round in time, is a template, and a session's lag is where it
fits best.

Hands set off for a cupboard sooner before it opens than they leave after it is closed, so that
openings and closings turned round are alike at a lag that is a little wrong, by the same for all.
What stands still until a contact parts, and again once it has closed, is the door: all lags are put
right by where such motion sets in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.data.quality_camera import Motion

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

HZ = 20.0
"""Of the grid that motion is brought to."""
WITHIN_S = 4.0
"""Lags up to this are looked for."""
AROUND_S = 2.5
"""Of the template, before and after a switching."""
HALF, REACH = round(AROUND_S * HZ), round((WITHIN_S + AROUND_S) * HZ)
SLOW_S = 20.0
"""What lasts longer is light, not motion."""
COARSE = 2
"""So many cells a side make a patch."""
CHANCE = 2.0
"""Of a template, what is below so many standard deviations of chance is left out."""
ROUNDS = 10
CLEAR, APART_S = 1.3, 1.0
"""A lag is told when its fit exceeds any other so many times that is more than so far away."""
EDGE_S = 0.4
"""Motion of so long before and after says where it sets in, at most so far from the contact."""
NEAR_S = 1.0
"""How far from the lag of its session a single switching is looked for."""
FEWEST = 6
"""Switchings that a session must have."""


@dataclass(frozen=True)
class Switchings:
    """What one sequence offers: film, and when each switch turned on and off."""

    session: str
    motion: Motion
    on_s: Mapping[str, Floats]
    """By the sensors' clock, of each switch."""
    off_s: Mapping[str, Floats]


@dataclass(frozen=True)
class Fitted:
    """The lag of one session: what is at t by the sensors' clock is seen at t + lag."""

    lag_s: float
    clear: float
    """How many times the best fit exceeds any other."""
    turns: int

    @property
    def sure(self) -> bool:
        """Whether the lag is to be trusted."""
        return self.turns >= FEWEST and self.clear >= CLEAR


@dataclass(frozen=True)
class _Session:
    """Motion around switchings, summed; S switches, P patches of the picture."""

    on: Rows
    """[S, 2 REACH + 1, P]"""
    off: Rows
    turns: NDArray[np.int64]
    """[S]"""

    def at(self, first: int) -> tuple[Rows, Rows]:
        """A piece as long as a template."""
        piece = slice(first, first + 2 * HALF + 1)
        return self.on[:, piece], self.off[:, piece]


def fit_lags(sequences: Sequence[Switchings]) -> dict[str, Fitted]:
    """The lag of every session."""
    switches = sorted({name for s in sequences for name in (*s.on_s, *s.off_s)})
    sessions: dict[str, _Session] = {}
    for sequence in sequences:
        mine = _around(sequence, switches)
        known = sessions.get(sequence.session)
        sessions[sequence.session] = mine if known is None else _both(known, mine)
    found = {name: _top(_own_curve(session)) for name, session in sessions.items()}
    order = sorted(found, key=lambda name: -found[name][1])
    for i, name in enumerate(order[1:], start=1):  # the clearest first
        found[name] = _fit(name, sessions, found, order[:i])
    for _ in range(ROUNDS if len(order) > 1 else 0):
        before = [found[name][0] for name in order]
        for name in order:
            found[name] = _fit(name, sessions, found, [n for n in order if n != name])
        if max(abs(found[n][0] - b) for n, b in zip(order, before, strict=True)) < 0.2 / HZ:
            break
    late_s = _doors_late([(sessions[n], found[n][0]) for n in order]) if order else 0.0
    return {
        name: Fitted(found[name][0] + late_s, found[name][1], int(session.turns.sum()))
        for name, session in sessions.items()
    }


def residuals(
    sequences: Sequence[Switchings], lags: Mapping[str, Fitted]
) -> tuple[list[float], dict[str, float]]:
    """How far single switchings are off the lag of their session, in s.

    Each is laid over the template of the other sessions by itself, up to `NEAR_S` to either side.

    Returns:
        The median distance in each sequence, and in each session; NaN where nothing turned.
    """
    switches = sorted({name for s in sequences for name in (*s.on_s, *s.off_s)})
    parts = [(s.session, _around(s, switches)) for s in sequences]
    off: list[Floats] = []
    for sequence in sequences:
        others = [(p, lags[n].lag_s) for n, p in parts if n != sequence.session]
        opening = _template(others or [(p, lags[n].lag_s) for n, p in parts])
        off.append(_turns_off(sequence, dict(zip(switches, opening, strict=True)), lags))
    whole = {
        name: np.concatenate([o for o, s in zip(off, sequences, strict=True) if s.session == name])
        for name in lags
    }
    return [_middle(o) for o in off], {name: _middle(o) for name, o in whole.items()}


def _turns_off(
    sequence: Switchings, opening: Mapping[str, Rows], lags: Mapping[str, Fitted]
) -> Floats:
    """Distance of every switching [n] that fits somewhere from the lag of its session."""
    lag_s, found = lags[sequence.session].lag_s, []
    middle, near = REACH - HALF + round(lag_s * HZ), round(NEAR_S * HZ)
    firsts = range(max(0, middle - near), min(2 * (REACH - HALF), middle + near) + 1)
    for name, closing, seen in _pieces(sequence, *_on_grid(sequence.motion)):
        own = opening[name][:: -1 if closing else 1]
        fits = [float(np.vdot(own, seen[i : i + 2 * HALF + 1])) for i in firsts]
        best = int(np.argmax(fits))
        if fits[best] > 0:
            found.append(firsts[best] / HZ - WITHIN_S - lag_s)
    return np.asarray(found, dtype=np.float64)


def _middle(off: Floats) -> float:
    return float(np.median(np.abs(off))) if len(off) else float("nan")


def _fit(
    name: str,
    sessions: Mapping[str, _Session],
    found: Mapping[str, tuple[float, float]],
    among: Sequence[str],
) -> tuple[float, float]:
    """Where a session fits the template of others, and how clearly."""
    opening = _template([(sessions[n], found[n][0]) for n in among])
    mine = sessions[name]
    pieces = (mine.at(first) for first in range(mine.on.shape[1] - 2 * HALF))
    fits = [np.vdot(opening, on) + np.vdot(opening[:, ::-1], off) for on, off in pieces]
    return _top(np.asarray(fits, dtype=np.float64))


def _template(parts: Sequence[tuple[_Session, float]]) -> Rows:
    """Motion around an opening, lags taken out [S, 2 HALF + 1, P]."""
    pieces = [session.at(REACH - HALF + round(lag_s * HZ)) for session, lag_s in parts]
    total = sum((on + off[:, ::-1] for on, off in pieces), np.zeros_like(pieces[0][0]))
    turns = sum((session.turns for session, _ in parts), np.zeros_like(parts[0][0].turns))
    chance = CHANCE * np.sqrt(np.maximum(turns, 1)).astype(np.float32)
    return np.asarray(np.maximum(total - chance[:, None, None], 0.0))


def _doors_late(parts: Sequence[tuple[_Session, float]]) -> float:
    """How much later than the lags say doors begin to move, and stop before; 0 where none do."""
    pieces = [session.at(REACH - HALF + round(lag_s * HZ)) for session, lag_s in parts]
    turns = sum((session.turns for session, _ in parts), np.zeros_like(parts[0][0].turns))
    opened = _sets_in(sum((on for on, _ in pieces), np.zeros_like(pieces[0][0])), turns)
    closed = _sets_in(sum((off[:, ::-1] for _, off in pieces), np.zeros_like(pieces[0][1])), turns)
    return (opened - closed) / 2


def _sets_in(motion: Rows, turns: NDArray[np.int64]) -> float:
    """When patches begin to move, after the middle of ``motion`` [S, 2 HALF + 1, P], in s."""
    n = round(EDGE_S * HZ)
    until = np.pad(motion.cumsum(axis=1, dtype=np.float64), ((0, 0), (1, 0), (0, 0)))
    at = HALF + np.arange(-n, n + 1)
    more = until[:, at + n] - 2 * until[:, at] + until[:, at - n]
    chance = CHANCE * np.sqrt(np.maximum(turns / 2, 1) * n)
    clear = np.square(np.maximum(more - chance[:, None, None], 0.0)).sum(axis=(0, 2))
    return float(clear @ (at - HALF) / clear.sum() / HZ) if clear.any() else 0.0


def _own_curve(session: _Session) -> Floats:
    """How alike openings and closings turned round are at every lag."""
    fits = []
    for first in range(session.on.shape[1] - 2 * HALF):
        on, off = (np.maximum(piece - 1.0, 0.0) for piece in session.at(first))
        fits.append(float((on * off[:, ::-1]).sum()))
    return np.asarray(fits)


def _top(fits: Floats) -> tuple[float, float]:
    """The lag of the best fit, and how many times it exceeds any that is not near."""
    best = int(fits.argmax())
    if fits[best] <= 0:
        return 0.0, 0.0
    shift = 0.0
    if 0 < best < len(fits) - 1:  # the top of a parabola
        a, b, c = (float(x) for x in fits[best - 1 : best + 2])
        shift = 0.5 * (a - c) / min(a - 2 * b + c, -1e-9)
    away = np.abs(np.arange(len(fits)) - best) > APART_S * HZ
    return (best + shift) / HZ - WITHIN_S, float(fits[best] / max(fits[away].max(), 1e-9))


def _both(a: _Session, b: _Session) -> _Session:
    return _Session(a.on + b.on, a.off + b.off, a.turns + b.turns)


def _around(sequence: Switchings, switches: Sequence[str]) -> _Session:
    grid_s, seen = _on_grid(sequence.motion)
    shape = (len(switches), 2 * REACH + 1, seen.shape[1])
    on, off = (np.zeros(shape, dtype=np.float32) for _ in range(2))
    for name, closing, piece in _pieces(sequence, grid_s, seen):
        (off if closing else on)[switches.index(name)] += piece
    count = [sum(len(t.get(n, ())) for t in (sequence.on_s, sequence.off_s)) for n in switches]
    return _Session(on, off, np.array(count, dtype=np.int64))


def _pieces(sequence: Switchings, grid_s: Floats, seen: Rows) -> Iterator[tuple[str, bool, Rows]]:
    """Switch, whether it turned off, and the motion around that [2 REACH + 1, P], one by one."""
    padded = np.pad(seen, ((REACH, REACH), (0, 0)))
    for closing, turns in ((False, sequence.on_s), (True, sequence.off_s)):
        for name, times in turns.items():
            for t_s in times.tolist():
                middle = round((t_s - grid_s[0]) * HZ)
                if 0 <= middle < len(seen):
                    yield name, closing, padded[middle : middle + 2 * REACH + 1]


def _on_grid(motion: Motion) -> tuple[Floats, Rows]:
    """Times [T], and motion in each patch above its slow mean, standardised [T, P]."""
    rows, columns = (n // COARSE * COARSE for n in motion.cells.shape[1:])
    cells = motion.cells[:, :rows, :columns]
    patches = cells.reshape(len(cells), rows // COARSE, COARSE, columns // COARSE, COARSE)
    x = np.log1p(patches.mean(axis=(2, 4)).reshape(len(cells), -1))
    step_s = float(np.median(np.diff(motion.t_s)))
    grid_s = np.arange(motion.t_s[0], motion.t_s[-1], 1 / HZ)
    # A difference of two pictures stands for the time between them.
    y = np.stack([np.interp(grid_s, motion.t_s - step_s / 2, v) for v in x.T], axis=1)
    width = max(1, min(len(y) // 2 * 2 - 1, round(SLOW_S * HZ) | 1))
    kernel = np.ones(width) / width
    slow = np.stack([np.convolve(np.pad(v, width // 2, "edge"), kernel, "valid") for v in y.T], 1)
    y = y - slow
    return grid_s, np.asarray(y / np.maximum(y.std(axis=0), 1e-3), dtype=np.float32)
