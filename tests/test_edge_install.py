"""What a machine without torch installs: requirements/edge.txt and all that follows from it."""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
MOST_MB = 400
NOT_THERE = {"torch", "scikit-learn", "scipy", "matplotlib", "onnx", "mujoco"}


def asked_for() -> list[Requirement]:
    lines = (ROOT / "requirements" / "edge.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def closure(requirements: list[Requirement]) -> Iterator[metadata.Distribution]:
    """The distributions that satisfy them here, and what those need."""
    seen: set[str] = set()
    while requirements:
        one = requirements.pop()
        if one.name.lower() in seen or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        seen.add(one.name.lower())
        found = metadata.distribution(one.name)
        yield found
        requirements += map(Requirement, found.requires or ())


@pytest.fixture(scope="module")
def installed() -> dict[str, int]:
    """Bytes on disk by name."""
    return {
        one.metadata["Name"]: sum(
            path.stat().st_size
            for f in one.files or ()
            if (path := Path(str(f.locate()))).is_file()
        )
        for one in closure(asked_for())
    }


def test_it_is_small(installed: dict[str, int]) -> None:
    own = sum(p.stat().st_size for p in (ROOT / "python" / "detach").rglob("*") if p.is_file())
    assert {"numpy", "onnxruntime"} <= set(installed)
    assert min(installed.values()) > 0
    assert (sum(installed.values()) + own) / 1e6 <= MOST_MB


def test_nothing_heavy_comes_along(installed: dict[str, int]) -> None:
    assert not NOT_THERE & {name.lower() for name in installed}
