"""How much memory there is, as the kernel tells it. Standard library only."""

import re
from pathlib import Path

MEMORY = Path("/proc/meminfo")


def available_mib() -> float | None:
    """What can be had without swapping; None where the system does not say."""
    return mib_in(MEMORY, "MemAvailable")


def mib_in(path: Path, entry: str) -> float | None:
    """A line such as ``MemAvailable: 1024 kB``; None where the system has no such file."""
    try:
        found = re.search(rf"^{entry}:\s+(\d+) kB", path.read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
    return int(found[1]) / 1024 if found else None
