"""Whatever is wrong with a bundle or its source ends in exit code 3 and one line that names it.

Through the command, and beside each the same thing intact, which passes. What each check says in
detail stands in test_bundle.py, test_bundle_contents.py, test_engine.py and test_engine_cache.py.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from detach.cli import main
from detach.edge.bundle import GOLDEN_FILE, MANIFEST_FILE

from .spoiled_bundles import (  # type: ignore[import-not-found]
    SENSOR,
    members_in,
    nothing,
    put,
    resealed,
    whole_bundle,
)
from .test_bundle import link, size_lie, with_end, zipped  # type: ignore[import-not-found]
from .test_bundle_contents import make_external, spoiled_graph  # type: ignore[import-not-found]

Spoil = Callable[[Path], bytes]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(whole_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of its three sensors."""
    folder = tmp_path_factory.mktemp("source")
    for i in range(3):
        rows = "".join(f"{k / 4},{(k // 4) % 2}\n" for k in range(41))
        (folder / f"sensor{i}.csv").write_text(f"t_s,value\n{rows}")
    return folder


def code(bundle: Path, source: Path) -> int:
    return main(["run", str(bundle), str(source), "--backend", "onnxruntime"])


def flipped(member: str) -> Spoil:
    def spoil(path: Path) -> bytes:
        raw, content = bytearray(path.read_bytes()), members_in(path)[member]
        raw[raw.index(content) + len(content) // 2] ^= 1
        return bytes(raw)

    return spoil


def graph_with(change: Callable[..., object]) -> Spoil:
    return lambda path: bytes(resealed(path, nothing, sensor__fp32__onnx=spoiled_graph(change)))


def manifest_with(change: Callable[..., object]) -> Spoil:
    return lambda path: bytes(resealed(path, change))


def archive(*first: tuple[zipfile.ZipInfo | str, bytes], method: int = 0) -> Spoil:
    return lambda path: bytes(zipped([*first, *members_in(path).items()][:6], method))


def bomb(path: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members_in(path).items():
            made.writestr(name, content + bytes(4 << 20))
    return file.getvalue()


MEMBERS = (MANIFEST_FILE, SENSOR, "sensor.fp16.onnx", "video_temporal.fp16.onnx", GOLDEN_FILE)
BUNDLES: dict[str, Spoil] = {
    **{f"a flipped byte in {name}": flipped(name) for name in (*MEMBERS, "LICENSE.txt")},
    "wrong hash": manifest_with(lambda m: m["graphs"]["sensor.fp32"].update(sha256="0" * 64)),
    "wrong hash of the windows": manifest_with(lambda m: m.update(golden_sha256="0" * 64)),
    "wrong class count": manifest_with(lambda m: m["classes"].pop()),
    "wrong channel count": manifest_with(lambda m: m["channels"].pop()),
    "wrong channel name": manifest_with(lambda m: m["channels"][0].update(name="other")),
    "NaN in a mean": manifest_with(lambda m: m["channels"][0].update(mean=float("nan"))),
    "infinity in a deviation": manifest_with(lambda m: m["channels"][0].update(std=float("inf"))),
    "external data": graph_with(lambda m: make_external(m.graph.initializer[0])),
    "zip slip": archive(("../outside", b"x")),
    "absolute path": archive(("/etc/x", b"x")),
    "duplicate": lambda path: bytes(zipped([*members_in(path).items()][:3] * 2)),
    "symlink": archive((link(SENSOR), b"/etc/passwd")),
    "bomb": bomb,
    "huge header": lambda path: bytes(size_lie(path.read_bytes(), 0xFFFFFFF0)),
    "huge directory": lambda path: bytes(with_end(path.read_bytes(), size=0x7FFFFFFF)),
    "cut short": lambda path: path.read_bytes()[:-30],
    "no bundle": lambda _: b"GIF89a",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")  # that is the trick
@pytest.mark.parametrize("what", BUNDLES)
def test_a_bundle(
    what: str, intact: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code(intact, source) == 0
    capsys.readouterr()
    assert code(put(tmp_path, BUNDLES[what](intact)), source) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert str(tmp_path / "spoiled.detach") in printed.err
    assert code(intact, source) == 0


def other_names(folder: Path) -> None:
    for i in range(3):
        (folder / f"sensor{i}.csv").rename(folder / f"sonar{i}.csv")


def one_column_more(folder: Path) -> None:
    (folder / "sensor1.csv").write_text("t_s,value,other\n0,1,1\n")


def words(folder: Path) -> None:
    (folder / "sensor1.csv").write_text("t_s,value\n0,open\n")


def time_that_is_no_number(folder: Path) -> None:
    (folder / "sensor1.csv").write_text("t_s,value\n0,1\nnan,1\n")


def unix_times(folder: Path) -> None:
    for i in range(3):
        (folder / f"sensor{i}.csv").write_text("t_s,value\n1760000000,1\n1760000005,0\n")


def a_stamp_of_another_clock(folder: Path) -> None:
    (folder / "sensor0.csv").write_text("t_s,value\n0,1\n5,0\n1760000010,1\n")


def a_sensor_of_another_clock(folder: Path) -> None:
    (folder / "sensor0.csv").write_text("t_s,value\n1760000000,1\n")


def times_since_the_machine_was_started(folder: Path) -> None:
    for i in range(3):
        (folder / f"sensor{i}.csv").write_text(f"t_s,value\n{400000 - i},1\n400005,0\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (other_names, "no file of a sensor of the bundle"),
        (one_column_more, "sensor1.csv:1"),
        (words, "sensor1.csv:2"),
        (time_that_is_no_number, "sensor1.csv:3"),
        (unix_times, "sensor0.csv:2: starts at 1760000000 s; times count from the start"),
        (a_stamp_of_another_clock, "sensor0.csv:4: the time 1760000010 s comes after 5 s; a "),
        (a_sensor_of_another_clock, "sensor0.csv:2: starts at 1760000000 s"),
        (times_since_the_machine_was_started, "sensor2.csv:2: starts at 399998 s"),
    ],
)
def test_a_source(
    spoil: Callable[[Path], None],
    says: str,
    intact: Path,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert code(intact, folder) == 0
    spoil(folder)
    capsys.readouterr()
    assert code(intact, folder) == 3
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", ""])
def test_values_that_are_no_numbers_are_missing_and_the_answer_is_unknown(
    number: str, intact: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for file in source.iterdir():
        rows = [line.split(",") for line in file.read_text().splitlines()]
        text = "".join(f"{t},{v if t == 't_s' else number}\n" for t, v in rows)
        (folder / file.name).write_text(text)
    assert code(intact, folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert all('"label": "unknown"' in line and '"live_share": 0.0' in line for line in lines)
    assert code(intact, source) == 0
    assert '"live_share": 1.0' in capsys.readouterr().out
