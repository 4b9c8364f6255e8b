"""`detach record`: recordings from live sources, whole after any end."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from detach.data.recording import read_dataset, read_recording
from detach.edge.live import journal as journal_module
from detach.edge.live.journal import Journal, recover
from detach.edge.live.record import Recorder, run_record, tracks_of
from detach.errors import DataError, MachineError

from .live_home import (  # type: ignore[import-not-found]
    FakeClock,
    configured,
    mosquitto,
    wait_for,
    watcher,
)

CONFIG = """
schema: 1
lines: true
record: {minutes: 1}
sensors:
  door: {topic: door, kind: switch}
  plug: {topic: plug, field: power, kind: power, unit: W, hz: 1}
  shaker: {topic: shaker, fields: {x: ax, y: ay}, kind: acceleration, unit: g, hz: 10}
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "home"


def recorder(tmp_path: Path, out: Path) -> tuple[Recorder, FakeClock]:
    clock = FakeClock()
    return Recorder(configured(tmp_path, CONFIG), out, clock=clock, say=lambda _: None), clock


def live_on(found: Recorder, clock: FakeClock, until_s: float) -> None:
    while clock.now_s < until_s:
        clock.now_s += 0.5
        found.offer("plug", b'{"power": %g}' % clock.now_s)
        found.offer("shaker", b'{"ax": [1,2,3,4,5], "ay": [0,0,0,0,1]}')
        if clock.now_s % 10 == 0:
            found.offer("door", b"on" if clock.now_s % 20 else b"off")
        found.step()


def finish(found: Recorder) -> None:
    stop = threading.Event()
    stop.set()
    found.run(stop)


def test_recordings_hold_what_was_sent(tmp_path: Path, out: Path) -> None:
    found, clock = recorder(tmp_path, out)
    live_on(found, clock, 50.0)
    finish(found)
    dataset = read_dataset(out)
    (recording,) = dataset.recordings()
    assert dataset.splits == {"pretrain": (recording.name,)}
    assert recording.duration_s == pytest.approx(50.0)
    assert recording.start_utc == "2023-11-14T22:13:20+00:00"
    tracks = {track.name: track for track in recording.sensors}
    t_s, values = recording.read_sensor(tracks["door"])
    assert t_s.tolist() == [10.0, 20.0, 30.0, 40.0, 50.0]
    assert values[:, 0].tolist() == [1, 0, 1, 0, 1]
    t_s, values = recording.read_sensor(tracks["plug"])
    assert np.allclose(t_s, values[:, 0])
    t_s, values = recording.read_sensor(tracks["shaker"])
    assert values.shape == (len(t_s), 2)
    assert len(t_s) == 500
    assert sorted(p.name for p in recording.folder.iterdir()) == ["recording.json", "sensors"]


def test_the_next_recording_begins_with_the_states_of_the_last(tmp_path: Path, out: Path) -> None:
    found, clock = recorder(tmp_path, out)
    live_on(found, clock, 130.0)
    finish(found)
    recordings = list(read_dataset(out).recordings())
    assert len(recordings) == 3
    doors = [r.read_sensor(r.sensors[0]) for r in recordings]
    assert [(t[0], x[0, 0]) for t, x in doors[1:]] == [(0.0, 0.0), (0.0, 0.0)]
    assert sum(r.duration_s for r in recordings) == pytest.approx(130.0, abs=0.5)


def test_what_a_power_cut_leaves_becomes_a_recording(tmp_path: Path, out: Path) -> None:
    found, clock = recorder(tmp_path, out)
    live_on(found, clock, 40.0)
    journal = found._journal
    for file in (*journal._files.values(), journal._alive, journal._lock):
        file.close()  # as the end of the process would
    (folder,) = out.glob(".*.recording")
    with (folder / "sensors" / "plug.csv").open("ab") as file:
        file.write(b"41.2")
    with (folder / "sensors" / "door.csv").open("ab") as file:
        file.write(b"\0" * 300)
    (made,) = recover(out)
    recording = read_recording(made)
    assert recording.notes == {"recovered": True}
    assert recording.duration_s >= 37.0
    assert len(recording.read_sensor(recording.sensors[1])[0]) >= 70
    assert read_dataset(out).splits == {"pretrain": (made.name,)}
    assert recover(out) == []


def test_a_recording_in_the_making_is_left_alone(tmp_path: Path, out: Path) -> None:
    found, clock = recorder(tmp_path, out)
    live_on(found, clock, 10.0)
    assert recover(out) == []
    finish(found)
    assert len(found.finished) == 1


