"""The live page in a real browser, by the command of docs/live-page.md."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .chromium import Tab, chromium, program  # type: ignore[import-not-found]
from .live_home import free_port, wait_for  # type: ignore[import-not-found]

ROOT = Path(__file__).parents[1]
BUNDLE, RECORDING = ROOT / "models/home.detach", ROOT / "models/sample/run10"
Played = tuple[int, Path, "subprocess.Popen[bytes]"]
"""Port of the page of a process that plays the sample, the file with its lines, the process."""
PAGE = ROOT / "docs/live-page.md"
WIDTHS = {"desktop": 1280, "phone": 390}
TIDY = """
(() => { const wide = document.documentElement;
  const out = [...document.querySelectorAll('main *')].filter((e) => !e.closest('#tracks')
    && e.getBoundingClientRect().right > wide.clientWidth + 1);
  return [wide.scrollWidth <= wide.clientWidth, out.map((e) => e.id || e.tagName)]; })()
"""
HEADED = """
(() => { const list = document.getElementById('likeliest');
  const head = document.getElementById(list.getAttribute('aria-labelledby'));
  const box = head?.getBoundingClientRect() ?? { height: 0 };
  return [head?.textContent, box.height > 0 && box.bottom <= list.getBoundingClientRect().top]; })()
"""
"""What stands over the list beside "Now", and whether it is seen there."""

pytestmark = pytest.mark.skipif(not BUNDLE.is_file(), reason="no released bundle")


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    program()
    port, lines = free_port(), tmp_path_factory.mktemp("rehearsal") / "lines"
    (command,) = re.findall(r"^detach (live .*)$", PAGE.read_text(), re.MULTILINE)
    words = [*command.split(), "--port", str(port)]
    with lines.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 -- ourselves
            [sys.executable, "-m", "detach", *words],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT / "python"))},
        )
        try:
            wait_for(lambda: lines.read_bytes().count(b"\n") >= 12, "a dozen windows", 60)
            yield port, lines, process
        finally:
            process.terminate()
            assert process.wait(20) == 0


async def opened(tab: Tab, port: int, width: int) -> None:
    await tab.size(width, 900)
    await tab.open(f"http://127.0.0.1:{port}/")
    await tab.until("document.querySelectorAll('#tiles div').length >= 5")
    await tab.until("document.getElementById('picture').naturalWidth > 0")


@pytest.mark.slow
@pytest.mark.parametrize("device", WIDTHS)
def test_what_a_browser_draws(rehearsal: Played, device: str) -> None:
    port, lines, _ = rehearsal

    async def look() -> None:
        async with chromium() as tab:
            await opened(tab, port, WIDTHS[device])
            await a_lane_for_each_sensor(tab)
            await what_was_decided(tab, lines)
            assert await tab.ask(HEADED) == ["Likeliest in the last window", True]
            fits, beyond = await tab.ask(TIDY)
            assert fits, beyond
            assert beyond == []
            assert await tab.ask("document.getElementById('badge').textContent") == "live"
            assert await tab.ask("document.getElementById('picture').naturalWidth") == 72
            assert tab.said == []  # no error, nothing that its policy forbids

    asyncio.run(look())


async def a_lane_for_each_sensor(tab: Tab) -> None:
    sensors = json.loads((RECORDING / "recording.json").read_text())["sensors"]
    find = "[...document.querySelectorAll('#moving [data-sensor]')]"
    drawn = await tab.ask(f"{find}.filter((g) => g.children.length).map((g) => g.dataset.sensor)")
    assert sorted(drawn) == sorted(sensor["name"] for sensor in sensors)
    labels = await tab.ask("[...document.querySelectorAll('#labels b')].map((b) => b.textContent)")
    assert labels[:3] == ["Activity", "Each window", "Place"]
    assert {sensor["place"] for sensor in sensors} <= set(labels)


async def what_was_decided(tab: Tab, lines: Path) -> None:
    """The answers on the time axis are those of the JSON lines, in their order."""
    drawn = await tab.ask("[...document.querySelectorAll('#moving [data-state]')]"
                          ".map((g) => g.dataset.state)")  # fmt: skip
    states = [json.loads(line)["state"] for line in lines.read_text().splitlines()]
    told = [s for s, before in zip(states, [None, *states], strict=False) if s and s != before]
    assert len(drawn) >= 2
    assert drawn == told[: len(drawn)]
    shown = await tab.ask("document.getElementById('state').textContent")
    assert shown == drawn[-1]
    assert (await tab.ask("document.title")).startswith(shown)


@pytest.mark.slow
def test_time_goes_on_and_an_end_is_noticed(rehearsal: Played) -> None:
    port, _, process = rehearsal
    middle = "document.querySelector('#tracks').getBoundingClientRect()"
    point = (
        f"(() => {{ const box = {middle}; document.querySelector('#tracks').dispatchEvent(new "
        "PointerEvent('pointermove', {clientX: box.right - 60, clientY: box.top + 40})); "
        "return document.querySelector('#cursor text').textContent; })()"
    )

    async def look() -> None:
        async with chromium() as tab:
            await opened(tab, port, 1280)
            first = await tab.ask("document.getElementById('clock').textContent")
            await tab.until(f"document.getElementById('clock').textContent !== {first!r}")
            assert len(await tab.ask(point)) == 8  # a time, with what was known then beside it
            values = "[...document.querySelectorAll('#labels i')].map((i) => i.textContent)"
            assert {"on", "off", "mg"} <= set(await tab.ask(values))
            await tab.ask("document.querySelectorAll('#spans button')[2].click()")
            assert await tab.ask("document.getElementById('span-name').textContent") == "10 minutes"
            badge = "document.getElementById('badge').textContent"
            process.send_signal(signal.SIGSTOP)
            try:
                await tab.until(f"{badge} === 'no connection'")
                assert await tab.ask("document.body.classList.contains('stale')")
            finally:
                process.send_signal(signal.SIGCONT)
            await tab.until(f"{badge} === 'live'")

    asyncio.run(look())
