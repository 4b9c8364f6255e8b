"""What `detach run` and `detach export` write: nothing that is read, and not for nothing."""

import errno
import gc
import os
from pathlib import Path

import pytest

from detach.cli import main
from detach.edge import replay
from detach.edge.decide import decide
from detach.edge.outputs import line_file
from detach.edge.replay import Options, run_and_show
from detach.edge.stream import SensorWindow
from detach.errors import MachineError

from .spoiled_bundles import whole_bundle  # type: ignore[import-not-found]

SENSORS_ONLY = Options(backend="onnxruntime")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(whole_bundle(tmp_path))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten minutes of one sensor."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "sensor0.csv").write_text("t_s,value\n0,0\n7,1\n600,0\n")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "tiny.detach"], "tiny.detach is what is read; name another file"),
        (["--out", "link.detach"], "link.detach is what is read"),
        (["--out", "home/sensor0.csv"], "sensor0.csv lies in "),
        (["--out", "home/sensors/new.jsonl"], "new.jsonl lies in "),
        (["--out", "elsewhere/sensor1.csv"], "sensor1.csv is what is read"),
        (["--annotate", "film.mp4", "--video-file", "film.mp4"], "film.mp4 is what is read"),
        (["--rrd", "home/a.rrd"], "a.rrd lies in "),
        (["--out", "a.rrd", "--rrd", "home/../a.rrd"], "a.rrd is named for two outputs"),
        (["--annotate", "film.txt"], "--annotate must end in .mp4, got film.txt"),
        (["--rrd", "a.mp4"], "--rrd must end in .rrd, got a.mp4"),
        (["--out", "elsewhere"], "elsewhere is a folder or a device; name a file"),
        (["--out", "pipe"], "pipe is a folder or a device"),
        (["--rrd", "film.mp4/a.rrd"], "film.mp4 is a file; name another folder"),
    ],
)
def test_an_output_that_would_overwrite_something_is_refused_first(
    words: list[str],
    says: str,
    bundle: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "film.mp4").write_bytes(b"years of work")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "sensor1.csv").write_text("t_s,value\n0,0\n")
    (source / "sensor1.csv").symlink_to(tmp_path / "elsewhere" / "sensor1.csv")
    (tmp_path / "link.detach").symlink_to(bundle)
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    assert main(["run", "tiny.detach", "home", *words]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert len(printed.err.strip().splitlines()) == 1  # no engine was opened
    assert printed.out == ""
    assert contents(tmp_path) == before
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("option", ["out", "annotate", "rrd"])
def test_a_folder_that_takes_nothing_is_found_first(
    option: str, bundle: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even from root."""
    file = {"out": "o", "annotate": "o.mp4", "rrd": "o.rrd"}[option]
    assert main(["run", str(bundle), str(source), f"--{option}", f"/proc/{file}"]) == 4
    printed = capsys.readouterr()
    assert f"/proc/{file} cannot be written: /proc: " in printed.err
    assert (printed.out, len(printed.err.strip().splitlines())) == ("", 1)


@pytest.mark.parametrize(
    ("out", "code", "says"), [(".", 2, "is a folder"), ("/proc/x", 4, "cannot be written")]
)
def test_an_export_to_nowhere_is_refused_before_the_run_is_read(
    out: str, code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    assert main(["export", str(tmp_path / "no run"), "--out", out]) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["run"], ["bench", "edge"]])
@pytest.mark.parametrize("threads", [0, 1025])
def test_threads_are_bounded(
    verb: list[str], threads: int, bundle: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*verb, str(bundle), *([str(source)] if verb == ["run"] else [])]
    assert main([*words, "--threads", str(threads)]) == 2
    assert f"threads must be 1 to 1024, got {threads}" in capsys.readouterr().err


def test_lines_are_written_as_they_come_and_appear_when_whole(
    bundle: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, parts = tmp_path / "new" / "o.jsonl", []
    printed: list[str] = []
    words = {"options": SENSORS_ONLY, "annotate": None, "say": lambda _: None}
    run_and_show(bundle, source, out=None, write=printed.append, **words)  # type: ignore[arg-type]

    def watched(*args: object) -> object:
        parts.append([(p.name, p.stat().st_size > 0) for p in out.parent.glob(".o.jsonl.*.part")])
        if len(parts) == 700:
            raise MachineError("the engine fails")
        return decide(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(replay, "decide", watched)
    run_and_show(bundle, source, out=out, write=print, **words)  # type: ignore[arg-type]
    assert len(printed) == 599
    assert out.read_text() == "".join(f"{line}\n" for line in printed)
    assert [path.name for path in out.parent.iterdir()] == ["o.jsonl"]
    assert len(parts[0]) == 1
    assert parts[-1][0][1]  # some are in it long before the end
    before = out.read_bytes()
    with pytest.raises(MachineError, match="the engine fails"):
        run_and_show(bundle, source, out=out, write=print, **words)  # type: ignore[arg-type]
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["o.jsonl"]


def test_a_full_disk_leaves_the_lines_that_were_there(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text("old\n")

    def fill() -> None:
        with line_file(out) as write:
            write("new")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MachineError, match="o.jsonl: could not be written: the disk is full"):
        fill()
    assert contents(tmp_path) == {out: b"old\n"}


def test_no_window_is_kept_without_need(bundle: Path, source: Path) -> None:
    held: list[int] = []

    def count(line: str) -> None:
        if '"end_s": 590.0' in line:
            held.append(sum(type(x) is SensorWindow for x in gc.get_objects()))

    words = {"options": SENSORS_ONLY, "out": None, "annotate": None, "say": lambda _: None}
    run_and_show(bundle, source, write=count, **words)  # type: ignore[arg-type]
    assert len(held) == 1
    assert held[0] <= 2


def test_windows_that_are_kept_have_no_samples(bundle: Path, source: Path) -> None:
    words = {"options": SENSORS_ONLY, "write": lambda _: None, "say": lambda _: None}
    summary, _, found = replay.run(bundle, source, **words)  # type: ignore[arg-type]
    assert len(found) == summary.windows == 599
    assert {window.samples.size for window, _ in found} == {0}
    assert {window.activation.shape for window, _ in found} == {(3,)}
    assert replay.run(bundle, source, keep=False, **words)[2] == []  # type: ignore[arg-type]
