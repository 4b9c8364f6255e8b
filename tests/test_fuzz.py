"""What a fuzzer makes up, and all it ever found, is answered or refused in words."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .fuzz_targets import TARGETS, seeds  # type: ignore[import-not-found]

HERE = Path(__file__).parent
FOUND = sorted(p for name in TARGETS for p in (HERE / "found" / name).glob("*"))


@pytest.mark.parametrize("path", FOUND, ids=lambda p: f"{p.parent.name}/{p.name[:16]}")
def test_what_was_found_is_answered(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_cut_or_changed_is_answered(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name](seed)
        for at in range(0, len(seed), max(1, len(seed) // 25)):
            TARGETS[name](seed[:at])
            TARGETS[name](seed[:at] + bytes([seed[at] ^ 0x15]) + seed[at + 1 :])


@pytest.mark.timeout(120)
def test_a_few_seconds_of_a_fuzzer() -> None:
    if importlib.util.find_spec("atheris") is None:
        if os.environ.get("DETACH_CI") == "1" and platform.machine() == "x86_64":
            pytest.fail("atheris is not installed; pip install 'detach[fuzz]'")
        pytest.skip("atheris is not installed")
    command = [sys.executable, str(HERE / "fuzz.py"), "together", "--seconds", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif("DETACH_LONG" not in os.environ, reason="DETACH_LONG asks for it")
@pytest.mark.skipif(shutil.which("clang++") is None, reason="there is no clang++")
@pytest.mark.timeout(900)
def test_a_minute_of_a_fuzzer_on_the_core() -> None:
    command = [str(HERE / "core/run.sh"), "fuzz", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
