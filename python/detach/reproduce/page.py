"""One page over tables and figures, with nothing outside itself."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from detach import __version__
from detach.data.store import write_whole
from detach.report import hover
from detach.report.page import number, signed, spread
from detach.reproduce.figures import Picture
from detach.reproduce.rows import LEAD, ROWS
from detach.reproduce.tables import THEIRS, Filled, theirs

PAGE_FILE = "index.html"


def write(
    out: Path,
    filled: Sequence[Filled],
    data: Sequence[Sequence[str]],
    pictures: Sequence[Picture],
) -> Path:
    """Writes index.html.

    Args:
        out: Folder.
        filled: Tables with numbers.
        data: Lines of Table 7, its head first; none leaves it out.
        pictures: Figures, and why some are not there.
    """
    folder = resources.files("detach.report")
    page = folder.joinpath("page.html.j2").read_text(encoding="utf-8")
    style = page[page.index("<style>") : page.index("</style>") + len("</style>")]
    text = folder.joinpath("reproduction.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(number=number, spread=spread, signed=signed)
    context: dict[str, Any] = {
        "style": Markup(style),  # noqa: S704  our own
        "version": __version__,
        "tables": filled,
        "rows": ROWS,
        "lead": ROWS[LEAD].title,
        "theirs": theirs,
        "how": THEIRS.replace("*", ""),
        "data": data,
        "pictures": [(p, Markup(p.svg)) for p in pictures],  # noqa: S704  our own
        "script": Markup(hover.script()) if any(p.points for p in pictures) else "",  # noqa: S704
    }
    path = out / PAGE_FILE
    write_whole(path, environment.from_string(text).render(**context).encode())
    return path
