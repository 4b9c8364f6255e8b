"""How hard a simulated home is: named sets of parameters from ``models/simulate/levels.yaml``."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detach.errors import DataError, UsageError
from detach.recipes import models_folder

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Level:
    """One named set. Ranges are uniform; shares and chances are in [0, 1]."""

    name: str
    # what people do
    other: float
    """Share of decisions that are something else than opening and closing."""
    leave: float
    """Chance that an opened thing is left open."""
    partial: float
    """Chance that a movement ends between the stops."""
    hesitate: float
    """Chance of a stop on the way."""
    throw: float
    """Chance that the hand lets go early and the thing coasts."""
    pause_s: Range
    reach_s: Range
    move_s: Range
    release_s: Range
    push_open: Range
    """How hard it is driven into the open stop, as a share of the travel."""
    push_close: Range
    tremor: float
    """The hand's unsteadiness; 1 is a millimetre or so."""
    walk_m_s: Range
    # accelerometers, in milli-g
    noise_mg: float
    bias_mg: float
    """Offset of each axis, drawn anew for each run."""
    tilt_deg: float
    """How far each accelerometer turns in its mount from run to run."""
    mount_deg: float
    """How far each accelerometer was fixed askew, once for the home."""
    drifting: int
    """How many accelerometers drift."""
    drift_mg_per_min: float
    crosstalk: float
    jitter_s: float
    gaps_per_min: float
    # switches
    dead: int
    """How many switches never fire."""
    miss: float
    """Chance that a switch does not notice a pass."""
    false_per_min: float
    """False pulses of each switch."""
    zone: float
    """Half width of the place where a switch fires, as a share of the travel."""
    # camera
    light: float
    """How much daylight and lamp wander."""
    flicker: float
    camera_noise: float
    """Standard deviation of the picture noise, in grey levels."""


def level_names() -> tuple[str, ...]:
    """The levels there are, easiest first."""
    return tuple(_read())


def load_level(name: str) -> Level:
    """One level; what it does not name is as in ``default``.

    Raises:
        UsageError: No such level.
        DataError: The recipe names something a level does not have, or misses something.
    """
    levels = _read()
    if name not in levels:
        raise UsageError(f"level must be one of {', '.join(levels)}; found {name!r}")
    values = {**levels["default"], **(levels[name] or {}), "name": name}
    known = {f.name for f in dataclasses.fields(Level)}
    if wrong := sorted(known ^ set(values)):
        state = "is missing" if wrong[0] in known else "is unknown"
        raise DataError(f"{_recipe()}: level {name!r}: {wrong[0]!r} {state}")
    typed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Level(**typed)


def _recipe() -> Path:
    return models_folder() / "simulate" / "levels.yaml"


def _read() -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(_recipe().read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
        raise DataError(f"{_recipe()}: cannot be read: {error}") from error
