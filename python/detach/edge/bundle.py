"""NAME.detach: a trained model as one file. Members are read by name and never unpacked to disk.

    manifest.json  sensor.fp32.onnx  sensor.fp16.onnx  video_*.{fp32,fp16,int8}.onnx
    golden.safetensors  LICENSE.txt

Opening checks all of it: the form of the archive, every hash, every field of the manifest, that no
graph refers to other files, and that graphs and golden windows are what the manifest says.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from detach.data.store import write_whole
from detach.edge import stored_zip
from detach.edge.manifest import (
    GRAPHS,
    GraphInfo,
    Manifest,
    dump,
    golden_name,
    graph_file,
    graph_key,
    parse,
)
from detach.edge.onnx_walk import facts_of
from detach.errors import DataError

SUFFIX = ".detach"
MANIFEST_FILE, GOLDEN_FILE, LICENCE_FILE = "manifest.json", "golden.safetensors", "LICENSE.txt"
GOLDEN_WINDOWS = 4

LARGEST_BYTES: dict[str, int] = {
    MANIFEST_FILE: 4 << 20,
    **{graph_file(name, p): 256 << 20 for name, all_p in GRAPHS.items() for p in all_p},
    GOLDEN_FILE: 256 << 20,
    LICENCE_FILE: 1 << 20,
}
"""All members there can be, in the order they are written, and the largest each may be."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An opened bundle. Nothing stays in memory but the manifest; each read is checked again."""

    path: Path
    manifest: Manifest
    members: Mapping[str, stored_zip.Member]

    def graph(self, name: str, precision: str) -> bytes:
        """The ONNX file of a graph.

        Raises:
            DataError: The bundle lacks it, or the file was changed since it was opened.
        """
        info = self.manifest.graphs.get(graph_key(name, precision))
        if info is None:
            there = ", ".join(self.manifest.graphs)
            raise DataError(f"{self.path}: has no graph {name} in {precision}; it has {there}")
        return self._read(info.file, info.sha256)

    def golden(self) -> dict[str, NDArray[np.float32]]:
        """Four windows, inputs and outputs of all graphs by `manifest.golden_name`.

        Raises:
            DataError: The file was changed since it was opened.
        """
        raw = self._read(GOLDEN_FILE, self.manifest.golden_sha256)
        try:
            return load(raw)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: {GOLDEN_FILE}: {error}") from error

    def licence(self) -> str | None:
        """LICENSE.txt, where there is one.

        Raises:
            DataError: Not a text.
        """
        if LICENCE_FILE not in self.members:
            return None
        try:
            return self._read(LICENCE_FILE, None).decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: {LICENCE_FILE}: not UTF-8") from error

    def _read(self, name: str, sha256: str | None) -> bytes:
        try:
            with self.path.open("rb") as file:
                content = stored_zip.read_member(file, self.members[name])
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: {error}") from error
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise DataError(f"{self.path}: {name!r} is not what the manifest's sha256 says")
        return content


def write_bundle(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> None:
    """Writes a bundle, whole or not at all, after checking it as `open_bundle` does.

    Args:
        path: Where; replaced if it is there.
        manifest: Its hashes and sizes are filled in here.
        members: The graphs by file name, ``golden.safetensors`` and perhaps ``LICENSE.txt``.

    Raises:
        DataError: Members and manifest do not fit together.
        MachineError: No room or no permission; what was there is intact.
    """
    graphs = {key: _filled_in(info, members) for key, info in manifest.graphs.items()}
    golden_sha256 = hashlib.sha256(members.get(GOLDEN_FILE, b"")).hexdigest()
    whole = dataclasses.replace(manifest, graphs=graphs, golden_sha256=golden_sha256)
    contents = {MANIFEST_FILE: dump(whole), **members}
    if unknown := set(contents) - set(LARGEST_BYTES):
        raise DataError(f"{path}: {sorted(unknown)[0]!r} is no member of a bundle")
    ordered = {name: contents[name] for name in LARGEST_BYTES if name in contents}
    archive = b"".join(stored_zip.layout(ordered))
    unchecked = path.with_name(f".{path.name}.unchecked")
    try:
        write_whole(unchecked, archive)
        open_bundle(unchecked)
    except DataError as error:
        raise DataError(str(error).replace(str(unchecked), str(path))) from error
    finally:
        with contextlib.suppress(OSError):
            unchecked.unlink()
    write_whole(path, archive)


def open_bundle(path: Path) -> Bundle:
    """Opens and checks a bundle.

    Raises:
        DataError: Not there, no bundle, damaged, or not of one piece.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there, or no file: expected a bundle, NAME{SUFFIX}")
    try:
        with path.open("rb") as file:
            members = stored_zip.members_of(file, LARGEST_BYTES)
            raw = stored_zip.read_member(file, members[MANIFEST_FILE])
    except KeyError as error:
        raise DataError(f"{path}: has no {error}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    manifest = parse(raw, f"{path}: {MANIFEST_FILE}")
    bundle = Bundle(path, manifest, members)
    _check_members(bundle)
    for key, info in manifest.graphs.items():
        name, _, precision = key.partition(".")
        _check_graph(f"{path}: {info.file}", info, bundle.graph(name, precision))
    _check_golden(bundle)
    bundle.licence()
    return bundle


def _filled_in(info: GraphInfo, members: Mapping[str, bytes]) -> GraphInfo:
    content = members.get(info.file, b"")
    sha256 = hashlib.sha256(content).hexdigest()
    return dataclasses.replace(info, sha256=sha256, bytes=len(content))


def _check_members(bundle: Bundle) -> None:
    graphs = {info.file for info in bundle.manifest.graphs.values()}
    found, needed = set(bundle.members) - {LICENCE_FILE}, {MANIFEST_FILE, GOLDEN_FILE, *graphs}
    if missing := needed - found:
        raise DataError(f"{bundle.path}: {sorted(missing)[0]!r} is missing")
    if extra := found - needed:
        raise DataError(f"{bundle.path}: {sorted(extra)[0]!r} is not in the manifest")
    if next(iter(bundle.members)) != MANIFEST_FILE:
        raise DataError(f"{bundle.path}: {MANIFEST_FILE} must come first")


def _check_graph(where: str, info: GraphInfo, model: bytes) -> None:
    try:
        facts = facts_of(model)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    for field in ("inputs", "outputs", "opset", "ir_version", "nodes"):
        said, found = getattr(info, field), getattr(facts, field)
        if said != found:
            raise DataError(f"{where}: its {field} are {found}, but {said} in the manifest")
    if info.bytes != len(model):
        raise DataError(f"{where}: has {len(model)} bytes, but {info.bytes} in the manifest")


def _check_golden(bundle: Bundle) -> None:
    golden = bundle.golden()
    expected: dict[str, tuple[int | None, ...]] = {}
    for name in GRAPHS:
        if bundle.manifest.precisions(name):
            for shapes in bundle.manifest.shapes(name):
                for tensor, shape in shapes.items():
                    expected[golden_name(name, tensor)] = (GOLDEN_WINDOWS, *shape[1:])
    where = f"{bundle.path}: {GOLDEN_FILE}"
    if set(golden) != set(expected):
        raise DataError(f"{where}: holds {sorted(golden)}, must hold {sorted(expected)}")
    for name, shape in expected.items():
        _check_window(f"{where}: {name!r}", golden[name], shape)


def _check_window(where: str, found: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    if found.dtype != np.float32 or found.shape != shape:
        raise DataError(f"{where} must be float32 {shape}, found {found.dtype} {found.shape}")
    if not np.isfinite(found).all():
        raise DataError(f"{where} must be finite")
