"""The columns and codes of OPPORTUNITY, by name: what is where in its 250 columns.

Columns are counted from 1, as in its column_names.txt. The file names all three axes of an object
``accX``, so names are never keys for those; ambient sensors are named well.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detach.errors import DataError

COLUMNS = 250
MILLISEC, LOCOMOTION, HIGH_LEVEL, LEFT_ARM, RIGHT_ARM, MID_LEVEL = 1, 244, 245, 246, 248, 250
"""Counted from 1; the object of an arm stands right of it."""
HZ = 30.0
Channels = Literal["ambient37", "ambient34"]

PLACES: Mapping[str, str] = {
    "DOOR1": "Door 1",
    "DOOR2": "Door 2",
    "FRIDGE": "Fridge",
    "DISHWASHER": "Dishwasher",
    "UPPERDRAWER": "Drawer 1",
    "MIDDLEDRAWER": "Drawer 2",
    "LOWERDRAWER": "Drawer 3",
    "LAZYCHAIR": "Lazy chair",
}
SWITCHES: Mapping[str, int] = {
    "DISHWASHER S1": 195, "FRIDGE S3": 196, "FRIDGE S2": 197, "FRIDGE S1": 198,
    "MIDDLEDRAWER S1": 199, "MIDDLEDRAWER S2": 200, "MIDDLEDRAWER S3": 201,
    "LOWERDRAWER S3": 202, "LOWERDRAWER S2": 203, "UPPERDRAWER": 204, "DISHWASHER S3": 205,
    "LOWERDRAWER S1": 206, "DISHWASHER S2": 207,
}  # fmt: skip
ACCELEROMETERS: Mapping[str, int] = {
    "DOOR1": 208, "LAZYCHAIR": 211, "DOOR2": 214, "DISHWASHER": 217, "UPPERDRAWER": 220,
    "LOWERDRAWER": 223, "MIDDLEDRAWER": 226, "FRIDGE": 229,
}  # fmt: skip
"""Of the first of three axes."""
CODES: Mapping[int, str] = {
    406516: "Open Door 1", 406517: "Open Door 2", 404516: "Close Door 1", 404517: "Close Door 2",
    406520: "Open Fridge", 404520: "Close Fridge", 406505: "Open Dishwasher",
    404505: "Close Dishwasher", 406519: "Open Drawer 1", 404519: "Close Drawer 1",
    406511: "Open Drawer 2", 404511: "Close Drawer 2", 406508: "Open Drawer 3",
    404508: "Close Drawer 3", 408512: "Clean Table", 407521: "Drink from Cup",
    405506: "Toggle Switch",
}  # fmt: skip
"""Mid-level gestures; the first 14, in this order, are the paper's classes."""
ACTIONS = tuple(CODES.values())[:14]
LOCOMOTIONS: Mapping[int, str] = {1: "Stand", 2: "Walk", 4: "Sit", 5: "Lie"}
ACTIVITIES: Mapping[int, str] = {
    101: "Relaxing", 102: "Coffee time", 103: "Early morning", 104: "Cleanup", 105: "Sandwich time",
}  # fmt: skip
LINE = re.compile(r"\s*Column:\s*(\d+)\s+([^;]+)")


@dataclass(frozen=True)
class Source:
    """One sensor and where it stands in the file."""

    name: str
    kind: str
    unit: str
    axes: tuple[str, ...]
    columns: tuple[int, ...]
    place: str


@dataclass(frozen=True)
class Map:
    """Which columns are read, counted from 1."""

    clock: int
    locomotion: int
    gesture: int
    sensors: tuple[Source, ...]

    @property
    def wanted(self) -> list[int]:
        """All of them but the clock."""
        return [self.locomotion, self.gesture, *(c for s in self.sensors for c in s.columns)]


def read_map(path: Path | None, channels: Channels) -> Map:
    """What column_names.txt says; None trusts the map that comes along.

    Raises:
        DataError: It names other than 250 columns, or not one that is needed.
    """
    names = read_names(path) if path else None
    return Map(
        clock=_find(names, "MILLISEC", MILLISEC),
        locomotion=_find(names, "Locomotion", LOCOMOTION),
        gesture=_find(names, "ML_Both_Arms", MID_LEVEL),
        sensors=sources(names, channels),
    )


def sources(names: Mapping[int, str] | None, channels: Channels) -> tuple[Source, ...]:
    """Ambient sensors: 13 switches, and 8 accelerometers or the 7 of the paper's Table 7.

    Args:
        names: What column_names.txt says; None trusts the map that comes along.
        channels: ``ambient34`` leaves out the lazy chair.
    """
    found = []
    for label, usual in SWITCHES.items():
        column = _find(names, rf"REED SWITCH {re.escape(label)}", usual)
        place = PLACES[label.partition(" ")[0]]
        name = f"switch_{label.lower().replace(' ', '_')}"
        found.append(Source(name, "switch", "0/1", ("value",), (column,), place))
    for label, usual in ACCELEROMETERS.items():
        if label == "LAZYCHAIR" and channels == "ambient34":
            continue
        columns = tuple(
            _find(names, rf"Accelerometer {label} acc{axis}", usual + i)
            for i, axis in enumerate("XYZ")
        )
        name, axes = f"acceleration_{label.lower()}", ("x", "y", "z")
        found.append(Source(name, "acceleration", "mg", axes, columns, PLACES[label]))
    return tuple(found)


def read_names(path: Path) -> dict[int, str]:
    """Number and name of every column.

    Raises:
        DataError: It names other than 250 columns.
    """
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    found = {int(m[1]): m[2].strip() for line in text.splitlines() if (m := LINE.match(line))}
    if len(found) != COLUMNS:
        raise DataError(f"{path}: must name {COLUMNS} columns, found {len(found)}")
    return found


def _find(names: Mapping[int, str] | None, pattern: str, usual: int) -> int:
    if names is None:
        return usual
    found = [number for number, name in names.items() if re.fullmatch(pattern, name)]
    if len(found) != 1:
        said = pattern.replace("\\", "")
        raise DataError(f"column_names.txt: one column {said!r} expected, found {len(found)}")
    return found[0]