class FullDisk:
    """Takes half of what it is given, and then nothing."""

    def __init__(self, file: object) -> None:
        self.file = file
        self.full = True

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def write(self, raw: bytes) -> int:
        if not self.full:
            return int(self.file.write(raw))  # type: ignore[attr-defined] # a file
        self.file.write(raw[: len(raw) // 2])  # type: ignore[attr-defined] # a file
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_counted_and_survived(tmp_path: Path, out: Path) -> None:
    found, clock = recorder(tmp_path, out)
    said: list[str] = []
    found._say = said.append
    live_on(found, clock, 10.0)
    disk = FullDisk(found._journal._files["plug"])
    found._journal._files["plug"] = disk  # type: ignore[assignment] # nearly a file
    live_on(found, clock, 20.0)
    disk.full = False
    live_on(found, clock, 30.0)
    finish(found)
    assert "No space left" in said[0]
    assert len([text for text in said if "space" in text]) == 1
    recording = read_recording(found.finished[0])
    t_s, _ = recording.read_sensor(recording.sensors[1])
    assert recording.notes["counters"]["lost"] == 20
    assert len(t_s) == 40


def nearly_an_hour(tmp_path: Path, out: Path) -> tuple[Recorder, FakeClock, list[str]]:
    """A recorder whose recordings take a minute, one second before the first ends; what it says."""
    found, clock = recorder(tmp_path, out)
    said: list[str] = []
    found._say = said.append
    live_on(found, clock, 59.0)
    return found, clock, said


def test_a_disk_that_is_full_when_an_hour_ends_ends_nothing(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, clock, said = nearly_an_hour(tmp_path, out)

    def full(*_: object) -> None:
        raise MachineError("recording.json: No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(journal_module, "write_recording", full)
        live_on(found, clock, 61.0)
    live_on(found, clock, 80.0)
    finish(found)
    assert [text for text in said if "space" in text] == [said[0]]
    assert said[0].endswith("; the next start makes a recording of what is there")
    (second,) = found.finished
    t_s, values = read_recording(second).read_sensor(read_recording(second).sensors[1])
    assert (t_s[0], values[0, 0]) == (0.5, 60.5)
    (first,) = recover(out)
    recording = read_recording(first)
    assert recording.duration_s == pytest.approx(60.0)
    assert len(recording.read_sensor(recording.sensors[1])[0]) == 120


def test_a_disk_that_takes_no_new_recording_is_tried_until_it_does(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, clock, said = nearly_an_hour(tmp_path, out)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(journal_module, "write_json", full)
        live_on(found, clock, 100.0)
        (first,) = found.finished
        assert not list(out.glob(".*.recording"))  # no heap of those that could not begin
    live_on(found, clock, 130.0)
    finish(found)
    assert [text for text in said if "space" in text] == [said[1]]
    assert found.finished[0] == first
    assert [read_recording(r).duration_s for r in found.finished] == pytest.approx([60, 29.5])
    assert recover(out) == []


def test_late_rows_are_put_in_order_or_counted(tmp_path: Path, out: Path) -> None:
    journal = Journal(out, "one", tracks_of(configured(tmp_path, CONFIG)), 0.0)
    for t_s in (1.0, 1.5, 1.2):
        journal.push("plug", "value", t_s, t_s)
    journal.until(10.0)
    journal.push("plug", "value", 1.3, 1.3)
    journal.push("door", "value", 2.0, float("nan"))
    folder = journal.finish(12.0)
    assert (
        folder / "sensors/plug.csv"
    ).read_text() == "t_s,value\n1.0000,1\n1.2000,1.2\n1.5000,1.5\n"
    assert (folder / "sensors/door.csv").read_text() == "t_s,value\n2.0000,\n"
    assert read_recording(folder).notes["counters"]["late"] == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [(", kind: switch", "", "needs its kind"), ("door:", "a/b:", "no file can have this name")],
)
def test_sensors_that_make_no_recording_are_refused(
    tmp_path: Path, out: Path, old: str, new: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        Recorder(configured(tmp_path, CONFIG.replace(old, new)), out, clock=FakeClock(), say=print)
    assert not out.exists()


@pytest.fixture
def killed(tmp_path: Path, out: Path) -> Iterator[Path]:
    """live.yaml of a recorder at a real broker that ended by kill -9."""
    with mosquitto(tmp_path) as broker, watcher(broker.port, "x") as sender:
        text = CONFIG.replace("lines: true", f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}")
        path = tmp_path / "record.yaml"
        path.write_text(text)
        program = (
            "from pathlib import Path; from detach.edge.live.record import run_record\n"
            f"run_record(Path({str(path)!r}), Path({str(out)!r}), say=print)"
        )
        process = subprocess.Popen(  # noqa: S603 -- our own program
            [sys.executable, "-c", program], stdout=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: list(out.glob(".*.recording/alive.csv")), "the recorder")

            def written() -> bool:
                sender.send("door", b"on")
                return any(len(p.read_bytes()) > 20 for p in out.glob(".*/sensors/door.csv"))

            wait_for(written, "rows")
            os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
        yield path


def test_after_kill_9_the_next_start_makes_the_recording(killed: Path, out: Path) -> None:
    stop = threading.Event()
    stop.set()
    made = run_record(killed, out, say=lambda _: None, stop=stop)
    assert len(made) == 2
    recording = read_recording(made[0])
    assert recording.notes == {"recovered": True}
    t_s, values = recording.read_sensor(recording.sensors[0])
    assert len(t_s) >= 1
    assert set(values[:, 0].tolist()) == {1.0}
    assert len(list(read_dataset(out).recordings())) == 2
