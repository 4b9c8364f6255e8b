"""Small logs of homes in the layouts of other programs, with the dirt that real ones hold."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

START_S = 1_767_225_600.0  # 2026-01-01 00:00 UTC

CASAS = """\
2010-11-04 00:03:50.209589 M003 ON Sleeping begin
2010-11-04 00:03:57.399391\tM003\tOFF
2010-11-04 00:15:08.984841 T002 21.5
2010-11-04  02:28:19.1 D001 OPEN
2010-11-04 02:28:50 D001 CLOSE
2010-11-04 05:40:42 M003 ONM026 Sleeping end
2010-11-04 05:40:50 M003 OFF" Eating end
2010-11-04 05:40:50 M003 OFF
2010-11-04 05:41:50 M004 ON0
not a line of it
2010-11-05 01:40:42 M004 ON Eating begin
"""

KASTEREN = {
    "houseX-ss.txt": """\
25-Feb-2008 00:20:14\t25-Feb-2008 00:22:57\t24\t
25-Feb-2008 00:20:14\t25-Feb-2008 00:22:57\t24\t
25-Feb-2008 00:22:00\t25-Feb-2008 00:25:00\t24\t
25-Feb-2008 09:36:43\t25-Feb-2008 09:36:43\t5\t
25-Feb-2008 09:37:43\t25-Feb-2008 09:36:43\t5\t
nonsense
26-Feb-2008 07:37:20\t26-Feb-2008 09:37:23\t99\t
""",
    "houseX-as.txt": """\
