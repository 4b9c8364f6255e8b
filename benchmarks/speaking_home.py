"""`python benchmarks/speaking_home.py RECORDING --port 1883`: a home that speaks Zigbee2MQTT.

Each sensor of a recording publishes on `zigbee2mqtt/NAME` in its own time, round after round: a
switch `{"contact": false}` while it is on, a sampled one its axes, such as `{"x": 3, "y": -1}`.
Ctrl-C ends it.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from detach.data.recording import Recording, read_recording

Message = tuple[float, str, dict[str, object]]


def messages(recording: Recording) -> Iterator[Message]:
    """When, about which sensor, and what, in order of time."""
    found: list[Message] = []
    for track in recording.sensors:
        t_s, values = recording.read_sensor(track)
        for t, row in zip(t_s.tolist(), values.tolist(), strict=True):
            body: dict[str, object] = dict(zip(track.axes, row, strict=True))
            found.append((t, track.name, {"contact": row[0] < 0.5} if track.binary else body))
    yield from sorted(found, key=lambda message: message[0])


def main() -> None:
    """Publishes until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--username")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--rounds", type=int, default=0, help="0 is until Ctrl-C")
    args = parser.parse_args()
    recording = read_recording(args.recording)
    said = list(messages(recording))
    client = Client(CallbackAPIVersion.VERSION2)
    if args.username:
        client.username_pw_set(args.username, args.password_file.read_text().strip())
    client.connect(args.host, args.port)
    client.loop_start()
    for _ in itertools.count() if args.rounds == 0 else range(args.rounds):
        began_s = time.monotonic()
        for at_s, name, body in said:
            time.sleep(max(0.0, began_s + at_s - time.monotonic()))
            client.publish(f"zigbee2mqtt/{name}", json.dumps(body))
        time.sleep(max(0.0, began_s + recording.duration_s - time.monotonic()))
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
