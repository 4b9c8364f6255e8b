"""Bundles as files: what is written comes back, and nothing else is opened."""

import hashlib
import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detach.edge.bundle import GOLDEN_FILE, MANIFEST_FILE, open_bundle, write_bundle
from detach.edge.stored_zip import END, layout
from detach.errors import DataError

from .edge_bundles import (  # type: ignore[import-not-found]
    golden_of,
    tiny_graphs,
    tiny_manifest,
    tiny_members,
    write_tiny,
)
from .spoiled_bundles import (  # type: ignore[import-not-found]
    SENSOR,
    Members,
    members_in,
    put,
    refused,
    whole_bundle,
)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(whole_bundle(tmp_path_factory.mktemp("bundle")))


def test_what_is_written_comes_back(intact: Path) -> None:
    graphs = tiny_graphs(video=True)
    infos, members = tiny_members(graphs, ("fp32", "fp16"))
    bundle = open_bundle(intact)
    assert bundle.licence() == "Do as you like.\n"
    assert bundle.manifest.precisions("video_temporal") == ("fp32", "fp16")
    assert bundle.manifest.precisions("video_spatial.fp32") == ()
    for key, info in bundle.manifest.graphs.items():
        assert bundle.graph(*key.split(".")) == members[info.file]
        assert info.sha256 == hashlib.sha256(members[info.file]).hexdigest()
        assert info.bytes == len(members[info.file])
        assert info.inputs == infos[key].inputs
    for name, value in golden_of(graphs).items():
        np.testing.assert_array_equal(bundle.golden()[name], value)
    with pytest.raises(DataError, match=r"has no graph sensor in int8; it has sensor\.fp32, "):
        bundle.graph("sensor", "int8")


def test_an_ordinary_unzip_reads_it_and_writing_twice_gives_the_same_bytes(
    intact: Path, tmp_path: Path
) -> None:
    assert next(iter(members_in(intact))) == MANIFEST_FILE
    bundle = open_bundle(intact)
    members = {n: c for n, c in members_in(intact).items() if n != MANIFEST_FILE}
    write_bundle(tmp_path / "again.detach", bundle.manifest, members)
    assert (tmp_path / "again.detach").read_bytes() == intact.read_bytes()


def test_a_member_that_changes_after_opening_is_refused(intact: Path, tmp_path: Path) -> None:
    path = put(tmp_path, intact.read_bytes())
    bundle = open_bundle(path)
    contents = members_in(intact) | {SENSOR: members_in(intact)[SENSOR][::-1]}
    path.write_bytes(b"".join(layout(contents)))
    with pytest.raises(DataError, match=SENSOR):
        bundle.graph("sensor", "fp32")
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        bundle.golden()


