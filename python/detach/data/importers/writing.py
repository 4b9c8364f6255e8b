"""One piece of a log as a recording: changes, the state before the first of them, and labels."""

from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.data.importers.clock import local_of
from detach.data.importers.film import join
from detach.data.importers.log import Log, Options, matches
from detach.data.importers.pieces import SHORTEST_S, Piece
from detach.data.importers.spool import Spool
from detach.data.recording import (
    LabelTrack,
    Recording,
    SensorTrack,
    new_recording,
    write_labels,
    write_recording,
    write_sensor,
)

DIGITS = 9
Values = NDArray[np.float64]


class Writer:
    """Writes pieces in order of time and carries the state of each sensor from one to the next."""

    def __init__(self, folder: Path, log: Log, spool: Spool, options: Options) -> None:
        self.folder, self.log, self.spool, self.options = folder, log, spool, options
        self.sensors = sorted(spool.names)
        self.starts: dict[str, float] = {}
        self.labelled: set[str] = set()
        self.counts: Counter[str] = Counter(all=spool.rows, out_of_order=spool.out_of_order)
        """Of changes: each is written, or one of the others; out_of_order ones are sorted."""
        self.stretches = sorted(log.stretches, key=lambda s: (s.start_s, s.end_s))
        self.classes: dict[str, list[str]] = {}
        for stretch in self.stretches:
            names = self.classes.setdefault(stretch.track, [])
            if stretch.name not in names:
                names.append(stretch.name)
        self._state: dict[int, float] = {}

    def write(self, piece: Piece) -> str | None:
        """Writes a recording and returns its name, or None where the piece is too short."""
        inside = int(np.searchsorted(piece.rows["t_s"], piece.start_s))
        self.counts["outside the film"] += inside
        self._carry(piece.rows[:inside])
        rows = piece.rows[inside:]
        if piece.end_s - piece.start_s < SHORTEST_S:
            self.counts[f"in a stretch shorter than {SHORTEST_S:g} s"] += len(rows)
            self._carry(rows)
            return None
        name = self._name(piece)
        with new_recording(self.folder, name) as folder:
            videos = (
                (join(piece.segments, piece.start_s, folder, self.options.film_fps),)
                if piece.segments
                else ()
            )
            write_recording(
                Recording(
                    folder=folder,
                    name=name,
                    subject="home",
                    run=name,
                    duration_s=piece.end_s - piece.start_s,
                    start_utc=stamp(piece.start_s) if self.log.utc else None,
                    videos=videos,
                    sensors=self._write_sensors(folder, piece.start_s, piece.end_s, rows),
                    labels=self._write_labels(folder, name, piece.start_s, piece.end_s),
                    notes={"local_start": local_of(piece.start_s, self.options.zone).isoformat()},
                )
            )
        self.starts[name] = piece.start_s
        return name

    def finish(self) -> None:
        """Accounts for changes that no piece held."""
        known = sum(n for what, n in self.counts.items() if what not in {"all", "out_of_order"})
        self.counts["outside the film"] += self.counts["all"] - known

    def _write_sensors(
        self, folder: Path, start_s: float, end_s: float, rows: NDArray[Any]
    ) -> tuple[SensorTrack, ...]:
        order = np.argsort(rows["sensor"], kind="stable")
        numbers = rows["sensor"][order]
        tracks = []
        for name in self.sensors:
            number, track = self.spool.names[name], self.log.tracks[name]
            low, high = np.searchsorted(numbers, (number, number + 1))
            own = rows[order[low:high]]
            t_s, values = own["t_s"] - start_s, own["value"]
            if matches(name, self.options.pulse):
                t_s, values = self._pulses(t_s, values, end_s - start_s)
            else:
                t_s, values = self._changes(number, track, t_s, values)
            write_sensor(folder, track, t_s, values, DIGITS)
            tracks.append(track)
        return tuple(tracks)

    def _changes(
        self, number: int, track: SensorTrack, t_s: Values, values: Values
    ) -> tuple[Values, Values]:
        """Rows that change something, behind one at 0 s that gives the state before."""
        before = self._state.get(number, self._presumed(number, track))
        previous = np.concatenate([[before], values[:-1]])
        same = (values == previous) | (np.isnan(values) & np.isnan(previous))
        twice = same[1:] & (t_s[1:] == t_s[:-1])
        self.counts["twice"] += int(twice.sum())
        self.counts["without a change of value"] += int(same.sum() - twice.sum())
        self.counts["written"] += int((~same).sum())
        if len(values):
            self._state[number] = float(values[-1])
        t_s, values = t_s[~same], values[~same]
        if not np.isnan(before) and (not len(t_s) or t_s[0] > 0):
            t_s, values = np.concatenate([[0.0], t_s]), np.concatenate([[before], values])
        return t_s, values

    def _presumed(self, number: int, track: SensorTrack) -> float:
        """A switch that is first seen going on was off before; otherwise nothing is known."""
        active, rest = (1.0, 0.0) if track.polarity > 0 else (0.0, 1.0)
        known = track.binary and self.spool.first[number][1] == active
        return rest if known else float("nan")

    def _pulses(self, t_s: Values, values: Values, duration_s: float) -> tuple[Values, Values]:
        """Each switching on as a pulse; one that comes during another makes it longer."""
        on = t_s[values == 1.0]
        self.counts["of a pulse sensor switching off"] += len(values) - len(on)
        self.counts["written"] += len(on)
        fresh = np.diff(on, prepend=-np.inf) > self.options.pulse_s
        ends = np.append(on[:-1][fresh[1:]], on[-1:]) + self.options.pulse_s
        t_s = np.stack([on[fresh], np.minimum(ends, duration_s)], axis=1).reshape(-1)
        levels = np.resize([1.0, 0.0], len(t_s))
        if not len(t_s) or t_s[0] > 0:
            t_s, levels = np.concatenate([[0.0], t_s]), np.concatenate([[0.0], levels])
        return t_s, levels

    def _write_labels(
        self, folder: Path, name: str, start_s: float, end_s: float
    ) -> tuple[LabelTrack, ...]:
        tracks = []
        for track in self.classes:
            made = LabelTrack(name=track, source="the log")
            rows = [
                (max(s.start_s, start_s) - start_s, min(s.end_s, end_s) - start_s, s.name)
                for s in self.stretches
                if s.track == track and s.start_s < end_s and s.end_s > start_s
            ]
            write_labels(folder, made, rows)
            tracks.append(made)
            self.labelled |= {name} if rows else set()
        return tuple(tracks)

    def _carry(self, rows: NDArray[Any]) -> None:
        for number in np.unique(rows["sensor"]).tolist():
            self._state[number] = float(rows["value"][rows["sensor"] == number][-1])

    def _name(self, piece: Piece) -> str:
        days = self.options.hours >= 24 and piece.whole
        form = "%Y-%m-%d" if days else "%Y-%m-%dT%H%M%S"
        name = stem = local_of(piece.start_s, self.options.zone).strftime(form)
        count = 1
        while name in self.starts:  # the hour that a change of clocks repeats
            count += 1
            name = f"{stem}-{count}"
        return name


def stamp(t_s: float) -> str:
    """Seconds as UTC in ISO 8601."""
    return datetime.fromtimestamp(t_s, timezone.utc).isoformat().replace("+00:00", "Z")
