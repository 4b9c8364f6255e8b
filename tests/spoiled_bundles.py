"""Spoiling bundles: the tiny one with something done to it, and the check that it is refused."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detach.edge.bundle import GOLDEN_FILE, MANIFEST_FILE, open_bundle
from detach.edge.stored_zip import layout
from detach.errors import DataError

from .edge_bundles import write_tiny  # type: ignore[import-not-found]

SENSOR = "sensor.fp32.onnx"
Members = dict[str, bytes]
Change = Callable[[dict[str, Any]], object]


def whole_bundle(folder: Path) -> Path:
    """A bundle with all there can be but int8."""
    licence = {"LICENSE.txt": b"Do as you like.\n"}
    path = folder / "tiny.detach"
    return Path(write_tiny(path, video=True, precisions=("fp32", "fp16"), members=licence))


def members_in(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def put(folder: Path, raw: bytes) -> Path:
    path = folder / "spoiled.detach"
    path.write_bytes(raw)
    return path


def refused(intact: Path, folder: Path, raw: bytes, said: str) -> None:
    """The spoiled bundle is refused with one message, leaves no trace, and the intact one opens."""
    path = put(folder, raw)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        open_bundle(path)
    assert caught.value.exit_code == 3
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert sorted(folder.parent.rglob("*")) == before
    assert open_bundle(intact).manifest.classes


def resealed(intact: Path, change: Change, **members: bytes) -> bytes:
    """The bundle with a changed manifest and members, hashes and check sums made right again."""
    contents = members_in(intact)
    replaced = {name.replace("__", "."): content for name, content in members.items()}
    contents |= replaced
    body = json.loads(contents[MANIFEST_FILE])
    for info in body["graphs"].values():
        if info["file"] in replaced:
            info["sha256"] = hashlib.sha256(contents[info["file"]]).hexdigest()
            info["bytes"] = len(contents[info["file"]])
    body["golden_sha256"] = hashlib.sha256(contents[GOLDEN_FILE]).hexdigest()
    change(body)
    contents[MANIFEST_FILE] = json.dumps(body).encode()
    return b"".join(layout(contents))


def nothing(body: dict[str, Any]) -> None:
    """The manifest stays as it is."""
