"""What a table comes to: the method against the best baseline, directions against the authors'."""

import re
from collections.abc import Mapping, Sequence

from detach.reproduce.lines import Line
from detach.reproduce.rows import LEAD, ROWS
from detach.table import Difference

THEIR_DATA: Mapping[str, str] = {"opportunity": "Opportunity++", "hwu": "HWU-USP"}


def verdict(lines: Sequence[Line], data: str) -> str:
    """The method against the best baseline; each ablation's direction against theirs.

    Args:
        lines: Of one table.
        data: Name of the data set. One that is, or is simulated after, a data set of theirs is
            compared with that one; any other with both.
    """
    said = [_best_baseline(lines)]
    lead = next((x for x in lines if x.name == LEAD), None)
    said += [_direction(x, lead, data) for x in lines if x is not lead] if lead else []
    return " ".join(text for text in said if text)


def differs(pair: Difference) -> str:
    """A difference, its interval, and what speaks against it."""
    doubt = f", {pair.doubt}" if pair.doubt else ""
    return f"{pair.value:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}]{doubt}"


def _best_baseline(lines: Sequence[Line]) -> str:
    """The one that the method is least ahead of, at the seeds both have."""
    rivals = [(x.less, x.name) for x in lines if x.less and ROWS[x.name].baseline]
    if not rivals:
        return ""
    less, name = min(rivals, key=lambda pair: pair[0].value)
    titles = ROWS[name].title, ROWS[LEAD].title
    return f"Best baseline: {titles[0]}; {titles[1]} less it: {differs(less)}."


def _direction(line: Line, lead: Line, data: str) -> str:
    """Whether the method gains over a row where theirs does; F1 of arXiv v1."""
    if line.less is None or line.reported is None or lead.reported is None:
        return ""
    gaps = {
        THEIR_DATA[where]: round(
            getattr(lead.reported, where).f1 - getattr(line.reported, where).f1, 2
        )
        for where in _compared(data)
    }
    theirs = ", ".join(f"{gap:+.2f} on {name}" for name, gap in gaps.items())
    said = _ways(line.less, gaps)
    if line.less.doubt == "one seed":
        said += ", by one seed"
    return f"{ROWS[line.name].title}: {said} ({line.less.value:+.3f}; theirs {theirs})."


def _ways(ours: Difference, gaps: Mapping[str, float]) -> str:
    """In words, one for all data sets of theirs where they agree."""
    if not ours.clear:
        return "not told apart"
    ways = {name: _way(ours.value, gap) for name, gap in gaps.items()}
    if len(set(ways.values())) == 1:
        return next(iter(ways.values()))
    return ", ".join(f"{way} on {name}" for name, way in ways.items())


def _way(ours: float, gap: float) -> str:
    if gap == 0:
        return "no direction of theirs"
    return "as theirs" if (gap > 0) == (ours > 0) else "the other way than theirs"


def _compared(data: str) -> tuple[str, ...]:
    """Which of their data sets a name speaks of; both where it speaks of neither."""
    words = re.findall("[a-z]+", data.lower())
    return tuple(where for where in THEIR_DATA if where in words) or tuple(THEIR_DATA)
