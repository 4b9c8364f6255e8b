"""One page over tables and figures, with nothing outside itself."""

import re
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
FIGURES_FOLDER = "figures"


def write(
    out: Path,
    filled: Sequence[Filled],
    data: Sequence[Sequence[str]],
    pictures: Sequence[Picture],
    overviews: Sequence[Picture] = (),
) -> Path:
    """Writes index.html, and every figure as a file of its own beside it.

    Args:
        out: Folder.
        filled: Tables with numbers.
        data: Lines of Table 7, its head first; none leaves it out.
        pictures: Figures, and why some are not there.
        overviews: What stands above the tables, one a data set.
    """
    text = resources.files("detach.report").joinpath("reproduction.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(number=number, spread=spread, signed=signed)
    context: dict[str, Any] = {
        "style": Markup(f"<style>{_style()}</style>"),  # noqa: S704  our own
        "version": __version__,
        "tables": filled,
        "rows": ROWS,
        "lead": ROWS[LEAD].title,
        "theirs": theirs,
        "how": THEIRS.replace("*", ""),
        "data": data,
        "several": len({*(t.data for t in filled), *(p.data for p in pictures if p.data)}) > 1,
        "overviews": [(p, Markup(p.svg)) for p in overviews],  # noqa: S704  our own
        "pictures": [(p, Markup(p.svg)) for p in pictures],  # noqa: S704  our own
        "script": Markup(hover.script()) if any(p.points for p in pictures) else "",  # noqa: S704
    }
    _save(out / FIGURES_FOLDER, [*overviews, *pictures])
    path = out / PAGE_FILE
    write_whole(path, environment.from_string(text).render(**context).encode())
    return path


def _save(folder: Path, pictures: Sequence[Picture]) -> None:
    """NUMBER-DATA.svg of each figure, rows-DATA.svg above the tables; on white everywhere."""
    look = _light()
    for picture in pictures:
        tag, found, rest = picture.svg.partition(">")
        if found and tag.startswith("<svg"):
            folder.mkdir(exist_ok=True)
            name = f"{picture.number or 'rows'}-{picture.data.replace(' ', '-')}.svg"
            white = f'<rect width="100%" height="100%" fill="{look["card"]}"/>'
            text = re.sub(r"var\(--(\w+)\)", lambda m: look.get(m[1], m[0]), f"{tag}>{white}{rest}")
            lines = (line.rstrip() for line in text.splitlines())  # matplotlib leaves spaces there
            write_whole(folder / name, ("\n".join(lines) + "\n").encode())


def _light() -> dict[str, str]:
    """What the page's variables are by day, as it may stand in an attribute."""
    root = _style().partition("}")[0]
    return {name: value.replace('"', "'") for name, value in re.findall(r"--(\w+): (.*?);", root)}


def _style() -> str:
    """That of a run's page."""
    page = resources.files("detach.report").joinpath("page.html.j2").read_text("utf-8")
    return page.partition("<style>")[2].partition("</style>")[0]
