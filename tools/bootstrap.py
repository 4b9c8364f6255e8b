#!/usr/bin/env python3
"""From a fresh clone to a running job: `bootstrap.py demo` or `bootstrap.py test`.

Makes .venv, chooses the torch build for this machine, builds and installs detach (only when what it
is built from has changed), then starts the job and returns its exit code. Standard library only; it
never calls the system's package manager. Variables it obeys:

  TORCH                a pip requirement, wheel or path: installed as the torch
  DETACH_TORCH_INDEX   package index to take torch from (PyTorch has one for CPUs and one for each
                       CUDA; NVIDIA has one for each JetPack)
  DETACH_CUDA          ON, OFF or AUTO: whether the CUDA kernels are compiled
"""

from __future__ import annotations  # an older Python must get as far as the message

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "detach-stamp.json"
BUILT_FROM = ("pyproject.toml", "CMakeLists.txt", "cmake", "csrc", "models", "tools/bootstrap.py")
NEWEST_TORCH = "torch==2.13.0"
OLDEST_TORCH = (2, 6)
CUDA12_TORCH = "torch>=2.6,<2.11"  # the last whose default build is for CUDA 12
INDEX_ANSWERS_IN_S = 5
EXIT_MACHINE = 4


class MachineError(Exception):
    """Something this machine lacks, in one line with the remedy."""


@dataclass(frozen=True)
class Machine:
    """What decides which torch is right."""

    jetson: bool
    driver: int | None
    """Major number of the NVIDIA driver; None without one."""


@dataclass(frozen=True)
class Torch:
    """What pip is asked for, and why; no requirement keeps what is there."""

    requirement: tuple[str, ...]
    why: str


def main(arguments: Sequence[str]) -> int:
    """Sets up what is missing and runs the job; its exit code."""
    options, rest = _parser().parse_known_args(arguments)
    pip_options = [f"--find-links={Path(d).resolve()}" for d in options.find_links]
    pip_options += ["--no-index"] if options.no_index else []
    try:
        set_up("dev" if options.job == "test" else "", pip_options)
    except MachineError as error:
        print(f"detach: {error}", file=sys.stderr)
        return EXIT_MACHINE
    except subprocess.CalledProcessError as error:
        print(f"detach: this step failed, see above: {_shown(error.cmd)}", file=sys.stderr)
        return EXIT_MACHINE
    if options.job == "setup":
        return 0
    return run_job(options.job, rest)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("job", choices=("demo", "test", "setup"), help="what to run afterwards")
    parser.add_argument(
        "--find-links", action="append", default=[], metavar="DIR", help="take wheels from DIR too"
    )
    parser.add_argument("--no-index", action="store_true", help="ask no package index")
    return parser


def set_up(extra: str, pip_options: Sequence[str]) -> None:
    """Brings .venv up to date with the tree.

    Raises:
        MachineError: A compiler, a header, a module or a torch for this machine is missing.
    """
    stamp = {"built_from": digest(ROOT, os.environ), "python": _python_version()}
    if is_current(stamp, extra):
        say("set-up is up to date")
        return
    check_machine()
    machine = look()
    make_venv(jetson=machine.jetson)
    torch = choose_torch(os.environ, machine, installed_version("torch"), answers)
    say(f"torch: {' '.join(torch.requirement) or 'kept'} ({torch.why})")
    pip = [str(python_in(VENV)), "-m", "pip", "install", "--quiet", *pip_options]
    pip += ["--disable-pip-version-check", "--no-compile"]  # compiled when first imported
    if torch.requirement:
        step("install torch", [*pip, *torch.requirement])
    name = f".[{extra}]" if extra else "."
    step("build and install detach", [*pip, *keep_torch(), "--editable", name])
    STAMP.write_text(json.dumps({**stamp, "extra": extra}))


def run_job(job: str, rest: Sequence[str]) -> int:
    """Runs `detach demo` or the tests; the exit code."""
    environment = dict(os.environ)
    if job == "test":
        environment["OMP_NUM_THREADS"] = "1"
        # A file stays on one core, for its fixtures' sake; each process holds a torch in memory.
        spread = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]
        command = [str(python_in(VENV)), "-m", "pytest", *spread, *rest]
    else:
        command = [str(python_in(VENV)), "-m", "detach", "demo", *rest]
    try:
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode  # noqa: S603
    except KeyboardInterrupt:
        return 130


def digest(root: Path, environment: Mapping[str, str]) -> str:
    """Hash of all that an installation is made from, the choices in the environment included."""
    state = hashlib.sha256()
    for name in ("TORCH", "DETACH_TORCH_INDEX", "DETACH_CUDA"):
        state.update(f"{name}={environment.get(name, '')}\n".encode())
    for path in _files(root):
        state.update(f"{path.relative_to(root).as_posix()}\n".encode())
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for name in BUILT_FROM:
        start = root / name
        below = sorted(p for p in start.rglob("*") if p.is_file()) if start.is_dir() else [start]
        # Hidden folders are caches: the demo puts its pictures beside the sample.
        yield from (
            p for p in below if not any(x.startswith(".") for x in p.relative_to(root).parts)
        )


def is_current(stamp: Mapping[str, str], extra: str) -> bool:
    """Whether the last set-up was of this tree and had at least this extra."""
    try:
        last = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    same = all(last.get(key) == value for key, value in stamp.items())
    return same and last.get("extra") in (extra, "dev") and python_in(VENV).exists()


