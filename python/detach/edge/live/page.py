"""The live page: a small server in a thread of its own that the deciding thread never waits for.

The loop leaves outcomes, values and counters in bounded memory; twice a second the server makes one
message of what is new and puts it into the queue of every browser. A browser that is slow gets the
whole picture again instead of a long queue, and one that takes nothing for a while is cut off.
Needs aiohttp, of the extra `edge`: import it only where there is a page.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from detach.edge.live.camera import Camera, Shot
from detach.edge.live.clock import Clock
from detach.edge.live.config import Page
from detach.edge.live.history import History
from detach.edge.live.loop import Live
from detach.edge.live.metrics import Counters, prometheus, status
from detach.edge.live.outcomes import Outcome
from detach.edge.live.page_guard import HEADERS, Guard
from detach.edge.live.png import png
from detach.errors import MachineError

FILES = Path(__file__).with_name("web")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
TICK_S, STATUS_S = 0.5, 1.0
OVERLAP_S = 3.0
"""News reach back so far, since values may come late."""
MOST_BROWSERS, MOST_CONNECTIONS = 8, 64
MOST_WAITING = 8
"""Messages that may wait for one browser."""
PATIENCE_S = 10.0
"""A browser that takes nothing for so long is cut off."""
LARGEST_REQUEST = 4096


class LivePage:
    """A sink that serves a page of what it is given.

    Args:
        config: Where, and for whom.
        live: The instance.
        camera: Whose picture may be shown, where the configuration allows it.
        beside: Counters of connection and camera.
        clock: The one clock.

    Raises:
        MachineError: The address is taken, or the token or the certificate is not there.
    """

    def __init__(
        self,
        config: Page,
        live: Live,
        *,
        camera: Camera | None,
        beside: Counters,
        clock: Clock,
    ) -> None:
        self._guard = Guard(config.token(), config.hosts, secure=config.certificate is not None)
        self._tls = _tls(config)
        self._live, self._beside, self._clock = live, beside, clock
        self._camera = camera if config.camera else None
        self.history = History(live.manifest, live.kinds, live.config)
        self._files = {f.name: f.read_bytes() for f in FILES.iterdir() if f.suffix in TYPES}
        self.counts: Counter[str] = Counter()
        self._status: Mapping[str, Any] = {}
        self._status_due_s = 0.0
        self._picture: tuple[Shot, bytes] | None = None
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self._socket = _bound(config)
        self._loop = asyncio.new_event_loop()
        self.address = _address(config)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="page", daemon=True)
        self._thread.start()
        self._ready.wait(PATIENCE_S)

    def take(self, outcome: Outcome) -> None:
        """Kept for the next message."""
        self.history.take(outcome)

    def idle(self, now_s: float) -> None:
        """Counts once a second."""
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + STATUS_S
            found = status(self._live, self._beside)
            self._status = found | {f"page_{k}": n for k, n in sorted(self.counts.items())}

    def close(self) -> None:
        """Ends the server; browsers notice and ask again until there is one."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)

    def _serve(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        runner = web.AppRunner(
            self._application(), access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        loop.run_until_complete(runner.setup())
        site = web.SockSite(runner, self._socket, ssl_context=self._tls)
        loop.run_until_complete(site.start())
        ticking = loop.create_task(self._tick(runner))
        loop.call_soon(self._ready.set)
        try:
            loop.run_forever()
        finally:
            ticking.cancel()
            for queue in self._queues:
                _replace(queue, None)
            loop.run_until_complete(asyncio.wait_for(_ended(runner), PATIENCE_S))
            loop.close()

    def _application(self) -> web.Application:
        locked = lambda: self._file("login.html", status=401)  # noqa: E731 -- one expression
        app = web.Application(
            client_max_size=LARGEST_REQUEST, middlewares=[self._guard.middleware(locked)]
        )
        app.router.add_get("/", self._plain("index.html"))
        for name in ("page.css", "page.js", "lanes.js"):
            app.router.add_get(f"/{name}", self._plain(name))
        app.router.add_get("/events", self._events)
        app.router.add_get("/camera.png", self._show_picture)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/login", self._login)
        app.on_response_prepare.append(_add_headers)
        return app

    def _file(self, name: str, status: int = 200) -> web.Response:
        kind = TYPES[Path(name).suffix]
        return web.Response(
            body=self._files[name], status=status, content_type=kind, charset="utf-8"
        )

    def _plain(self, name: str) -> Callable[..., Any]:
        async def show(_request: web.Request) -> web.Response:
            return self._file(name)

        return show

    async def _login(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/x-www-form-urlencoded":
            return web.Response(status=400, text="This is not the form of the page.\n")
        try:
            form = await request.post()
        except (ValueError, LookupError):  # bytes that are no text, or a charset that nobody knows
            return web.Response(status=400, text="The form cannot be read.\n")
        if not self._guard.is_token(str(form.get("token", ""))):
            self.counts["logins_refused"] += 1
            return self._file("login.html", status=401)
        response = web.Response(status=303, headers={"Location": "/"})
        self._guard.let_in(response)
        return response

    async def _metrics(self, _request: web.Request) -> web.Response:
        text = prometheus(self._status, self._live.config.name)
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=text.encode(), headers=kind)

    async def _show_picture(self, _request: web.Request) -> web.Response:
        shots = self._camera.shots() if self._camera is not None else []
        if not shots:
            return web.Response(status=404, text="There is no picture.\n")
        if self._picture is None or self._picture[0] is not shots[-1]:
            self._picture = shots[-1], png(shots[-1].picture)
        return web.Response(body=self._picture[1], content_type="image/png")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._queues) >= MOST_BROWSERS:
            self.counts["browsers_refused"] += 1
            return web.Response(status=503, text="Too many browsers.\n")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)
        queue.put_nowait(self._whole())
        self._queues.add(queue)
        self.counts["browsers"] += 1
        try:
            await response.prepare(request)
            while (message := await queue.get()) is not None:
                await asyncio.wait_for(response.write(message), PATIENCE_S)
        except (ConnectionError, asyncio.TimeoutError):
            self.counts["browsers_gone"] += 1
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._queues.discard(queue)
        return response

    async def _tick(self, runner: Any) -> None:
        """News to everybody, again and again; and nobody keeps connections without end."""
        since_s = self._now_s()
        while True:
            await asyncio.sleep(TICK_S)
            for connection in runner.server.connections[MOST_CONNECTIONS:]:
                connection.force_close()
                if connection.transport is not None:
                    connection.transport.abort()
            now_s = self._now_s()
            if self._queues:
                news = self._message("news", since_s - OVERLAP_S)
                for queue in self._queues:
                    if queue.full():
                        self.counts["browsers_behind"] += 1
                        _replace(queue, self._whole())
                    else:
                        queue.put_nowait(news)
            since_s = now_s

    def _whole(self) -> bytes:
        return self._message("whole", None, {"about": self.history.about})

    def _message(
        self, kind: str, from_s: float | None, more: Mapping[str, Any] | None = None
    ) -> bytes:
        now_s = self._now_s()
        news = self.history.since() if from_s is None else self.history.since(from_s)
        shots = self._camera.shots() if self._camera is not None else []
        body = {
            "now_s": round(now_s, 3),
            "unix_s": round(self._clock.wall(), 3),
            "status": self._status,
            "picture_s": round(shots[-1].t_s - self._live.origin_s, 3) if shots else None,
            **news,
            **(more or {}),
        }
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return f"retry: 2000\nevent: {kind}\ndata: {text}\n\n".encode()

    def _now_s(self) -> float:
        return self._clock.monotonic() - self._live.origin_s


def _replace(queue: asyncio.Queue[bytes | None], message: bytes | None) -> None:
    """Instead of all that waits."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(message)


async def _ended(runner: Any) -> None:
    await asyncio.sleep(0)  # waiting browsers are told
    await runner.cleanup()


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _bound(config: Page) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in config.listen else socket.AF_INET
        return socket.create_server((config.listen, config.port), family=family, backlog=32)
    except OSError as error:
        raise MachineError(
            f"page: cannot listen at {config.listen} port {config.port}: {error.strerror}; "
            "choose another page.port"
        ) from error


def _tls(config: Page) -> ssl.SSLContext | None:
    if config.certificate is None:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(config.certificate, config.key)
    except (OSError, ValueError) as error:
        raise MachineError(f"page.certificate: {config.certificate}: {error}") from error
    return context


def _address(config: Page) -> str:
    host = f"[{config.listen}]" if ":" in config.listen else config.listen
    return f"http{'s' if config.certificate else ''}://{host}:{config.port}/"