25-Feb-2008 00:19:32\t25-Feb-2008 00:21:24\t17
25-Feb-2008 00:19:32\t25-Feb-2008 00:21:24\t17
25-Feb-2008 00:21:00\t25-Feb-2008 00:23:14\t17
25-Feb-2008 00:22:00\t25-Feb-2008 00:24:00\t4
""",
    "sensorMapX-ids.txt": "5,Hall-Toilet door,Toilet\r\n24,PIR kitchen,Kitchen\r\n",
    "actionMapX.txt": "17,brush-teeth\r\n",
}

MOSQUITTO = """\
1767225600.5 zigbee2mqtt/kitchen/fridge door {"battery":100,"contact":true,"linkquality":102}
1767225610.5 zigbee2mqtt/kitchen/fridge door {"battery":100,"contact":false}
{"tst":"2026-01-01T01:00:20.000000+0100","topic":"zigbee2mqtt/hall","qos":0,"retain":0,\
"payload":{"occupancy":true,"illuminance":12}}
{"tst":"2026-01-01T01:00:21.000000+0100","topic":"zigbee2mqtt/hall","qos":0,"retain":1,\
"payload":{"occupancy":true}}
{"tst":"2026-01-01T01:00:22.923776Z+0100","topic":"zigbee2mqtt/hall","qos":0,"retain":0,\
"payload":{"illuminance":14}}
2026-01-01T01:01:20+0100 zigbee2mqtt/plug {"power":12.5,"state":"ON"}
zigbee2mqtt/hall {"occupancy":false,"last_seen":"2026-01-01T00:02:56.796Z"}
1767226900 zigbee2mqtt/hall/availability {"state":"offline"}
1767226900 zigbee2mqtt/bridge/state {"state":"online"}
1767226950 zigbee2mqtt/plug/set {"state":"OFF"}
1767226950 zigbee2mqtt/hall {"occup
"""

HISTORY = """\
entity_id,state,last_changed
binary_sensor.fridge,on,2026-01-01T00:00:30.000Z
binary_sensor.fridge,off,2026-01-01T00:00:10.000Z
binary_sensor.fridge,unavailable,2026-01-01T00:00:40.000Z
binary_sensor.hall_motion,on,2026-01-01T00:00:20.000Z
binary_sensor.hall_motion,on,2026-01-01T00:00:20.000Z
sensor.plug,12.5,2026-01-01T00:00:25.000Z
sensor.plug,half,2026-01-01T00:00:26.000Z
sun.sun,above_horizon,2026-01-01T00:00:25.000Z
"""

State = tuple[str, str, float, float | None]
"""Entity, state, last_updated_ts, and last_changed_ts where it differs."""

STATES: Sequence[State] = (
    ("binary_sensor.fridge", "off", START_S, None),
    ("binary_sensor.fridge", "on", START_S + 10, None),
    ("binary_sensor.fridge", "on", START_S + 15, START_S + 10),
    ("binary_sensor.hall", "off", START_S + 1, None),
    ("binary_sensor.hall", "on", START_S + 20, None),
    ("binary_sensor.hall", "unavailable", START_S + 40, None),
    ("sensor.plug", "12.5", START_S + 30, None),
    ("sensor.plug", "unknown", START_S + 50, None),
    ("sensor.remote_battery", "80", START_S + 50, None),
    ("automation.light", "on", START_S + 60, None),
    ("binary_sensor.fridge", "", START_S + 70, None),
    ("sensor.plug", "0", START_S + 99, None),
)
ATTRIBUTES = {
    "binary_sensor.fridge": {"device_class": "door", "friendly_name": "Fridge"},
    "binary_sensor.hall": {"device_class": "motion"},
    "sensor.plug": {"device_class": "power", "unit_of_measurement": "W"},
    "sensor.remote_battery": {"device_class": "battery", "unit_of_measurement": "%"},
}


def write_kasteren(folder: Path) -> Path:
    """A house with overlaps, repeats, an end before its start and an unknown number."""
    folder.mkdir(parents=True)
    for name, text in KASTEREN.items():
        (folder / name).write_text(text, newline="")
    return folder


def write_aras(folder: Path, seconds: int = 600) -> Path:
    """Two days of House B: column 3 (house door) opens for ten seconds in each hundred."""
    folder.mkdir(parents=True)
    for day in (1, 2):
        rows = []
        for second in range(seconds):
            sensors = ["0"] * 20
            sensors[2] = str(int(second % 100 < 10))
            rows.append(" ".join([*sensors, "11", "12" if second < 300 else "2"]))
        (folder / f"DAY_{day}.txt").write_text("\n".join(rows) + "\n")
    return folder


def write_recorder(path: Path, states: Sequence[State] = STATES, schema: int = 50) -> Path:
    """A recorder database: schema 50 as of 2025, 37 with legacy columns in use, 25 text."""
    base = sqlite3.connect(path)
    base.executescript(
        """
        CREATE TABLE states(state_id INTEGER PRIMARY KEY, entity_id TEXT, state TEXT,
          attributes TEXT, last_changed DATETIME, last_changed_ts FLOAT, last_updated DATETIME,
          last_updated_ts FLOAT, attributes_id INTEGER, metadata_id INTEGER);
        CREATE TABLE schema_changes(change_id INTEGER PRIMARY KEY, schema_version INTEGER);
        CREATE TABLE statistics(id INTEGER PRIMARY KEY, start_ts FLOAT, mean FLOAT);
        """
    )
    base.execute("INSERT INTO schema_changes VALUES(1, ?)", (schema,))
    entities = list(dict.fromkeys(row[0] for row in states))
    if schema >= 38:
        base.execute("CREATE TABLE states_meta(metadata_id INTEGER PRIMARY KEY, entity_id TEXT)")
        base.executemany("INSERT INTO states_meta VALUES(?, ?)", enumerate(entities))
    if schema > 25:
        base.execute("CREATE TABLE state_attributes(attributes_id INTEGER, shared_attrs TEXT)")
        rows = [(i, json.dumps(ATTRIBUTES.get(e, {}))) for i, e in enumerate(entities)]
        base.executemany("INSERT INTO state_attributes VALUES(?, ?)", rows)
    else:
        for column in ("last_changed_ts", "last_updated_ts", "attributes_id", "metadata_id"):
            base.execute(f"ALTER TABLE states DROP COLUMN {column}")
    for entity, state, updated_s, changed_s in states:
        row = _row(entity, state, updated_s, changed_s, entities.index(entity), schema)
        marks = ", ".join("?" * len(row))
        base.execute(f"INSERT INTO states({', '.join(row)}) VALUES({marks})", tuple(row.values()))
    base.commit()
    base.close()
    return path


def _row(
    entity: str, state: str, updated_s: float, changed_s: float | None, number: int, schema: int
) -> dict[str, object]:
    text = str(np.datetime64(round(updated_s * 1000), "ms")).replace("T", " ")
    changed = text if changed_s is None else str(np.datetime64(round(changed_s * 1000), "ms"))
    if schema <= 25:
        attributes = json.dumps(ATTRIBUTES.get(entity, {}))
        times = {"last_changed": changed.replace("T", " "), "last_updated": text}
        return {"entity_id": entity, "state": state, "attributes": attributes, **times}
    times_s = {"last_changed_ts": changed_s, "last_updated_ts": updated_s}
    named = {"metadata_id": number} if schema >= 38 else {"entity_id": entity}
    return {"state": state, "attributes_id": number, **times_s, **named}


def write_frigate(folder: Path, table: bool = True) -> Path:
    """Three pieces of 2 s that follow one another, a hole, and one more; each of one brightness."""
    starts = (START_S + 8.25, START_S + 10.25, START_S + 12.25, START_S + 40.25)
    rows = []
    for i, start_s in enumerate(starts):
        moment = str(np.datetime64(int(start_s), "s"))
        day, _, clock = moment.partition("T")
        hour, minute, second = clock.split(":")
        name = f"{day}/{hour}/kitchen/{minute}.{second}.mp4"
        path = folder / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        length_s = 12 if i == 3 else 2
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 48))
        for _ in range(5 * length_s):
            writer.write(np.full((48, 64, 3), 60 * i + 20, np.uint8))
        writer.release()
        rows.append(("/media/frigate/recordings/" + name, "kitchen", start_s, start_s + length_s))
    if table:
        base = sqlite3.connect(folder / "frigate.db")
        base.execute("CREATE TABLE recordings(id, path, camera, start_time, end_time, duration)")
        base.executemany("INSERT INTO recordings VALUES('x', ?, ?, ?, ?, 2)", rows)
        base.commit()
        base.close()
    return folder