def check_machine() -> None:
    """Everything the build needs, before anything is made.

    Raises:
        MachineError: Something is missing. The message names the package.
    """
    if sys.version_info < (3, 10):  # noqa: UP036 -- the one file that an older Python may read
        raise MachineError(f"Python 3.10 or newer is needed, this is {_python_version()}")
    compiler = os.environ.get("CXX", "")
    if not any(shutil.which(name) for name in (compiler, "c++", "g++", "clang++") if name):
        raise MachineError("no C++ compiler: install g++ (Debian, Ubuntu) or gcc-c++ (Fedora)")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise MachineError("no Python.h: install python3-dev (Debian, Ubuntu) or python3-devel")
    try:
        import ensurepip  # noqa: F401, PLC0415 -- only whether it is there
    except ImportError as error:
        raise MachineError("this Python cannot make a venv: install python3-venv") from error


def look() -> Machine:
    """What this machine has."""
    return Machine(jetson=Path("/etc/nv_tegra_release").exists(), driver=_driver())


def _driver() -> int | None:
    version = Path("/proc/driver/nvidia/version")
    if version.exists():
        return driver_number(version.read_text())
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if not shutil.which(query[0]):
        return None
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return driver_number(done.stdout) if done.returncode == 0 else None


def driver_number(text: str) -> int | None:
    """Major number in what the driver says of itself, like 580.65.06."""
    found = re.search(r"\b(\d{3,4})\.\d+(?:\.\d+)?\b", text)
    return int(found[1]) if found else None


def choose_torch(
    environment: Mapping[str, str],
    machine: Machine,
    installed: str,
    answers: Callable[[str], bool],
) -> Torch:
    """The torch for this machine; the first rule that applies.

    Raises:
        MachineError: A Jetson without a torch, and no index named to take it from.
    """
    asked = environment.get("TORCH", "")
    if asked:
        return Torch((asked,), "TORCH says so")
    if new_enough(installed):
        return Torch((), f"{installed} is installed")
    index = environment.get("DETACH_TORCH_INDEX", "")
    if index and answers(index):
        return Torch(("torch", f"--index-url={index}"), "DETACH_TORCH_INDEX says so")
    if machine.jetson:
        raise MachineError(
            "this is a Jetson without torch: set DETACH_TORCH_INDEX to the index for its JetPack"
        )
    note = f"; {index} did not answer in {INDEX_ANSWERS_IN_S} s" if index else ""
    requirement, why = _torch_for_driver(machine.driver)
    return Torch((requirement,), why + note)


def _torch_for_driver(driver: int | None) -> tuple[str, str]:
    if driver is None:
        return NEWEST_TORCH, "no NVIDIA driver, runs on the CPU"
    if driver >= 580:
        return NEWEST_TORCH, f"driver {driver} takes CUDA 13"
    if driver >= 525:
        return CUDA12_TORCH, f"driver {driver} takes CUDA 12"
    return NEWEST_TORCH, f"driver {driver} is too old, runs on the CPU"


def new_enough(version: str) -> bool:
    """Whether a version like 2.13.0+cpu is one we run with."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST_TORCH


def answers(index: str) -> bool:
    """Whether an index answers at once; a folder or file:// always does."""
    if not index.startswith(("http://", "https://")):
        return True
    try:
        with urllib.request.urlopen(index, timeout=INDEX_ANSWERS_IN_S):  # noqa: S310 -- http only
            return True
    except urllib.error.HTTPError:
        return True  # it is there; pip knows which page to ask for
    except OSError:
        return False


def make_venv(*, jetson: bool) -> None:
    """.venv, made anew when it is broken or of another Python."""
    if installed_version("pip"):
        return
    # A Jetson's torch, TensorRT and cv2 belong to the system.
    options = ["--system-site-packages"] if jetson else []
    step("make .venv", [sys.executable, "-m", "venv", "--clear", *options, str(VENV)])


def installed_version(package: str) -> str:
    """Version of a package in .venv, empty without one or without a working .venv."""
    python = python_in(VENV)
    program = (
        "import sys, importlib.metadata as m\n"
        f"assert sys.version_info[:2] == {tuple(sys.version_info[:2])}\n"
        f"print(m.version({package!r}))"
    )
    try:
        done = subprocess.run(  # noqa: S603 -- our own program
            [python, "-c", program], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def keep_torch() -> list[str]:
    """Pins the torch that was chosen, so that no dependency replaces it."""
    version = installed_version("torch")
    if not version:
        return []
    pin = VENV / "torch-pin.txt"
    pin.write_text(f"torch=={version}\n")
    return ["--constraint", str(pin)]


def python_in(venv: Path) -> Path:
    """The interpreter of a venv."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def step(name: str, command: Sequence[str]) -> None:
    """Runs one command, saying what it is and how long it took."""
    say(f"{name} ...")
    start = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 -- composed above
    say(f"{name}: {time.monotonic() - start:.0f} s")


def say(line: str) -> None:
    """One line of progress."""
    print(f"[set-up] {line}", flush=True)


def _python_version() -> str:
    return "{}.{}.{}".format(*sys.version_info[:3])


def _shown(command: object) -> str:
    return " ".join(map(str, command)) if isinstance(command, (list, tuple)) else str(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
