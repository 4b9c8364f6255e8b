"""Debian's Chromium without a window, spoken to by the DevTools protocol."""

import asyncio
import base64
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-default-apps", "--disable-sync", "--disable-extensions", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE_S = 40.0


def program() -> str:
    """Where it is; the test is skipped where it is not."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("DETACH_CI") == "1":
            pytest.fail("chromium is not installed; apt-get install chromium")
        pytest.skip("chromium is not installed")
    return found


class Tab:
    """One page that is open."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._count = socket, 0
        self.said: list[str] = []
        """Errors of the console and of the network, and violations of its policy."""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        number = self._count
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            body = await self._socket.receive_json(timeout=PATIENCE_S)
            self._note(body)
            if body.get("id") == number:
                assert "error" not in body, body["error"]
                return dict(body["result"])

    async def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, expression: str) -> Any:
        """As `ask`, as soon as it is true."""
        end = time.monotonic() + PATIENCE_S
        while not (found := await self.ask(expression)):
            assert time.monotonic() < end, f"{expression}: never; {self.said}"
            await asyncio.sleep(0.1)
        return found

    async def open(self, address: str) -> None:
        await self.call("Page.navigate", url=address)
        await self.until("document.readyState === 'complete'")

    async def size(self, width: int, height: int, scale: float = 1.0) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 600,
        )  # fmt: skip

    async def scheme(self, name: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": name}
        await self.call("Emulation.setEmulatedMedia", features=[feature])

    async def shoot(self, path: Path) -> None:
        """All of the page, as high as it is."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _note(self, body: dict[str, Any]) -> None:
        if body.get("method") == "Runtime.exceptionThrown":
            self.said.append(str(body["params"]["exceptionDetails"]))
        entry = body.get("params", {}).get("entry", {})
        if body.get("method") == "Log.entryAdded" and entry.get("level") == "error":
            self.said.append(f"{entry.get('text')} {entry.get('url', '')}")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """A tab of a browser of its own, with nothing remembered."""
    import aiohttp

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [program(), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(  # noqa: S603 -- Debian's browser
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            port = await _port(Path(folder) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    tabs = await answer.json(content_type=None)
                where = next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"]
                async with session.ws_connect(where, max_msg_size=0) as socket:
                    tab = Tab(socket)
                    for domain in ("Page", "Runtime", "Log"):
                        await tab.call(f"{domain}.enable")
                    yield tab
        finally:
            process.kill()
            process.wait()


async def _port(file: Path) -> int:
    end = time.monotonic() + PATIENCE_S
    while not (file.is_file() and file.read_text().count("\n")):
        assert time.monotonic() < end, "chromium does not start"
        await asyncio.sleep(0.05)
    return int(file.read_text().splitlines()[0])