@pytest.mark.parametrize("member", [MANIFEST_FILE, SENSOR, "video_temporal.fp16.onnx", GOLDEN_FILE])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_flipped_byte_in_a_member(
    intact: Path, tmp_path: Path, member: str, share: float
) -> None:
    raw = bytearray(intact.read_bytes())
    content = members_in(intact)[member]
    raw[raw.index(content) + int(share * len(content))] ^= 0x10
    refused(intact, tmp_path, bytes(raw), f"'{member}' is damaged: its check sum is wrong")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_flipped_bit_and_any_cut_is_refused(
    intact: Path, tmp_path: Path, data: st.DataObject
) -> None:
    raw = bytearray(intact.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del raw[at:]
    with pytest.raises(DataError):
        open_bundle(put(tmp_path, bytes(raw)))


def test_every_byte_around_the_members_counts(tmp_path: Path) -> None:
    small = write_tiny(tmp_path / "small.detach")
    raw, contents = small.read_bytes(), members_in(small)
    inside = np.zeros(len(raw), dtype=bool)
    for content in contents.values():
        start = raw.index(content)
        inside[start : start + len(content)] = True
    for at in np.flatnonzero(~inside):
        spoiled = bytearray(raw)
        spoiled[at] ^= 1
        with pytest.raises(DataError):
            open_bundle(put(tmp_path, bytes(spoiled)))


def zipped(members: list[tuple[zipfile.ZipInfo | str, bytes]], method: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression=method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


def size_lie(raw: bytes, size: int) -> bytes:
    """The directory's first entry claims ``size`` bytes, and so does the entry itself."""
    spoiled = bytearray(raw)
    directory = END.unpack(raw[-END.size :])[6]
    struct.pack_into("<II", spoiled, directory + 20, size, size)
    struct.pack_into("<II", spoiled, 18, size, size)
    return bytes(spoiled)


def overlapping(members: Members) -> bytes:
    """Two entries of the directory share the bytes of one member."""
    raw = b"".join(layout(members))
    *_, size, offset, _ = END.unpack(raw[-END.size :])
    directory = bytearray(raw[offset : offset + size])
    second = directory.index(b"PK\1\2", 1)
    directory[second + 42 : second + 46] = struct.pack("<I", 0)
    return raw[:offset] + bytes(directory) + raw[-END.size :]


def with_end(raw: bytes, **changes: int) -> bytes:
    names = ("signature", "disk", "start", "here", "count", "size", "offset", "comment")
    end = dict(zip(names, END.unpack(raw[-END.size :]), strict=True)) | changes
    end["here"] = end["count"]
    return raw[: -END.size] + END.pack(*end.values())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: zipped([("../outside", b"x"), *m.items()][:5]), "'../outside' is no member"),
        (lambda m: zipped([("/etc/x", b"x"), *m.items()][:5]), "'/etc/x' is no member"),
        (lambda m: zipped([("a\\..\\b", b"x"), *m.items()][:5]), "is no member of a bundle"),
        (lambda m: zipped([*m.items(), ("model.pkl", b"x")][-3:]), "'model.pkl' is no member"),
        (lambda m: zipped([*m.items()][:3] + [*m.items()][:1]), "'manifest.json' is there twice"),
        (lambda m: zipped([(link(SENSOR), b"/etc/passwd"), *m.items()][:5]), "is a link"),
        (lambda m: zipped([*m.items()], zipfile.ZIP_DEFLATED), "is compressed or encrypted"),
        (lambda m: zipped([*m.items()], zipfile.ZIP_LZMA), "is compressed or encrypted"),
        (lambda m: zipped([*m.items()]), "is damaged, or not as detach writes it"),
        (overlapping, "its directory is damaged"),
        (lambda m: b"".join(layout(dict(reversed(m.items())))), "manifest.json must come first"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")  # that is the trick
def test_archives_of_another_form(
    intact: Path, tmp_path: Path, spoil: Callable[[Members], bytes], said: str
) -> None:
    refused(intact, tmp_path, spoil(members_in(intact)), said)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda raw: size_lie(raw, 0xFFFFFFF0), "claims 4294967280 bytes, more than"),
        (lambda raw: size_lie(raw, 4 << 20), "the entry of 'manifest.json' is damaged"),
        (lambda raw: with_end(raw, count=0xFFFF), "directory of 65535 members"),
        (lambda raw: with_end(raw, size=0xFFFFFFFF), "and 4294967295 bytes is too large"),
        (lambda raw: with_end(raw, offset=3), "is cut short, or has bytes that belong to no"),
        (lambda raw: with_end(raw, count=2), "its directory is damaged"),
        (lambda raw: with_end(raw, count=0), "its directory is damaged"),
        (lambda raw: with_end(raw, count=10), "its directory is cut short"),
        (lambda raw: raw + b"x", "has something after its end"),
        (lambda raw: raw + raw, "has bytes that belong to no member"),
        (lambda raw: b"#!/bin/sh\n" + raw, "has bytes that belong to no member"),
        (lambda raw: raw[:-30], "is cut short"),
        (lambda raw: raw[:0], "it is no bundle"),
        (lambda raw: raw[:0] + b"PK\5\6" + bytes(18), "has no 'manifest.json'"),
        (lambda raw: b"\x80\x04cos\nsystem\n." + raw[:100], "it is no bundle"),
    ],
)
def test_bytes_that_lie(
    intact: Path, tmp_path: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    refused(intact, tmp_path, spoil(intact.read_bytes()), said)


def test_a_bomb_takes_no_memory(intact: Path, tmp_path: Path) -> None:
    content = bytes(64 << 20)
    bomb = zipped([(SENSOR, content)], zipfile.ZIP_DEFLATED)
    del content
    lie = size_lie(intact.read_bytes(), (4 << 20) - 1)
    header = with_end(intact.read_bytes(), size=0x7FFFFFFF, offset=0)
    for raw in (bomb, lie, header):
        path = put(tmp_path, raw)
        tracemalloc.start()
        with pytest.raises(DataError):
            open_bundle(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


def test_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.detach")
    for name in ("pipe.detach", "missing.detach", "."):
        with pytest.raises(DataError, match="is not there, or no file"):
            open_bundle(tmp_path / name)


@pytest.mark.parametrize("member", [SENSOR, GOLDEN_FILE, MANIFEST_FILE])
def test_a_member_that_is_missing(intact: Path, tmp_path: Path, member: str) -> None:
    contents = {n: c for n, c in members_in(intact).items() if n != member}
    refused(intact, tmp_path, b"".join(layout(contents)), f"'{member}'")


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    infos, members = tiny_members(tiny_graphs())
    path = tmp_path / "new.detach"
    path.write_bytes(b"as it was")
    for wrong in (
        {**members, "notes.txt": b"x"},
        {n: c for n, c in members.items() if n != GOLDEN_FILE},
        members | {SENSOR: zlib.compress(members[SENSOR])},
    ):
        with pytest.raises(DataError, match=r"new\.detach: "):
            write_bundle(path, tiny_manifest(infos), wrong)
        assert [p.name for p in tmp_path.iterdir()] == ["new.detach"]
        assert path.read_bytes() == b"as it was"
