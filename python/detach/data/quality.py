"""Are these recordings good enough to learn from? Numbers, faults, and what to do about them.

No labels are needed; where a track says when somebody is in view, or there is a video, they tell
which sensors fire where nobody is seen. The figures and the page: `detach.report.inspection`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from detach.data.quality_faults import Finding as Finding  # offered here too
from detach.data.quality_faults import find_faults
from detach.data.quality_numbers import Numbers, Say, measure
from detach.data.recording import Recording


@dataclass(frozen=True, kw_only=True)
class Quality:
    """All that the page and the table show."""

    numbers: Numbers
    findings: tuple[Finding, ...]
    """Sure ones first."""

    def as_text(self) -> str:
        """A table for the terminal, then what was found and what to do."""
        found = self.numbers
        size = f"{len(found.recordings)} recordings, {found.hours:.2f} h"
        lines = [
            f"{size}, {len(found.sensors)} sensors; film {found.film:.0%}, "
            f"somebody in view {percent(found.in_view)} of the time",
            "",
            f"{'sensor':<32} {'kind':<12} {'changes':>8} {'per hour':>9} {'on':>6} {'missing':>8} "
            f"{'unseen':>7}",
        ]
        lines += [
            f"{s.name[:32]:<32} {s.kind:<12} {s.changes:>8} {s.per_hour:>9.1f} "
            f"{percent(s.duty):>6} {percent(s.missing):>8} {percent(s.unseen):>7}"
            for s in found.sensors
        ]
        for track, classes in found.labels.items():
            counted = ", ".join(f"{name} {n} ({s:.0f} s)" for name, (n, s) in classes.items())
            lines += ["", f"labels of {track}: {counted or 'none'}"]
        lines.append("")
        for finding in self.findings:
            mark = "!" if finding.sure else "?"
            lines += [f"{mark} {finding.about}: {finding.evidence}", f"    {finding.to_do}"]
        return "\n".join(lines if self.findings else [*lines, "Nothing to complain about."])


def inspect_recordings(
    recordings: Sequence[Recording], *, film: bool = True, say: Say | None = None
) -> Quality:
    """Measures recordings of one home and finds faults; arguments and errors as `measure`."""
    numbers = measure(recordings, film=film, say=say)
    findings = sorted(find_faults(numbers), key=lambda finding: not finding.sure)
    return Quality(numbers=numbers, findings=tuple(findings))


def percent(share: float) -> str:
    """12 %, or a dash where nothing is known."""
    return "-" if math.isnan(share) else f"{share:.0%}"
