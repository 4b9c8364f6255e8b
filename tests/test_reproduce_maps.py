"""Maps on the page of `detach reproduce`: Fig. 7 and 9, and what is shown of their points."""

import asyncio
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from detach.errors import UsageError
from detach.reproduce import figures, reproduce
from detach.reproduce.figures import Picture

from .chromium import chromium, program  # type: ignore[import-not-found]
from .reproduced import options, quiet, say_made_of  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def page(
    finished: Path, homely: Path, recipe: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Figures 7 and 9, and 10 which has no points, of two data sets; runs are the same."""
    out, other = tmp_path_factory.mktemp("maps") / "out", tmp_path_factory.mktemp("other") / "data"
    shutil.copytree(finished, out)
    shutil.copytree(homely, other)
    text = (other / "dataset.json").read_text()
    (other / "dataset.json").write_text(text.replace('"tiny"', '"other"'))
    shutil.copytree(out / "runs/tiny/detach", out / "runs/other/detach")
    say_made_of(out / "runs/other", homely, other)
    asked = options(out, homely, recipe, figures=(7, 9, 10), write_only=True)
    reproduce(replace(asked, data=(homely, other)), quiet)
    return out / "index.html"


def test_maps_of_both_data_sets_hold_their_strips(page: Path) -> None:
    html = page.read_text()
    titles = re.findall(r"<h2>(Figure \d+)\..*?</h2>\s*<p class=\"muted\">(.*?)</p>", html)
    assert titles == [
        ("Figure 7", "tiny"), ("Figure 9", "other"), ("Figure 10", "tiny"), ("Figure 10", "other"),
    ]  # fmt: skip
    held = dict(re.findall(r'data-figure="(.*?)">(.*?)</script>', html))
    assert list(held) == ["p7-tiny", "p9-other"]
    for name, text in held.items():
        assert f'<figure id="{name}" class="maps">' in html
        points = json.loads(text)
        assert len(points["words"]) == len(points["panels"][0]) == 39
        assert points["sheet"].startswith("data:image/jpeg;base64,")
    assert html.count("querySelectorAll") == 1
    assert not re.findall(r"<script[^>]*src|<link|@import", html)


def test_a_page_without_maps_has_no_script(finished: Path) -> None:
    assert "<script" not in (finished / "index.html").read_text()


def test_pointing_at_a_window_shows_it(page: Path) -> None:
    program()

    async def look() -> None:
        async with chromium() as tab:
            await tab.call("Page.navigate", url=page.as_uri())
            await tab.until("document.querySelectorAll('.tip').length === 2")
            for i, name in enumerate(("p7-tiny", "p9-other")):
                text = await tab.ask(
                    f"(() => {{ const f = document.getElementById('{name}'), d = JSON.parse("
                    f"document.querySelector('script[data-figure={name}]').textContent);"
                    "const s = f.querySelector('svg'), v = s.viewBox.baseVal;"
                    "s.scrollIntoView(); const b = s.getBoundingClientRect();"
                    "const [x, y] = d.panels[0][5];"
                    "s.dispatchEvent(new PointerEvent('pointermove', {clientX: b.left + x / v.width"
                    " * b.width, clientY: b.top + y / v.height * b.height}));"
                    f"const t = document.querySelectorAll('.tip')[{i}];"
                    "return (t.hidden ? 'hidden ' : '') + t.textContent"
                    " + (d.words.includes(t.textContent) ? '' : ' not its own'); })()"
                )
                assert re.fullmatch(r"r3 at 0:\d\d \u00b7 .* \u00b7 said .*", text)
            assert tab.said == []

    asyncio.run(look())


@pytest.mark.parametrize(
    ("numbers", "drawn"),
    [
        ((7,), [(7, "a"), (7, "b"), (7, "c")]),
        ((7, 9), [(7, "a"), (9, "b"), (9, "c")]),
        ((9,), [(9, "b"), (9, "c")]),
        ((4, 7, 9), [(4, "a"), (4, "b"), (4, "c"), (7, "a"), (9, "b"), (9, "c")]),
    ],
)
def test_figure_9_is_figure_7_of_the_other_data(
    numbers: tuple[int, ...],
    drawn: list[tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figures, "draw", lambda n, _, d, __: Picture(n, d, "", ""))
    found = figures.draw_all(numbers, tmp_path, ("a", "b", "c"), quiet)
    assert [(p.number, p.data) for p in found] == drawn


def test_figure_9_of_one_data_set_says_what_it_needs(
    homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "draw", lambda n, _, d, __: Picture(n, d, "", ""))
    found = figures.draw_all((7, 9), tmp_path, ("a",), quiet)
    assert [(p.number, p.data) for p in found] == [(7, "a"), (9, "")]
    assert "name a second one with --data" in found[1].problem
    with pytest.raises(UsageError, match=r"Fig\. 9 is Fig\. 7 on another data set"):
        reproduce(options(tmp_path / "out", homely, recipe, figures=(9,)), quiet)
    assert not (tmp_path / "out").exists()
