"""Home Assistant: the recorder's database, or the CSV that the history panel lets one download.

The database is read row by row in the order of its key. A state's time is ``last_changed_ts``,
which is NULL where it equals ``last_updated_ts``; databases from before 2023 have the times as text
and the entity in the row itself. ``unavailable`` and ``unknown`` become missing values, an empty
state (a removed entity) too. Hourly statistics are means, not changes, and are refused.
"""

import csv
import json
import math
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from detach.data.importers.home_assistant_kinds import Entities
from detach.data.importers.hourly import Hourly
from detach.data.importers.log import Change, Log, Options, number_of
from detach.data.importers.sqlite import HEADER, columns_of, opened
from detach.errors import DataError

CSV_HEADER = ["entity_id", "state", "last_changed"]
BINARY = (0.0, 1.0)


def read(source: Path, options: Options, log: Log) -> Iterator[Change]:
    """Changes of ``home-assistant_v2.db`` or of a history CSV.

    Raises:
        DataError: Neither; half a database; one of another program; hourly statistics.
    """
    path = source / "home-assistant_v2.db" if source.is_dir() else source
    if not path.is_file():
        raise DataError(f"{path} is not there; give the recorder's database or a history CSV")
    del options  # all times are UTC
    with path.open("rb") as file:
        database = file.read(16) == HEADER or path.suffix in {".db", ".sqlite", ".sqlite3"}
    yield from _database(path, log) if database else _history(path, log)


def _database(path: Path, log: Log) -> Iterator[Change]:
    with opened(path) as base:
        columns = columns_of(base)
        query = _query(path, columns)
        last = base.execute("SELECT MIN(state_id), MAX(state_id) FROM states").fetchone()
        if last[1] is None:
            raise DataError(_empty(path, base, columns))
        entities, shared = Entities(log), "shared_attrs" in columns.get("state_attributes", set())
        settled, first, span = entities.settled, last[0], max(1, last[1] - last[0])
        for row, entity, state, t_s, number, old in base.execute(query):
            log.rows += 1
            log.share = (row - first) / span
            if entity is None or t_s is None:
                log.drop("row without an entity or a time", path, row)
                continue
            if entity in settled:
                name = settled[entity]
            else:
                wanted = number if shared else None
                name = entities.name(entity, lambda: _attributes(base, wanted, old))  # noqa: B023  called at once
            change = _change(name, entity, state or "", t_s, entities, (path, row))
            if change:
                yield change


def _change(
    name: str | None, entity: str, state: str, t_s: float, entities: Entities, at: tuple[Path, int]
) -> Change | None:
    """The change that a row stands for, if any; either way the row is counted."""
    log = entities.log
    if name is None:
        log.drop(entities.why[entity], *at)
        return None
    value = number_of(state) if state else math.nan
    if value is None or (value not in BINARY and log.tracks[name].binary and not math.isnan(value)):
        log.drop("state is neither a number nor on or off", *at)
        return None
    if math.isnan(value):
        log.note("not available, taken as missing until the next change", *at)
    log.used += 1
    return t_s, name, value


def _query(path: Path, columns: dict[str, set[str]]) -> str:
    """SELECT key, entity, state, time, attributes_id, attributes for the schema that is there."""
    own = columns.get("states", set())
    new = "metadata_id" in own and "states_meta" in columns
    times = [f"s.{c}" for c in ("last_changed_ts", "last_updated_ts") if c in own]
    text = [c for c in ("last_changed", "last_updated") if c in own]
    times += [f"(julianday(s.{c}) - 2440587.5) * 86400.0" for c in text]
    if not {"state_id", "state"} <= own or not (new or "entity_id" in own) or not times:
        tables = ", ".join(sorted(columns)) or "none"
        found = ", ".join(sorted(own)) or "not there"
        raise DataError(
            f"{path}: not a recorder database of Home Assistant that is known here. Needed: table "
            "states with state_id, state, metadata_id or entity_id, and last_updated_ts or "
            f"last_updated; found: states {found}; tables {tables}"[:900]
        )
    entity = ["m.entity_id"] * new + ["s.entity_id"] * ("entity_id" in own)
    attributes = "s.attributes_id" if "attributes_id" in own else "NULL"
    old = "s.attributes" if "attributes" in own else "NULL"
    joined = "LEFT JOIN states_meta m ON m.metadata_id = s.metadata_id" if new else ""
    return (
        f"SELECT s.state_id, {_first(entity)}, s.state, {_first(times)}, {attributes}, {old} "  # noqa: S608  names from the schema
        f"FROM states s {joined} ORDER BY s.state_id"
    )


def _first(choices: list[str]) -> str:
    return f"COALESCE({', '.join(choices)})" if len(choices) > 1 else choices[0]


def _attributes(base: sqlite3.Connection, number: int | None, old: str | None) -> dict[str, Any]:
    """Attributes of a state, from the table they share or from the row itself."""
    text = old
    if number is not None:
        wanted = "SELECT shared_attrs FROM state_attributes WHERE attributes_id = ?"
        row = base.execute(wanted, (number,)).fetchone()
        text = row[0] if row else old
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _empty(path: Path, base: sqlite3.Connection, columns: dict[str, set[str]]) -> str:
    kept = 0
    if "statistics" in columns:
        kept = base.execute("SELECT COUNT(*) FROM statistics").fetchone()[0]
    if kept:
        return (
            f"{path}: no states, only {kept} rows of hourly statistics, which are means and show "
            "no activity. The recorder keeps states for 10 days: import sooner, or raise "
            "purge_keep_days"
        )
    return f"{path}: the table states is empty; is the recorder switched on?"


def _history(path: Path, log: Log) -> Iterator[Change]:
    size, hourly, entities = max(1, path.stat().st_size), Hourly(path), Entities(log)
    rows, read_bytes = _rows(path), 0
    _check_header(path, next(rows, (1, []))[1])
    for line, row in rows:
        log.rows += 1
        read_bytes += sum(map(len, row)) + len(row) + 1
        log.share = min(1.0, read_bytes / size)
        try:
            entity, state, t_s = row[0], row[1], _utc(row[2])
        except (IndexError, ValueError):
            log.drop("not entity_id,state,last_changed", path, line)
            continue
        hourly.check(entity, state, t_s, line)
        name = entities.settled.get(entity) or entities.name(entity, dict)
        change = _change(name, entity, state, t_s, entities, (path, line))
        if change:
            yield change


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.reader(file)
        try:
            yield from ((rows.line_num, row) for row in rows if row)
        except csv.Error as error:
            raise DataError.at(path, rows.line_num, f"not a table of text: {error}") from error


def _check_header(path: Path, header: list[str]) -> None:
    if header[:3] != CSV_HEADER:
        found = f"found {','.join(header)[:80]!r}. {_meant(header)}"
        raise DataError.at(path, 1, f"header must be {','.join(CSV_HEADER)!r}, {found}")


def _meant(header: list[str]) -> str:
    means = {"mean", "min", "max", "sum", "statistic_id", "start", "end"} & {
        *map(str.lower, header)
    }
    if means:
        return "These are statistics, means over an hour, which show no activity; download history"
    return "Open History in Home Assistant, choose sensors, and take Download data"


def _utc(text: str) -> float:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
