"""How fast a run goes, how long it will take, and when to say so. Standard library only."""

import math
import sys
import time
from collections import deque
from collections.abc import Callable

SAY_EVERY_S = 10.0
RECENT_S = 30.0
"""What is said of speed and time left is of this long: epochs of one stage may differ tenfold."""
MARK_EVERY_S = 1.0


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
        self.began = time.perf_counter()
        self._marks: deque[tuple[float, int, float]] = deque()  # time, windows, epochs

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins."""
        if not self._marks:
            self.began = time.perf_counter()
            self._marks.append((self.began, 0, epoch))

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

    def recent(self, epochs: float) -> tuple[float, float]:
        """Windows/s of late, and the seconds that the stage still takes at that pace.

        Args:
            epochs: Of the stage that are done, a fraction of the present one included.

        Returns:
            Both NaN where nothing is done yet.
        """
        now, marks = time.perf_counter(), self._marks
        if now - marks[-1][0] > MARK_EVERY_S:
            marks.append((now, self.windows, epochs))
        while len(marks) > 2 and now - marks[1][0] >= RECENT_S:
            marks.popleft()
        then, windows, before = marks[0]
        if epochs <= before or now <= then:
            return math.nan, math.nan
        rate = (epochs - before) / (now - then)
        return (self.windows - windows) / (now - then), (self.total - epochs) / rate

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
