"""Checkpoints: written whole or not at all, verified, and resumed bit for bit.

A checkpoint is one safetensors file of every tensor, with all other state as JSON in its header and
a check sum of both. Nothing is pickled. There is no state of random numbers in it: what training
draws is a function of (seed, stage, epoch, step). Beside the newest stand those before it, in
all as many as `RunConfig.checkpoints` says.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from detach.data.store import write_whole as write_whole  # offered here too
from detach.errors import DataError, UsageError

SCHEMA = 1
ANEW = "another version of detach wrote it: train into a new folder"


class Stateful(Protocol):
    """What has a state: modules, optimizers, the clustering."""

    def state_dict(self) -> Mapping[str, Any]:
        """Everything needed to go on."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Takes over what `state_dict` gave."""


def states(parts: Mapping[str, Stateful]) -> dict[str, Mapping[str, Any]]:
    """What all ``parts`` need to go on."""
    return {name: part.state_dict() for name, part in parts.items()}


def save_checkpoint(
    path: Path,
    state: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Any],
    keep: int = 2,
) -> None:
    """Writes the `states` of all parts and the JSON-able ``facts`` (epoch, step, sums).

    ``keep`` checkpoints stay, this one included.

    Raises:
        MachineError: The disk is full or the folder cannot be written; the old file is intact.
    """
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for name, part in state.items():
        _flatten(part, name, tensors, plain)
    meta = {"schema": str(SCHEMA), "plain": json.dumps(plain), "facts": json.dumps(dict(facts))}
    meta["sha256"] = _sum(tensors, meta["plain"], meta["facts"])
    _keep_older(path, keep)
    write_whole(path, save(tensors, meta))


def older(path: Path, by: int = 1) -> Path:
    """The checkpoint before the newest, or the one ``by`` places before it."""
    return path.with_name(f"previous{by if by > 1 else ''}{path.suffix}")


def kept(path: Path) -> list[Path]:
    """The newest checkpoint, there or not, and those before it that are there, in order."""
    found = {}
    for one in path.parent.glob(f"previous*{path.suffix}"):
        if match := re.fullmatch(r"previous(\d*)", one.stem):
            found[int(match[1] or 1)] = one
    return [path, *(found[by] for by in sorted(found))]


def load_checkpoint(path: Path, parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """Puts a checkpoint back into ``parts``.

    Returns:
        The facts.

    Raises:
        DataError: The file is damaged, of another schema, or of another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check_whole(path, meta, tensors)
        plain = json.loads(meta["plain"])
        _check_parts(parts, plain)
        for name, part in parts.items():
            part.load_state_dict(_unflatten(name, tensors, plain))
        return dict(json.loads(meta["facts"]))
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be resumed from: {error}") from error


def _check_whole(path: Path, meta: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    if meta.get("schema") != str(SCHEMA):
        found = repr(meta.get("schema"))
        raise DataError(f"{path}: schema must be {SCHEMA}, found {found[:80]}; {ANEW}")
    if meta.get("sha256", "") != _sum(tensors, meta["plain"], meta["facts"]):
        raise ValueError("it is damaged: its check sum is wrong")


def _check_parts(parts: Mapping[str, Stateful], plain: Mapping[str, Any]) -> None:
    if missing := [name for name in parts if name not in plain]:
        raise ValueError(f"it has no {', '.join(missing)}; {ANEW}")


def readable(path: Path, say: Callable[[str], None]) -> Path:
    """The newest checkpoint, or where that is damaged the newest before it that is not.

    Raises:
        DataError: None can be read; it is about the newest.
    """
    damage: DataError | None = None
    for one in kept(path):
        try:
            load_checkpoint(one, {})
        except DataError as error:
            damage = damage or error
            continue
        if damage:
            say(f"warning: {damage}; going on from one before, {one.name}")
        return one
    raise damage or DataError(f"{path}: is not there")


def read_place(path: Path, processes: int) -> str:
    """The stage a checkpoint was written in, by as many processes.

    Raises:
        UsageError: By others.
    """
    facts = load_checkpoint(path, {})
    if (before := facts.get("processes", 1)) != processes:
        raise UsageError(
            f"{path} was written by {before} processes, and a run goes on as it began: start "
            f"{before} with torchrun, not {processes}, or train into a new folder"
        )
    return str(facts["stage"])


def digest(state: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 of all tensors and numbers of `states`."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for name, part in state.items():
        _flatten(part, name, tensors, plain)
    return _sum(tensors, json.dumps(plain, sort_keys=True))


def _sum(tensors: Mapping[str, Tensor], *texts: str) -> str:
    found = hashlib.sha256("\0".join(texts).encode())
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _keep_older(path: Path, keep: int) -> None:
    """The newest becomes `older`, and stays where it is until another takes its place."""
    spare = path.with_name(f".{older(path).name}.part")
    with contextlib.suppress(OSError):  # some file systems know no links; then there is no older
        for one in kept(path)[keep:]:
            one.unlink()
        if older(path).exists() and path.samefile(older(path)):
            return  # the write that was to follow did not come about
        for by in range(keep - 1, 1, -1):
            with contextlib.suppress(FileNotFoundError):  # there are not so many yet
                older(path, by - 1).replace(older(path, by))
        spare.unlink(missing_ok=True)
        try:
            if keep > 1:
                os.link(path, spare)
                spare.replace(older(path))
        finally:
            spare.unlink(missing_ok=True)  # renaming a link to another of the same file is nothing


def _flatten(value: Any, name: str, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
    elif isinstance(value, Mapping):
        plain[name] = {"keys": [[type(k).__name__, k] for k in value]}
        for key, item in value.items():
            _flatten(item, f"{name}/{key}", tensors, plain)
    elif isinstance(value, list | tuple):
        plain[name] = {"length": len(value), "tuple": isinstance(value, tuple)}
        for key, item in enumerate(value):
            _flatten(item, f"{name}/{key}", tensors, plain)
    else:
        plain[name] = {"value": value}


def _unflatten(name: str, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> Any:
    if name in tensors:
        return tensors[name]
    entry = plain[name]
    if "keys" in entry:
        return {
            (int(k) if kind == "int" else k): _unflatten(f"{name}/{k}", tensors, plain)
            for kind, k in entry["keys"]
        }
    if "length" in entry:
        items = [_unflatten(f"{name}/{i}", tensors, plain) for i in range(entry["length"])]
        return tuple(items) if entry["tuple"] else items
    return entry["value"]
