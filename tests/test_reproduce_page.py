"""How pages look: what stands on one axis, what fits, what says whose it is."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.report import report
from detach.report.strips import NAME_PX, NAMES, WIDTH_PX
from detach.reproduce import few_labels, figures, page, paper
from detach.reproduce.figures import Picture
from detach.reproduce.lines import Line
from detach.reproduce.pairs import Pairs
from detach.reproduce.rows import LEAD
from detach.reproduce.tables import Filled
from detach.table import Cell, Difference, Row

from .chromium import chromium, program  # type: ignore[import-not-found]

SIZES = (1280, 390)
FILMS = (
    "[...document.querySelectorAll('.film')].map((f) => {"
    "const i = f.querySelector('img').getBoundingClientRect();"
    "const s = f.querySelector('svg').getBoundingClientRect();"
    f"return [i.left - s.left - s.width * {NAME_PX / WIDTH_PX}, i.right - s.right]; }})"
)
WIDE = (
    "[...document.querySelectorAll('nav, .scroll:has(table)')]"
    ".map((s) => s.scrollWidth - s.clientWidth)"
)


@pytest.fixture(scope="module")
def taken(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the method as if its stage 1 were another run's."""
    out = tmp_path_factory.mktemp("taken")
    shutil.copytree(finished / "runs/tiny/detach", out / "runs/tiny/detach")
    run = out / "runs/tiny/detach/seed0"
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("about:\n", "about:\n  stage1_from: first\n"))
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["stage"] != "stage1"]
    (run / "metrics.jsonl").write_text("".join(kept))
    report([run])
    return out


def test_places_are_shown_where_stage_1_is_another_runs(taken: Path) -> None:
    html = (taken / "runs/tiny/detach/seed0/report.html").read_text()
    assert '<a href="#places">' in html
    section = html.partition('<section id="places">')[2].partition("</section>")[0]
    assert "detach took its stage 1 from first (--stage1-from)" in section
    assert "Share of places in each cluster" in section
    assert "normalised mutual information with place" in section
    assert "Share of pseudo-labels" not in section
    told = figures.draw(10, taken, "tiny", lambda _: None)
    assert told.problem.startswith("detach took its stage 1 from first (--stage1-from)")


def test_films_stand_on_the_axis_of_their_traces(taken: Path) -> None:
    program()
    html = taken / "runs/tiny/detach/seed0/report.html"
    assert html.read_text().count(f"--names:{NAMES}") == html.read_text().count('class="film"')

    async def look() -> None:
        async with chromium() as tab:
            for width in SIZES:
                await tab.size(width, 900)
                await tab.open(html.as_uri())
                found = await tab.ask(FILMS)
                assert found
                assert np.abs(found).max() < 1
            style = "getComputedStyle(document.querySelector('#maps svg')).touchAction"
            assert await tab.ask(style) == "pan-x pan-y"

    asyncio.run(look())


def tables(name: str, title: str) -> Filled:
    cell = Cell(0.912, 0.012, 0.89, 0.93)
    ours = Row(title, "method", 5, {"f1": cell, "map": cell})
    less = Difference(LEAD, "primus", 0.013, -0.013, 0.041, 3)
    lines = (
        Line(LEAD, ours, None, paper.FULL, None),
        Line("primus", ours, less, paper.FULL, None),
        Line("global", ours, less, None, None),
    )
    return Filled(1, name, lines, None, "")


def test_tables_and_links_fit_a_screen_and_say_whose_they_are(tmp_path: Path) -> None:
    pictures = [Picture(n, d, "", "", "<svg></svg>") for d in ("a", "b") for n in range(4, 18)]
    path = page.write(tmp_path, [tables("a", "x"), tables("b", "x")], [], pictures)
    html = path.read_text()
    assert '<a href="#t1-a">Table 1, a</a><a href="#t1-b">Table 1, b</a>' in html
    (tmp_path / "one").mkdir()
    one = page.write(tmp_path / "one", [tables("a", "x")], [], pictures[:2]).read_text()
    assert '<a href="#t1-a">Table 1</a><a href="#f4-a">Figure 4</a>' in one
    program()

    async def look() -> None:
        async with chromium() as tab:
            await tab.size(1280, 900)
            await tab.open(path.as_uri())
            assert await tab.ask(WIDE) == [0, 0, 0]
            await tab.size(390, 900)
            await tab.open(path.as_uri())
            assert min(await tab.ask(WIDE)) > 0
            scroll = (
                "(() => { const s = document.querySelector('.scroll:has(table)');"
                "s.scrollLeft = 200; const t = s.querySelector('tbody td');"
                "return t.getBoundingClientRect().left - s.getBoundingClientRect().left; })()"
            )
            assert 0 <= await tab.ask(scroll) < 20  # names of rows stay in sight

    asyncio.run(look())


def pairs(weight: Any, place: Any, action: Any) -> Pairs:
    every = np.asarray(weight, dtype=np.float64)
    return Pairs(0, every, every, every, np.array(place), np.array(action), ("open", "shut"))


def test_pairs_that_no_group_holds_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    some = pairs(rng.random((5, 5)), [0, 0, 0, 0, 1], [0, 0, 1, 1, 0])
    assert int(some.left_out().sum()) == 4
    assert not any((some.left_out() & mask).any() for mask in some.kinds().values())
    monkeypatch.setattr(figures, "pairs_of", lambda _: [some])
    monkeypatch.setattr(figures, "_lead", lambda *_: None)
    said = "of the same action at another place and not drawn."
    _, caption = figures._weights(Path(), "home")
    assert f" 4 pairs are {said}" in caption
    _, caption = figures._query(Path(), "home")
    assert "3 negatives of one window. 1 pair is " + said in caption


def test_lines_that_coincide_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    place, action = [0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 3]
    same = pairs(np.ones((6, 6)), place, action)
    mixed = pairs(np.where(same.kinds()["false"], 2.0, np.arange(36).reshape(6, 6)), place, action)
    monkeypatch.setattr(figures, "pairs_of", lambda _: [same, mixed])
    monkeypatch.setattr(figures, "_lead", lambda *_: None)
    monkeypatch.setattr(figures, "_epoch", lambda p, _: "before" if p is same else "end")
    _, caption = figures._weights(Path(), "home")
    assert "Before: false lies on hard." in caption
    assert "End: " not in caption
    assert "not drawn" not in caption


def test_captions_say_how_they_were_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    value = np.array([0.1, 0.2, 0.3, 0.4])
    curve = few_labels.Curve("detach", value, value, value)
    monkeypatch.setattr(few_labels, "curves", lambda *_: [curve])
    _, caption = figures._labels(tmp_path, "home")
    assert "fixed penalty, C = 1," in caption
    assert "tables choose C on the validation part" in caption
