"""Frigate: its recordings, with the log of the sensors that ran beside it, paired by UTC.

The folder holds ``recordings/YYYY-MM-DD/HH/<camera>/MM.SS.mp4``, all in UTC. Where ``frigate.db``
lies beside it, its table gives the exact start of each piece; the names alone give whole seconds.
Pieces that follow one another become one video and one recording; where Frigate kept nothing, a
recording ends.
"""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from detach.data.decoding import probe_apart
from detach.data.importers import home_assistant, mosquitto
from detach.data.importers.log import Change, Log, Options, Segment
from detach.data.importers.sqlite import HEADER, columns_of, opened
from detach.errors import DataError, UsageError

NAME = re.compile(r"(\d{4}-\d\d-\d\d)/(\d\d)/([^/]+)/(\d\d)\.(\d\d)\.mp4$")
NEEDED = {"camera", "path", "start_time", "end_time"}
USUAL_S = 10.0
"""Length of a piece where neither table nor file tells."""


def read(source: Path, options: Options, log: Log) -> Iterator[Change]:
    """Changes of ``options.sensor_log``, and the pieces of film of one camera.

    Raises:
        DataError: No recordings, several cameras and none chosen, no log of sensors.
        UsageError: ``options.sensor_log`` is missing.
    """
    if options.sensor_log is None:
        raise UsageError(
            "sensor_log must be the log of the sensors beside the camera: Home Assistant's "
            "database or history CSV, or a log of mosquitto_sub; give --sensor-log FILE"
        )
    if not options.sensor_log.is_file():
        raise DataError(f"{options.sensor_log} is not there; give the log of the sensors")
    found = _segments(source, log)
    cameras = Counter(s.camera for s in found)
    camera = options.camera or (next(iter(cameras)) if len(cameras) == 1 else None)
    if camera not in cameras:
        there = ", ".join(f"{name} ({n} pieces)" for name, n in sorted(cameras.items())) or "none"
        raise DataError(f"{source}: choose one camera with --camera; there are {there}")
    log.segments = [s for s in found if s.camera == camera]
    with options.sensor_log.open("rb") as file:
        head = file.read(16)
    reader = (
        home_assistant
        if head == HEADER or head.startswith((b"entity_id", b"\xef\xbb\xbfentity"))
        else mosquitto
    )
    yield from reader.read(options.sensor_log, options, log)


def _segments(source: Path, log: Log) -> list[Segment]:
    """All pieces that the table or the names give and that are there."""
    folder = source / "recordings" if (source / "recordings").is_dir() else source
    base = next(
        (p for p in (source / "frigate.db", source.parent / "frigate.db") if p.is_file()), None
    )
    listed = _from_table(base) if base else _from_names(folder)
    rows = [(folder / name, camera, start_s, end_s) for name, camera, start_s, end_s in listed]
    there = [row for row in rows if row[0].is_file()]
    lengths = _lengths([path for path, _, _, end_s in there if not end_s])
    found = [
        Segment(path, camera, start_s, end_s or start_s + lengths[path])
        for path, camera, start_s, end_s in there
    ]
    if missing := len(rows) - len(there):
        log.noted["piece of film that the table names and that is not there"] += missing
    if not found:
        raise DataError(
            f"{source}: no recording of Frigate found ({missing} are listed but not there); "
            "expected recordings/YYYY-MM-DD/HH/CAMERA/MM.SS.mp4, and perhaps frigate.db beside it"
        )
    return found


def _from_table(base: Path) -> Iterator[tuple[str, str, float, float | None]]:
    with opened(base) as tables:
        own = columns_of(tables).get("recordings", set())
        if not own >= NEEDED:
            raise DataError(
                f"{base}: not Frigate's database: table recordings with "
                f"{', '.join(sorted(NEEDED))} expected, found {', '.join(sorted(own)) or 'none'}"
            )
        rows = tables.execute(
            "SELECT path, camera, start_time, end_time FROM recordings ORDER BY start_time"
        )
        for path, camera, start_s, end_s in rows:
            name = NAME.search(str(path))
            if name:
                yield name.group(), str(camera), float(start_s), float(end_s)


def _from_names(folder: Path) -> Iterator[tuple[str, str, float, float | None]]:
    for path in sorted(folder.glob("*/*/*/*.mp4")):
        name = path.relative_to(folder).as_posix()
        if parts := NAME.match(name):
            day, hour, camera, minute, second = parts.groups()
            try:
                moment = datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}+00:00")
            except ValueError:
                continue
            yield name, camera, moment.timestamp(), None


def _lengths(paths: list[Path]) -> dict[Path, float]:
    claims = zip(paths, probe_apart(paths), strict=True)
    return {p: c.frames / c.fps if c.fps > 0 and c.frames > 0 else USUAL_S for p, c in claims}
