"""TensorRT engines, kept on the device that built them: CACHE/<key>/engine.plan and meta.json.

An engine works only with the GPU, the driver and the TensorRT version it was built with, so all of
that is in the key, and another machine or version builds its own. An entry is renamed into place
when it is whole, checked against its own description when it is read, thrown away once and built
again when TensorRT refuses it, and put aside for good when it does not repeat the golden windows.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from detach.data.store import new_folder, read_json, write_json
from detach.edge.guarded_process import Outcome
from detach.errors import DataError, MachineError

SCHEMA = 1
PLAN_FILE, META_FILE = "engine.plan", "meta.json"
ASIDE = ".quarantined"
LOCK_WAIT_S = 3600.0
"""How long another process may take to build what we want too."""
LOOK_EVERY_S = 0.1

E = TypeVar("E")
Say = Callable[[str], None]


class PlanRefusedError(Exception):
    """TensorRT cannot load an engine."""


@dataclass(frozen=True, kw_only=True)
class EngineIdentity:
    """All that decides whether an engine may be used."""

    onnx_sha256: str
    precision: str
    profile: Mapping[str, Any]
    tensorrt: str
    device: Mapping[str, Any]
    settings: Mapping[str, Any]
    dla_core: int | None = None
    cache: int = SCHEMA

    @property
    def key(self) -> str:
        """Name of its folder."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EngineCache:
    """A folder of engines."""

    folder: Path

    def entry(self, identity: EngineIdentity) -> Path:
        """Where an engine is, or will be."""
        return self.folder / identity.key

    def open(
        self,
        identity: EngineIdentity,
        build: Callable[[Path], Outcome],
        load: Callable[[bytes], E],
        test: Callable[[E], None],
        say: Say,
    ) -> E:
        """An engine that has passed its test, kept or built.

        Args:
            identity: Which one.
            build: Writes a plan to a path.
            load: Makes an engine of a plan, or raises `PlanRefusedError`.
            test: Closes the engine and raises a DataError when it computes something else.
            say: Is told what is done with the cache.

        Raises:
            MachineError: The folder cannot be written, building fails, or the engine was put aside.
            DataError: The engine fails its test; it is put aside.
        """
        entry = self.entry(identity)
        try:
            with self._locked(identity.key, say):
                self._refuse_what_was_put_aside(entry)
                engine = self._loaded(entry, identity, build, load, say)
                return self._tested(entry, engine, test)
        except OSError as error:
            raise MachineError(f"{self.folder}: cannot be used: {error}") from error

    def _loaded(
        self,
        entry: Path,
        identity: EngineIdentity,
        build: Callable[[Path], Outcome],
        load: Callable[[bytes], E],
        say: Say,
    ) -> E:
        """From the kept plan, or from a new one when there is none or TensorRT refuses it."""
        plan = self._kept(entry, identity, say)
        if plan is not None:
            try:
                return load(plan)
            except PlanRefusedError as error:
                say(f"TensorRT refuses the kept engine ({error}); building it again")
                shutil.rmtree(entry)
        plan = self._built(entry, identity, build, say)
        try:
            return load(plan)
        except PlanRefusedError as error:
            shutil.rmtree(entry)
            raise MachineError(f"TensorRT refuses the engine it just built: {error}") from error

    def _kept(self, entry: Path, identity: EngineIdentity, say: Say) -> bytes | None:
        """The plan, when all that is written about it is true."""
        if not entry.is_dir():
            return None
        try:
            meta = read_json(entry / META_FILE, SCHEMA, "every engine has one")
            plan = (entry / PLAN_FILE).read_bytes()
            wrong = _mismatch(meta, plan, identity)
        except (DataError, OSError) as error:
            wrong, plan = str(error), b""
        if not wrong:
            return plan
        say(f"the kept engine {entry.name[:12]} is not used: {wrong}; building it again")
        shutil.rmtree(entry, ignore_errors=True)
        return None

    def _built(
        self, entry: Path, identity: EngineIdentity, build: Callable[[Path], Outcome], say: Say
    ) -> bytes:
        with new_folder(entry) as part:
            outcome = build(part / PLAN_FILE)
            plan = (part / PLAN_FILE).read_bytes()
            about = {
                "schema": SCHEMA,
                "identity": asdict(identity),
                "plan_sha256": hashlib.sha256(plan).hexdigest(),
                "built_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "seconds": round(outcome.seconds, 1),
                "peak_mib": round(outcome.peak_mib),
            }
            write_json(part / META_FILE, about)
        size = f"{len(plan) / 1e6:.1f} MB"
        say(f"built in {outcome.seconds:.0f} s with {outcome.peak_mib:.0f} MiB: {size} in {entry}")
        return plan

    def _tested(self, entry: Path, engine: E, test: Callable[[E], None]) -> E:
        try:
            test(engine)
        except DataError as error:
            aside = _aside(entry)
            shutil.rmtree(aside, ignore_errors=True)
            entry.replace(aside)
            write_json(aside / "reason.json", {"schema": SCHEMA, "reason": str(error)})
            raise DataError(f"{error}; it is put aside in {aside}") from error
        return engine

    def _refuse_what_was_put_aside(self, entry: Path) -> None:
        aside = _aside(entry)
        if aside.is_dir():
            try:
                reason = read_json(aside / "reason.json", SCHEMA, "it says why").get("reason")
            except DataError:
                reason = "it failed its test"
            raise MachineError(f"its engine was put aside: {reason}; delete {aside} to try again")

    @contextmanager
    def _locked(self, key: str, say: Say) -> Iterator[None]:
        """Only one process at a time builds or judges an engine."""
        import fcntl  # noqa: PLC0415 -- not on Windows, where nothing here is called

        def taken() -> bool:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.folder / f".{key}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            end = time.monotonic() + LOCK_WAIT_S
            if not taken():
                say("another process is at work on this engine; waiting for it")
                while not taken():
                    if time.monotonic() > end:
                        raise MachineError(f"{self.folder}: .{key}.lock is held by another process")
                    time.sleep(LOOK_EVERY_S)
            yield
        finally:
            os.close(handle)


def default_folder() -> Path:
    """Of this user: XDG_CACHE_HOME/detach/engines."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return user / "detach" / "engines"


def _aside(entry: Path) -> Path:
    return entry.with_name(entry.name + ASIDE)


def _mismatch(meta: Mapping[str, Any], plan: bytes, identity: EngineIdentity) -> str:
    plain = json.loads(json.dumps(asdict(identity)))
    said = meta.get("identity")
    if said != plain:
        found = said if isinstance(said, dict) else {}
        fields = [name for name in plain if found.get(name) != plain[name]]
        return f"it was built for another {', '.join(fields) or 'identity'}"
    if hashlib.sha256(plan).hexdigest() != meta.get("plan_sha256"):
        return f"{PLAN_FILE} is damaged or cut short"
    return ""
