"""A measured lag written into recording.json, and taken back. Films and sensor files stay."""

import json
from pathlib import Path
from typing import Any

from detach.data.recording import RECORDING_FILE, SCHEMA, Recording, read_recording
from detach.data.store import read_json, write_json
from detach.data.sync import Lag
from detach.errors import DataError

NOTE = "sync"
"""Key among a recording's notes: what was applied, first to last."""


def apply_lag(recording: Recording, lag: Lag) -> Recording:
    """Puts the first camera on the sensors' clock; on top of what was applied before.

    What the film shows at v happened at (v - offset) / (1 + drift) by the sensors' clock.

    Returns:
        The recording as it is now.

    Raises:
        DataError: No peak stands out, or the clocks agree as it is.
    """
    if not lag.clear:
        raise DataError(
            f"{recording.folder}: no lag stands out (p = {lag.p:.2f}), so nothing was written; "
            "try a longer recording, or --run with a trained run"
        )
    if lag.in_step:
        raise DataError(
            f"{recording.folder}: the clocks agree within what can be told, so nothing was written"
        )
    track, rate = recording.videos[0], 1 + 1e-6 * lag.drift_ppm
    new_rate = (1 + 1e-6 * track.drift_ppm) / rate
    note = {
        "video": track.name,
        "source": lag.source,
        "offset_s": round(lag.offset_s, 4),
        "offset_interval_s": [round(x, 4) for x in lag.offset_interval_s],
        "drift_ppm": round(lag.drift_ppm, 2),
        "drift_interval_ppm": [round(x, 2) for x in lag.drift_interval_ppm],
        "before": {"start_s": track.start_s, "drift_ppm": track.drift_ppm},
    }
    clock = {
        "start_s": round((track.start_s - lag.offset_s) / rate, 6),
        "drift_ppm": round(1e6 * (new_rate - 1), 4),
    }
    body = _read(recording.folder)
    applied = [*body["notes"].get(NOTE, []), note]
    return _write(recording.folder, body, track.name, clock, applied)


def undo_lag(folder: Path) -> Recording:
    """Takes back what `apply_lag` wrote last.

    Raises:
        DataError: Nothing was applied, or its note is damaged.
    """
    body = _read(folder)
    applied = list(body["notes"].get(NOTE, []))
    if not applied:
        raise DataError(f"{folder}: nothing was applied by `detach sync`, so nothing is undone")
    try:
        name, before = str(applied[-1]["video"]), dict(applied[-1]["before"])
        clock = {key: float(before[key]) for key in ("start_s", "drift_ppm")}
    except (KeyError, TypeError, ValueError) as error:
        where = folder / RECORDING_FILE
        raise DataError(f"{where}: the last note of {NOTE!r} is damaged: {error}") from error
    return _write(folder, body, name, clock, applied[:-1])


def _read(folder: Path) -> dict[str, Any]:
    read_recording(folder)  # says what is wrong with it
    body = read_json(folder / RECORDING_FILE, SCHEMA, "a recording folder has a recording.json")
    notes = body.get("notes") or {}
    if not isinstance(notes.get(NOTE, []), list):
        raise DataError(f"{folder / RECORDING_FILE}: {NOTE!r} in notes must be a list")
    return body | {"notes": dict(notes)}


def _write(
    folder: Path, body: dict[str, Any], video: str, clock: dict[str, float], applied: list[Any]
) -> Recording:
    if video not in {track["name"] for track in body["videos"]}:
        raise DataError(f"{folder / RECORDING_FILE}: has no video {json.dumps(video)} any more")
    body["videos"] = [
        track | clock if track["name"] == video else track for track in body["videos"]
    ]
    body["notes"].pop(NOTE, None)
    if applied:
        body["notes"][NOTE] = applied
    write_json(folder / RECORDING_FILE, body)
    return read_recording(folder)
