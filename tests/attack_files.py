"""Files that somebody might hand us, each made from an intact one; and how those are read."""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load, save

from detach import recipes
from detach.checkpoint import load_checkpoint
from detach.config import RunConfig, override
from detach.data.recording import read_dataset
from detach.data.windows import load_windows
from detach.edge.bundle import GOLDEN_FILE, MANIFEST_FILE, open_bundle
from detach.edge.live.config import read_config
from detach.edge.stored_zip import layout
from detach.model import load_run

from .spoiled_bundles import (  # type: ignore[import-not-found]
    SENSOR,
    members_in,
    nothing,
    resealed,
)
from .test_bundle import link, overlapping, size_lie, zipped  # type: ignore[import-not-found]
from .test_bundle_contents import (  # type: ignore[import-not-found]
    hide_external_in_a_branch,
    make_external,
    spoiled_graph,
)

PICTURES = override(RunConfig(), {"video": {"size_px": 32}})
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile {secret}\n"
PICKLE = b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."
TAG = "!!python/object/apply:os.system ['touch owned']"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


class Attack(NamedTuple):
    """What is done to a copy of the intact thing of its kind."""

    kind: str
    spoil: Callable[[Path, Path], None]
    """Takes the copy, a file or folder, and a file outside that must not be read."""


def read_data(folder: Path) -> object:
    return load_windows(read_dataset(folder), PICTURES)


READERS: dict[str, Callable[[Path], object]] = {
    "bundle": open_bundle,
    "data": read_data,
    "run": load_run,
    "checkpoint": lambda path: load_checkpoint(path, {}),
    "recipe": recipes.read,
    "live": read_config,
}


def of_bundle(change: Callable[[dict[str, bytes]], bytes]) -> Attack:
    return Attack("bundle", lambda path, _: put(path, change(members_in(path))))


def of_whole_bundle(change: Callable[[Path], bytes]) -> Attack:
    return Attack("bundle", lambda path, _: put(path, change(path)))


def put(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)


def of_json(name: str, change: Callable[[dict[str, Any]], object]) -> Attack:
    def spoil(folder: Path, _: Path) -> None:
        body = json.loads((folder / name).read_text())
        change(body)
        (folder / name).write_text(json.dumps(body))

    return Attack("data", spoil)


def of_video(text: str) -> Attack:
    def spoil(folder: Path, secret: Path) -> None:
        (folder / "r0/video.mp4").write_text(text.format(secret=secret))

    return Attack("data", spoil)


def of_text(kind: str, name: str, text: str | bytes) -> Attack:
    """``name`` in the folder, or the thing itself, is replaced by ``text``."""
    raw = text if isinstance(text, bytes) else text.encode()
    return Attack(kind, lambda path, _: put(path / name if name else path, raw))


def without_a_number(path: Path) -> bytes:
    golden = {k: v.copy() for k, v in load(members_in(path)[GOLDEN_FILE]).items()}
    golden["samples"][0, 0, 0] = np.nan
    raw: bytes = resealed(path, nothing, golden__safetensors=save(golden))
    return raw


def with_graph(change: Callable[[Any], object]) -> Attack:
    def spoil(path: Path) -> bytes:
        raw: bytes = resealed(path, nothing, sensor__fp32__onnx=spoiled_graph(change))
        return raw

    return of_whole_bundle(spoil)


def linked_outside(folder: Path, secret: Path) -> None:
    path = folder / "r0/sensors/door0.csv"
    path.unlink()
    path.symlink_to(secret)


def deep_manifest(members: dict[str, bytes]) -> bytes:
    return b"".join(layout({**members, MANIFEST_FILE: b"[" * 100_000 + b"]" * 100_000}))


def huge_header(path: Path) -> bytes:
    header = struct.pack("<Q", 1 << 62) + b"{}"
    raw: bytes = resealed(path, nothing, golden__safetensors=header)
    return raw


def deflated_bomb(_: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST_FILE, b"0" * (64 << 20))
    return file.getvalue()


ATTACKS: dict[str, Attack] = {
    "a member that climbs out": of_bundle(lambda m: zipped([("../outside", b"x"), *m.items()][:5])),
    "a member with an absolute name": of_bundle(
        lambda m: zipped([("/tmp/x", b"x"), *m.items()][:5])  # noqa: S108 -- a name, not a file
    ),
    "a member that is a link": of_bundle(
        lambda m: zipped([(link(SENSOR), b"/etc/passwd"), *m.items()][:5])
    ),
    "a pickle among the members": of_bundle(
        lambda m: zipped([*m.items(), ("model.pkl", PICKLE)][-3:])
    ),
    "a member twice": of_bundle(lambda m: zipped([*m.items()][:3] + [*m.items()][:1])),
    "members that share bytes": of_bundle(overlapping),
    "a bomb": of_bundle(deflated_bomb),
    "a size that lies": of_whole_bundle(lambda p: size_lie(p.read_bytes(), 1 << 31)),
    "something before the archive": of_whole_bundle(lambda p: b"#!/bin/sh\n" + p.read_bytes()),
    "something behind the archive": of_whole_bundle(lambda p: p.read_bytes() + PICKLE),
    "weights in another file": with_graph(lambda m: make_external(m.graph.initializer[0])),
    "weights in another file, in a branch": with_graph(hide_external_in_a_branch),
    "operators of somebody's own": with_graph(
        lambda m: setattr(m.graph.node[0], "domain", "com.evil")
    ),
    "windows that are no numbers": of_whole_bundle(without_a_number),
    "a header of 2^62 bytes": of_whole_bundle(huge_header),
    "a manifest of brackets": of_bundle(deep_manifest),
    "a playlist as video": of_video(PLAYLIST),
    "a list of files as video": of_video(CONCAT),
    "a file from outside as sensor": of_json(
        "r0/recording.json", lambda b: b["videos"][0].update(file="../../secret")
    ),
    "a link to a file outside": Attack("data", linked_outside),
    "a video of a million hours": of_json(
        "r0/recording.json", lambda b: b["videos"][0].update(frames=10**15)
    ),
    "pictures of a billion pixels": of_json(
        "r0/recording.json", lambda b: b["videos"][0].update(width_px=10**9, height_px=10**9)
    ),
    "a recording outside the folder": of_json(
        "dataset.json", lambda b: b["splits"].update(train=["../outside"])
    ),
    "a sensor file of one line": of_text(
        "data", "r0/sensors/shaker.csv", b"t_s,x,y,z\n" + b"9" * 1_000_000
    ),
    "a description of brackets": of_text("data", "r0/recording.json", "[" * 100_000),
    "a pickle as weights": of_text("run", "model.safetensors", PICKLE),
    "a program in the configuration": of_text("run", "config.yaml", f"schema: 1\nabout: {TAG}\n"),
    "a bomb of aliases": of_text("run", "config.yaml", f"schema: 1\nabout: *i\n{BOMB}"),
    "a configuration of ten megabytes": of_text("run", "config.yaml", "a: 1\n" * 2_000_000),
    "a pickle as checkpoint": of_text("checkpoint", "", PICKLE),
    "a program in a recipe": of_text("recipe", "", f"preset: {TAG}\n"),
    "a recipe of two megabytes": of_text("recipe", "", "# \n" * 700_000),
    "a program in live.yaml": of_text("live", "", f"schema: 1\nmqtt: {TAG}\n"),
    "aliases in live.yaml": of_text("live", "", f"schema: 1\n{BOMB}"),
}
