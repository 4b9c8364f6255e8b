"""What a process that decodes hostile files opens, told by the kernel: that file, and no socket.

Python's audit events do not see what the decoder's own C opens; strace does.
"""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from detach.data.recording import VideoTrack
from detach.errors import DataError

from .test_video import write_video  # type: ignore[import-not-found]

TRACED = "trace=open,openat,openat2,creat,execve,rename,renameat,unlink,unlinkat,%network"
OPTIONS = ("-f", "-qq", "-s", "4096")
PROGRAM = """
import contextlib, json, sys
from detach.data import decoding

for mark, words in json.load(sys.stdin):
    with contextlib.suppress(OSError):
        open(mark)
    print(f"\\n{mark} {decoding.main(words)}", file=sys.stderr)
"""
MARK = "/mark of a file/"
CALL = re.compile(r"^\d+\s+(\w+)\(")
NAME = re.compile(r'"((?:[^"\\]|\\.)*)"')
PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"dinf")


@pytest.fixture(scope="module")
def strace() -> str:
    """The program, where it may trace."""
    found = shutil.which("strace")
    if found is None:
        if os.environ.get("DETACH_CI") == "1" and sys.platform == "linux":
            pytest.fail("strace is not installed")
        pytest.skip("strace is not installed")
    tried = subprocess.run([found, "-o", os.devnull, "true"], capture_output=True, check=False)  # noqa: S603
    if tried.returncode:
        pytest.skip("strace may not trace processes here")
    return found


def with_reference(film: bytes, other: Path) -> bytes:
    """An MP4 whose track says that its data lie in another file: an alias, as QuickTime's."""
    path = str(other).encode()
    alias = bytes(10) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12)
    alias += bytes([len(other.name)]) + other.name.encode().ljust(63, b"\0") + bytes(16)
    alias += struct.pack(">hh", 1, 1) + bytes(16)
    for kind, text in ((2, path), (18, path), (-1, b"")):
        alias += struct.pack(">hH", kind, len(text)) + text + bytes(len(text) % 2)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias  # codespell:ignore alis
    return _replaced(film, struct.pack(">II", 0, 1) + entry)


def _replaced(boxes: bytes, table: bytes) -> bytes:
    """With ``table`` as what each `dref` holds; the film's data lie before what grows."""
    found, at = b"", 0
    while at < len(boxes):
        size, kind = struct.unpack_from(">I4s", boxes, at)
        body = boxes[at + 8 : at + size]
        if kind in PARENTS:
            body = _replaced(body, table)
        elif kind == b"dref":
            body = table
        found += struct.pack(">I4s", 8 + len(body), kind) + body
        at += size
    return found


def hostile(folder: Path, bait: Path, port: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents that ask a decoder for another file, or for an address."""
    film = (folder / "intact.mp4").read_bytes()
    url = f"http://127.0.0.1:{port}/film.ts"
    for name, text in {
        "playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{bait}\n#EXT-X-ENDLIST\n",
        "address": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{bait}'\n",
        "session": f"v=0\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n",
    }.items():
        raw = text.encode()
        yield f"{name}.mp4", raw
        yield f"{name} behind the first bytes.mp4", struct.pack(">I4s", 16, b"ftyp") + raw
        yield f"{name} behind the first bytes.avi", b"RIFF\xff\xff\0\0AVI " + raw
        yield f"{name} behind the first bytes.mkv", b"\x1a\x45\xdf\xa3" + raw
    yield f"subfile,,start,0,end,0,,:{bait.name}", film
    yield f"concat:{bait.name}|{bait.name}", film
    yield f"http:127.0.0.1:{port}.mp4", film
    yield "pictures%03d.mp4", film
    yield "half.mp4", film[: len(film) // 2]
    yield "reference.mp4", with_reference(film, bait)


def opened(log: str) -> dict[str, list[str]]:
    """What was asked for after each mark: names, and calls about sockets as they stand."""
    found: dict[str, list[str]] = {}
    for line in log.splitlines():
        call, names = CALL.match(line), NAME.findall(line)
        if call is None:
            continue
        if names and names[0].startswith(MARK):
            found[names[0].removeprefix(MARK)] = []
        elif found:
            found[next(reversed(found))].append(names[0] if "open" in call[1] and names else line)
    return found


def trace(strace: str, paths: list[Path], track: VideoTrack, **more: str) -> dict[str, list[str]]:
    """What one process opens that decodes ``paths`` in turn; its exit codes stand first."""
    words = [json.dumps(vars(track)), json.dumps({"size_px": 32})]
    jobs = [[MARK + path.name, [str(path), *words]] for path in paths]
    log = paths[0].with_name("strace.txt")
    done = subprocess.run(  # noqa: S603 -- our own program
        [strace, *OPTIONS, "-o", log, "-e", TRACED, sys.executable, "-c", PROGRAM],
        input=json.dumps(jobs).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, **more},
        timeout=200,
    )
    said = done.stderr.decode()
    assert done.returncode == 0, said
    ends = re.findall(rf"^{MARK}(.*) (\d+)$", said, re.MULTILINE)
    after = opened(log.read_text(errors="replace"))
    assert [name for name, _ in ends] == list(after) == [path.name for path in paths]
    return {name: [end, *after[name]] for name, end in ends}


def test_no_file_but_the_given_one_and_no_socket(strace: str, tmp_path: Path) -> None:
    bait = tmp_path / "bait.mp4"
    track = write_video(bait)
    paths = [tmp_path / f"intact{suffix}" for suffix in (".mp4", ".avi", ".mkv")]
    for path in paths:  # they load all libraries
        write_video(path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for name, raw in hostile(tmp_path, bait, listener.getsockname()[1]):
            (tmp_path / name).write_bytes(raw)
            paths.append(tmp_path / name)
        found = trace(strace, paths, track)
    for path in paths[3:]:
        assert set(found[path.name][1:]) <= {str(path)}, found[path.name]
    ends = {name: int(end) for name, (end, *_) in found.items()}
    whole = {name for name, end in ends.items() if end == 0}
    assert whole == {p.name for p in paths[:3]} | {n for n in ends if ":" in n}
    assert {ends[name] for name in ends if name not in whole} == {DataError.exit_code}
    looked = {name for name, names in found.items() if len(names) > 2}
    assert {"half.mp4", "reference.mp4", "playlist behind the first bytes.avi"} <= looked


def test_a_file_that_were_opened_would_be_seen(strace: str, tmp_path: Path) -> None:
    """The reference is one that the decoder follows when it is told to."""
    bait, path = tmp_path / "bait.mp4", tmp_path / "reference.mp4"
    track = write_video(bait)
    path.write_bytes(with_reference(bait.read_bytes(), bait))
    found = trace(strace, [path], track, OPENCV_FFMPEG_CAPTURE_OPTIONS="enable_drefs;1")
    assert str(bait) in found["reference.mp4"]
