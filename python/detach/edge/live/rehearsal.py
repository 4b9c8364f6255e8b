"""`detach live --replay`: a recording as if its sensors and its camera were here, again and again.

No broker and no live.yaml is needed; it is how one looks at the live page before there is a home.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from detach.data.recording import Recording, read_recording
from detach.edge.live.camera import Camera
from detach.edge.live.config import CameraSource, LiveConfig, Page, SensorSource
from detach.edge.manifest import Manifest
from detach.errors import DataError

STEP_S = 0.1
"""Samples come in parcels of so long."""
PATIENCE_S = 10.0
"""The camera's process may take so long to start."""
Parcel = tuple[float, str, bytes]


def rehearsed(path: Path, manifest: Manifest, port: int | None = None) -> LiveConfig:
    """A configuration with the recording's sensors, its film as camera, and the live page.

    Args:
        path: A recording.
        manifest: Of the bundle.
        port: Of the page; None takes the usual one.

    Raises:
        DataError: No recording, or none of its sensors is one of the bundle's.
    """
    recording = read_recording(path)
    known = {channel.sensor for channel in manifest.channels}
    sensors = {
        track.name: SensorSource(
            topic=track.name,
            fields={axis: axis for axis in track.axes},
            invert=track.polarity < 0,
            hz=track.hz,
            reports="changes" if track.hz is None else "samples",
            place=track.place,
        )
        for track in recording.sensors
        if track.name in known
    }
    if not sensors:
        raise DataError(f"{path}: none of its sensors is one of the bundle's")
    camera = None
    if len(recording.videos) == 1 and manifest.video is not None and manifest.video.flow is None:
        film = recording.videos[0]
        camera = CameraSource(source=str(recording.folder / film.file), fps=min(film.fps, 60))
    page = Page(camera=True) if port is None else Page(camera=True, port=port)
    return LiveConfig(
        schema=1, name="rehearsal", lines=True, sensors=sensors, camera=camera, page=page
    )


def start_rehearsal(
    path: Path, offer: Callable[[str, bytes], None], camera: Camera | None, stop: threading.Event
) -> threading.Thread:
    """A thread that plays the recording in its own time until ``stop`` is set.

    Each round begins with the film's first picture, so that both stay together.
    """
    parcels = list(parcels_of(read_recording(path)))

    def work() -> None:
        rounds = 0
        while not stop.is_set():
            rounds += 1
            _await_film(camera, rounds, stop)
            began_s = time.monotonic()
            for at_s, topic, payload in parcels:
                stop.wait(max(0.0, began_s + at_s - time.monotonic()))
                if stop.is_set():
                    return
                offer(topic, payload)

    thread = threading.Thread(target=work, name="rehearsal", daemon=True)
    thread.start()
    return thread


def parcels_of(recording: Recording) -> Iterator[Parcel]:
    """When, as which topic, and what, in order of time: changes alone, samples `STEP_S` long."""
    found: list[Parcel] = []
    for track in recording.sensors:
        t_s, values = recording.read_sensor(track)
        parcel_s = STEP_S if track.hz is not None else 0.0
        begun: list[tuple[float, list[float]]] = []
        for t, row in zip(t_s.tolist(), values.tolist(), strict=True):
            if begun and t - begun[0][0] >= parcel_s:
                found.append(_parcel(track.name, track.axes, begun))
                begun = []
            if all(x == x for x in row):  # noqa: PLR0124 -- not NaN
                begun.append((t, row))
        if begun:
            found.append(_parcel(track.name, track.axes, begun))
    yield from sorted(found)


def _parcel(name: str, axes: tuple[str, ...], rows: list[tuple[float, list[float]]]) -> Parcel:
    columns = zip(*(row for _, row in rows), strict=True)
    body = {a: [round(x, 5) for x in xs] for a, xs in zip(axes, columns, strict=True)}
    return rows[-1][0], name, json.dumps(body).encode()


def _await_film(camera: Camera | None, rounds: int, stop: threading.Event) -> None:
    if camera is None:
        return
    end_s = time.monotonic() + PATIENCE_S
    frames = camera.counts["frames"]
    while time.monotonic() < end_s and not stop.wait(0.02):
        if camera.counts["starts"] >= rounds and camera.counts["frames"] > frames:
            return
