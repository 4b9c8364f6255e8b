"""A machine with an NVIDIA GPU for tests: a driver and a TensorRT that compute on the CPU."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.edge.bundle import Bundle
from detach.edge.engine import Engine, open_engines

GRAPH = "video_temporal"
FAKES = Path(__file__).parent / "fake_nvidia"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compile_driver(folder: Path) -> Path:
    """The driver library, from fake_nvidia/cuda.c."""
    if COMPILER is None:
        pytest.skip("no C compiler to make the driver library of the tests with")
    library = folder / "libfakecuda.so"
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*command, str(FAKES / "cuda.c")], check=True)  # noqa: S603 -- our own source
    return library


class FakeGpu:
    """Puts the fakes in the place of the real ones until the test ends."""

    def __init__(self, library: Path, patch: pytest.MonkeyPatch) -> None:
        self._patch, self._library = patch, ctypes.CDLL(str(library))
        self._library.fake_bytes.restype = ctypes.c_size_t
        patch.setattr("detach.edge.cuda_memory.LIBRARY", str(library))
        patch.syspath_prepend(str(FAKES))
        paths = [str(FAKES), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        self.set()

    def set(self, **facts: str) -> None:
        """Sets the variables that the fakes read; the version of TensorRT takes effect too."""
        for name, value in facts.items():
            self._patch.setenv(name, value)
        self._patch.delitem(sys.modules, "tensorrt", raising=False)

    def held(self) -> tuple[int, int]:
        """Bytes on the device, contexts and streams that were not given back."""
        return self._library.fake_bytes(), self._library.fake_handles()


class Machine:
    """Opens the temporal graph again and again, with one cache."""

    def __init__(self, bundle: Bundle, cache: Path) -> None:
        self.bundle, self.cache, self.said = bundle, cache, list[str]()

    def open(self, **options: Any) -> tuple[Engine, str]:
        """The engine and all that was said."""
        self.said.clear()
        engines = open_engines(
            self.bundle, graphs=(GRAPH,), cache=self.cache, say=self.said.append, **options
        )
        return engines[GRAPH], "\n".join(self.said)

    def opened(self, **options: Any) -> str:
        """What was said; the engine is right, and closed again."""
        engine, said = self.open(**options)
        golden = self.bundle.golden()
        found = engine.run({"frames": golden["frames"]})["temporal"]
        np.testing.assert_allclose(found, golden["temporal"], atol=1e-6)
        engine.close()
        return said

    def entries(self) -> list[Path]:
        """Folders of engines."""
        return sorted(p for p in self.cache.iterdir() if p.is_dir() and p.name != "timing")


def plan_facts(plan: Path) -> dict[str, Any]:
    raw = plan.read_bytes()[40:]
    facts: dict[str, Any] = json.loads(raw[4 : 4 + int.from_bytes(raw[:4], "little")])
    return facts
