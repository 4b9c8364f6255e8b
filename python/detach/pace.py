"""How fast a run goes, how long it will take, and when to say so. Standard library only."""

import math
import sys
import time
from collections.abc import Callable

SAY_EVERY_S = 10.0


class Pace:
    """Rates, time left, and when to speak: in place on a terminal, every 10 s otherwise."""

    def __init__(self) -> None:
        self.before_s = 0.0
        self.born = self.saved = self.spoke = time.perf_counter()
        self.live = sys.stdout.isatty()
        self.start_stage(1)

    def start_stage(self, total: int) -> None:
        """A stage of ``total`` epochs begins."""
        self.total, self.windows, self.data_s = total, 0, 0.0
        self.first: int | None = None
        self.began = time.perf_counter()

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins."""
        if self.first is None:
            self.first = epoch
            self.began = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        """Since the run began, what was before it was resumed included."""
        return self.before_s + time.perf_counter() - self.born

    def rates(self) -> dict[str, float]:
        """What metrics.jsonl says about speed."""
        spent = max(time.perf_counter() - self.began, 1e-9)
        return {
            "windows_per_s": round(self.windows / spent, 1),
            "data_share": round(self.data_s / spent, 4),
            "elapsed_s": round(self.elapsed_s, 2),
        }

    def left_s(self, epochs: float) -> float:
        """What the stage will still take, when ``epochs`` of it are done; NaN where none is."""
        done = epochs - (self.first or 0)
        spent = time.perf_counter() - self.began
        return spent / done * (self.total - epochs) if done > 0 else math.nan

    def say(self, line: str, say: Callable[[str], None], *, force: bool) -> None:
        """Shows a line where it is time to, or where a terminal asks for it by ``force``."""
        now = time.perf_counter()
        if self.live:
            if force or now - self.spoke > 0.2:
                end = "\n" if force and line.startswith("warning") else ""
                sys.stdout.write(f"\r\x1b[2K{line}{end}")
                sys.stdout.flush()
                self.spoke = now
        elif now - self.spoke > SAY_EVERY_S or line.startswith("warning"):
            say(line)
            self.spoke = now


def minutes(seconds: float) -> str:
    """Seconds below a minute and a half, then minutes."""
    if math.isnan(seconds):
        return "?"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
