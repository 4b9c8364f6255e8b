"""What a reader of a format is given, and what it tells beside the changes it yields."""

import fnmatch
import hashlib
import math
import re
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

from detach.data.recording import SensorTrack

Change = tuple[float, str, float]
"""Time in Unix seconds (UTC, or local time as if it were UTC where no zone is known), the sensor's
name as given to `Log.sensor`, and its value from then on: 0 or 1 of a switch or motion sensor, NaN
while it is not available."""

ON = frozenset({"on", "open", "opened", "true", "detected", "present", "home", "1"})
OFF = frozenset({"off", "close", "closed", "false", "clear", "absent", "not_home", "0"})
AWAY = frozenset({"unavailable", "unknown", "none", "null", "nan", "offline"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a log becomes recordings.

    Raises:
        ValueError: An option is out of range.
    """

    hours: float = 24.0
    """Length of a recording, counted from midnight; above 24 in whole days, at most 168."""
    gap_hours: float = 12.0
    """A silence of all sensors for longer ends a recording."""
    timezone: str | None = None
    """Zone of local times, such as Europe/Berlin; None takes them as they stand, without UTC."""
    include: tuple[str, ...] = ()
    """Names of sensors to take, with ``*``; empty takes all."""
    pulse: tuple[str, ...] = ()
    """Names of sensors, with ``*``, of which only the switching on counts: see ``pulse_s``."""
    pulse_s: float = 2.0
    """How long such a sensor is then on."""
    camera: str | None = None
    """Which camera, where a source has several."""
    sensor_log: Path | None = None
    """Log of the sensors, where the source holds film only."""
    film_fps: float = 10.0
    """Frames per second of films that are put together."""

    def __post_init__(self) -> None:
        days = self.hours / 24
        if not 0.25 <= self.hours <= 168 or (days > 1 and days != int(days)):
            raise ValueError(f"hours must be 0.25 to 24, or 48, 72 .. 168, got {self.hours!r}")
        if not 0 < self.gap_hours <= 168:
            raise ValueError(f"gap_hours must be in (0, 168], got {self.gap_hours!r}")
        if not 0.1 <= self.pulse_s <= 600:
            raise ValueError(f"pulse_s must be in [0.1, 600], got {self.pulse_s!r}")
        if not 1 <= self.film_fps <= 60:
            raise ValueError(f"film_fps must be in [1, 60], got {self.film_fps!r}")
        _ = self.zone

    @property
    def zone(self) -> tzinfo | None:
        """The zone itself.

        Raises:
            ValueError: There is none of that name here.
        """
        if self.timezone is None:
            return None
        try:
            return zoneinfo.ZoneInfo(self.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"timezone must be a zone known here, such as Europe/Berlin or UTC, got "
                f"{self.timezone!r}; on a machine without zones: pip install tzdata"
            ) from error


@dataclass(frozen=True)
class Stretch:
    """A labelled stretch of time, in the same seconds as changes."""

    start_s: float
    end_s: float
    track: str
    name: str


@dataclass(frozen=True)
class Segment:
    """A piece of film."""

    path: Path
    camera: str
    start_s: float
    end_s: float


Reader = Callable[[Path, Options, "Log"], Iterator[Change]]


class Log:
    """What is known of a source beside its changes. Every row read is `used` or dropped, once."""

    def __init__(self) -> None:
        self.rows = 0
        """Rows read: lines, lines of a table, messages; not headers and blank lines."""
        self.used = 0
        """Rows that gave a change or a label."""
        self.dropped: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        """What was changed on the way, without losing the row."""
        self.first: dict[str, str] = {}
        """Where each kind of dropped or noted row was first seen: file and line."""
        self.tracks: dict[str, SensorTrack] = {}
        self.guessed: dict[str, str] = {}
        """For each sensor, how its kind was decided."""
        self.stretches: list[Stretch] = []
        self.segments: list[Segment] = []
        self.share = 0.0
        """How much of the source has been read, 0 to 1."""
        self.utc = True
        """Whether times are UTC; False where a local time stands as it is."""
        self._names: dict[str, str] = {}

    def sensor(
        self, key: str, *, kind: str, guess: str, unit: str = "", polarity: int = 1,
        place: str | None = None, title: str | None = None,
    ) -> str:  # fmt: skip
        """Makes a sensor known under the source's own ``key``; returns the name for changes.

        Telling it again replaces what was told. ``guess`` says why it is of that kind, ``title`` is
        the name wanted where the key is none.
        """
        name = self._names.get(key)
        if name is None:
            name = safe_name(title or key, set(self.tracks))
            self._names[key] = name
        unit = unit or ("on/off" if kind in {"switch", "motion"} else "")
        self.tracks[name] = SensorTrack(
            name=name, kind=kind, unit=unit, hz=None, polarity=polarity, place=place
        )
        self.guessed[name] = guess
        return name

    def name(self, key: str) -> str | None:
        """The name of a sensor that was told before."""
        return self._names.get(key)

    def drop(self, why: str, path: Path, line: int | None = None) -> None:
        """Counts a row that gives nothing."""
        self.dropped[why] += 1
        if why not in self.first:
            self.first[why] = place_in(path, line)

    def note(self, what: str, path: Path, line: int | None = None) -> None:
        """Counts a row that was put right."""
        self.noted[what] += 1
        if what not in self.first:
            self.first[what] = place_in(path, line)


def place_in(path: Path, line: int | None) -> str:
    """File, and line counted from 1 (or row of a table)."""
    return path.name if line is None else f"{path.name}:{line}"


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name is meant by one of some patterns with ``*``."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def number_of(text: str) -> float | None:
    """A state in words or digits as a number; NaN is not available, None is something else."""
    word = text.strip().lower()
    if word in ON or word in OFF:
        return 1.0 if word in ON else 0.0
    if word in AWAY:
        return math.nan
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e9 else None


def safe_name(key: str, taken: set[str]) -> str:
    """``key`` as the name of a file of at most 90 bytes that no other sensor has."""
    text = re.sub(r"\s+", " ", re.sub(r"[/\\\x00-\x1f]", "_", key)).strip() or "sensor"
    text = "".join(c if c.isprintable() else "_" for c in text)
    if len(text.encode()) > 80:
        text = text.encode()[:70].decode(errors="ignore")
        text += "-" + hashlib.sha256(key.encode()).hexdigest()[:8]
    name, count = text, 1
    while name in taken:
        count += 1
        name = f"{text} ({count})"
    return name
