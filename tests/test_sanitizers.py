"""The core without Python under sanitizers, eight callers at once. It compiles for minutes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("core") / "run.sh"


@pytest.mark.skipif("DETACH_LONG" not in os.environ, reason="DETACH_LONG asks for it")
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["thread", "address,undefined"])
def test_the_core_is_clean(kind: str) -> None:
    done = subprocess.run([RUN, kind], capture_output=True, text=True, check=False)  # noqa: S603
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert "8 callers, 20 rounds each: 0 differ" in done.stdout
    assert "Sanitizer" not in said
    assert "runtime error" not in said
