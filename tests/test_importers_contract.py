"""Every reader of logs keeps the contract, and the check finds those that do not."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detach.data.importers import aras, casas, frigate, home_assistant, kasteren, mosquitto
from detach.data.importers.contract import check_importer
from detach.data.importers.log import Change, Log, Options, Reader
from detach.errors import DataError

from .event_logs import (  # type: ignore[import-not-found]
    CASAS,
    HISTORY,
    KASTEREN,
    MOSQUITTO,
    START_S,
    write_aras,
    write_frigate,
    write_kasteren,
    write_recorder,
)


def text(content: str, name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return write


LAYOUTS: dict[str, tuple[Reader, Callable[[Path], Path], Options]] = {
    "casas": (casas.read, text(CASAS, "data"), Options()),
    "casas, a zone": (casas.read, text(CASAS, "data"), Options(timezone="America/Los_Angeles")),
    "casas, hours": (casas.read, text(CASAS, "data"), Options(hours=1, gap_hours=1)),
    "kasteren": (kasteren.read, lambda f: write_kasteren(f / "house"), Options()),
    "aras": (aras.read, lambda f: write_aras(f / "House B"), Options()),
    "mosquitto": (mosquitto.read, text(MOSQUITTO, "z.log"), Options(pulse=("hall.*",))),
    "history": (home_assistant.read, text(HISTORY, "history.csv"), Options()),
    "recorder 25": (home_assistant.read, lambda f: write_recorder(f / "h", schema=25), Options()),
    "recorder 37": (home_assistant.read, lambda f: write_recorder(f / "h", schema=37), Options()),
    "recorder 50": (home_assistant.read, lambda f: write_recorder(f / "h", schema=50), Options()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_reader_keeps_the_contract(layout: str, tmp_path: Path) -> None:
    read, write, options = LAYOUTS[layout]
    (tmp_path / "in").mkdir()
    source = write(tmp_path / "in")
    assert check_importer(read, source, tmp_path / "out", options) == []


TEXTS = {
    "casas": (casas.read, CASAS, "data"),
    "mosquitto": (mosquitto.read, MOSQUITTO, "z.log"),
    "history": (home_assistant.read, HISTORY, "history.csv"),
    "kasteren": (kasteren.read, KASTEREN["houseX-ss.txt"], "x-ss.txt"),
    "aras": (aras.read, "0 " * 20 + "1 2\n" + "1 " * 20 + "1 27\n", "DAY_1.txt"),
}


@pytest.mark.parametrize("name", TEXTS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_spoiled_text_is_counted_or_named_and_never_crashes(
    name: str, data: st.DataObject, tmp_path: Path
) -> None:
    read, content, file = TEXTS[name]
    raw = bytearray(content.encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    (tmp_path / file).write_bytes(raw)
    log, said = Log(), ""
    try:
        changes = list(read(tmp_path / file, Options(), log))
    except DataError as error:
        changes, said = [], str(error)
    assert not said or file in said or str(tmp_path) in said
    assert said or log.rows == log.used + log.dropped.total()
    assert all(math.isfinite(t_s) for t_s, _, _ in changes)


def test_the_reader_of_film_keeps_the_contract(tmp_path: Path) -> None:
    sensors = write_recorder(tmp_path / "h.db")
    source = write_frigate(tmp_path / "frigate")
    options = Options(sensor_log=sensors, film_fps=5)
    assert check_importer(frigate.read, source, tmp_path / "out", options) == []


Yields = Callable[[Path, Log, str], Iterator[Change]]


def good(_: Path, log: Log, name: str) -> Iterator[Change]:
    for i in range(20):
        log.rows, log.used, log.share = log.rows + 1, log.used + 1, i / 19
        yield START_S + i, name, float(i % 2)


def untold(source: Path, log: Log, name: str) -> Iterator[Change]:
    yield from ((t_s, "nobody", value) for t_s, _, value in good(source, log, name))


def not_binary(source: Path, log: Log, name: str) -> Iterator[Change]:
    yield from ((t_s, name, 2 * value) for t_s, name, value in good(source, log, name))


def uncounted(source: Path, log: Log, name: str) -> Iterator[Change]:
    yield from good(source, log, name)
    log.rows += 1


def without_place(source: Path, log: Log, name: str) -> Iterator[Change]:
    yield from good(source, log, name)
    log.rows += 1
    log.dropped["for some reason"] += 1


def greedy(source: Path, log: Log, name: str) -> Iterator[Change]:
    held = bytearray(2_000_000)
    yield from good(source, log, name)
    del held


def backwards(source: Path, log: Log, name: str) -> Iterator[Change]:
    for change in good(source, log, name):
        log.share = 1 - log.share
        yield change


def writes(source: Path, log: Log, name: str) -> Iterator[Change]:
    source.with_name(source.name + "-journal").write_text("x")
    yield from good(source, log, name)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (untold, "not told"),
        (not_binary, "has the value 2.0"),
        (uncounted, "21 rows were read, but 20 used"),
        (without_place, "no file and line for 'for some reason'"),
        (greedy, "were held while reading, at most 1 expected"),
        (backwards, "log.share went"),
        (writes, "the source is not as it was"),
    ],
)
def test_the_check_finds_a_reader_that_does_not(
    changes: Yields, problem: str, tmp_path: Path
) -> None:
    source = tmp_path / "log"
    source.write_text("x")

    def read(source: Path, options: Options, log: Log) -> Iterator[Change]:
        del options
        name = log.sensor("door", kind="switch", guess="told")
        yield from changes(source, log, name)

    found = _problems(read, source, tmp_path / "out")
    assert any(problem in line for line in found), found


def test_the_check_accepts_a_reader_that_does(tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.write_text("x")

    def read(source: Path, options: Options, log: Log) -> Iterator[Change]:
        del options
        yield from good(source, log, log.sensor("door", kind="switch", guess="told"))

    assert _problems(read, source, tmp_path / "out") == []


def _problems(read: Reader, source: Path, out: Path) -> list[str]:
    try:
        return check_importer(read, source, out, held_mb=1.0)
    except KeyError as error:  # a sensor that was never told cannot be written at all
        return [f"not told: {error}"]
