"""All rows of all tables at a glance: how far the method is ahead of each."""

from collections.abc import Sequence

from detach.report.our_figures import Gap, gaps
from detach.reproduce.figures import Picture
from detach.reproduce.lines import Line
from detach.reproduce.paper import Reported
from detach.reproduce.rows import LEAD, ROWS
from detach.reproduce.tables import Filled

FEWEST = 2
"""Rows that are worth a picture."""
CAPTION = (
    "Weighted F1 with 95 % intervals of the difference, at the seeds both have. Hollow: one seed, "
    "so that the interval lacks the spread over training runs. Diamonds: what the authors report "
    "for such a row (arXiv v1), on Opportunity++ and HWU-USP."
)


def overviews(filled: Sequence[Filled]) -> list[Picture]:
    """A picture for every data set with rows to compare, of each row once."""
    pictures = []
    for data in dict.fromkeys(table.data for table in filled):
        rows = gaps_of([table for table in filled if table.data == data])
        if len(rows) >= FEWEST:
            title = f"{ROWS[LEAD].title} less every row"
            pictures.append(Picture(0, data, title, CAPTION, gaps(rows)))
    return pictures


def gaps_of(tables: Sequence[Filled]) -> list[Gap]:
    """Each row of ``tables`` once, the one that is furthest behind the method first."""
    found: dict[str, Gap] = {}
    for table in tables:
        lead = next((x.reported for x in table.lines if x.name == LEAD), None)
        for line in table.lines:
            gap = _gap(line, lead)
            if gap is not None and not (line.name in found and found[line.name].theirs):
                found[line.name] = gap
    return sorted(found.values(), key=lambda gap: -gap.value)


def _gap(line: Line, lead: Reported | None) -> Gap | None:
    if line.less is None:
        return None
    theirs: tuple[float, ...] = ()
    if lead is not None and line.reported is not None:
        theirs = (
            lead.opportunity.f1 - line.reported.opportunity.f1,
            lead.hwu.f1 - line.reported.hwu.f1,
        )
    less = line.less
    return Gap(ROWS[line.name].title, less.value, less.low, less.high, theirs, less.seeds == 1)
