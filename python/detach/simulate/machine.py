"""What the simulator needs of the machine: MuJoCo, and OpenGL without a screen."""

import importlib
import os
import subprocess
import sys
from functools import lru_cache
from typing import Any

from detach.errors import MachineError

BACKENDS = ("egl", "osmesa")
_TRY = "import importlib, sys; c = importlib.import_module('mujoco.' + sys.argv[1]); " + (
    "c = c.GLContext(16, 16); c.make_current(); c.free()"
)


def import_mujoco() -> Any:
    """The mujoco module.

    Raises:
        MachineError: It is not installed.
    """
    # Importing it also imports OpenGL, as MUJOCO_GL says, and fails where that is not there.
    # Physics needs none, and `gl_context` chooses for itself.
    chosen = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        return importlib.import_module("mujoco")
    except ImportError as error:
        raise MachineError(
            f"the simulator needs MuJoCo, which is not here ({error}): pip install mujoco"
        ) from error
    finally:
        del os.environ["MUJOCO_GL"]
        if chosen is not None:
            os.environ["MUJOCO_GL"] = chosen


@lru_cache(maxsize=1)
def find_gl() -> str:
    """The OpenGL backend that draws without a screen: MUJOCO_GL, else EGL, else OSMesa.

    Each is tried in a process of its own, since one that fails cannot be undone.

    Raises:
        MachineError: None works.
    """
    chosen = os.environ.get("MUJOCO_GL", "")
    import_mujoco()
    tried = []
    for backend in (chosen,) if chosen in BACKENDS else BACKENDS:
        problem = _problem_with(backend)
        if problem is None:
            return backend
        tried.append(f"{backend}: {problem}")
    raise MachineError(
        "the simulator cannot draw: no OpenGL without a screen works ("
        + "; ".join(tried)
        + "). On Debian or Ubuntu: apt install libegl1 libgl1-mesa-dri, or libosmesa6 and "
        "MUJOCO_GL=osmesa"
    )


def gl_context(backend: str, width_px: int, height_px: int) -> Any:
    """A current OpenGL context of ``backend``, as found by `find_gl`."""
    os.environ["MUJOCO_GL"] = backend
    context = importlib.import_module(f"mujoco.{backend}").GLContext(width_px, height_px)
    context.make_current()
    return context


def _problem_with(backend: str) -> str | None:
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter, fixed words
            [sys.executable, "-c", _TRY, backend],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
