"""The live page: who is let in, what it is told, and that nobody can hold up the decisions."""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.edge.live import page as page_module
from detach.edge.live.camera import Camera, Shot
from detach.edge.live.config import CameraSource, LiveConfig, Page, SensorSource, read_config
from detach.edge.live.loop import Live
from detach.edge.live.metrics import Counters
from detach.edge.live.page import LivePage
from detach.edge.live.png import png
from detach.errors import DataError, MachineError

from .live_home import (  # type: ignore[import-not-found]
    FakeClock,
    free_port,
    go_on,
    home,
    wait_for,
)

TOKEN = "a long enough token"  # noqa: S105 -- of this test
SENSORS = {"fridge": SensorSource(topic="fridge"), "tap": SensorSource(topic="tap")}


class Shown:
    """An instance with its page."""

    def __init__(self, seen: Camera | None = None, **about: Any) -> None:
        config = LiveConfig(
            schema=1, lines=True, sensors=SENSORS, page=Page(port=free_port(), **about)
        )
        self.live: Live
        self.clock: FakeClock
        self.live, self.clock, _, _ = home(config)
        assert config.page is not None
        self.config = config.page
        self.page = LivePage(
            config.page, self.live, camera=seen, beside=Counters(), clock=self.clock
        )
        self.live.show_with(self.page.history.push)
        self.live.add_sinks([self.page])

    def ask(
        self, path: str = "/", method: str = "GET", body: str = "", **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.config.port, timeout=10)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers

    def listen(self) -> "Events":
        return Events(self.config.port)


class Events:
    """A browser that reads what is new."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()
        self.status = self._answer.status

    def next(self) -> tuple[str, dict[str, Any]]:
        kind = ""
        while True:
            line = self._answer.readline().decode()
            if line.startswith("event: "):
                kind = line[7:].strip()
            if line.startswith("data: "):
                return kind, json.loads(line[6:])

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


@pytest.fixture
def shown() -> Iterator[Shown]:
    found = Shown()
    yield found
    found.page.close()


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Shown]:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    found = Shown(listen="0.0.0.0", token_file=tmp_path / "token", hosts=("kitchen.lan",))  # noqa: S104
    yield found
    found.page.close()


def test_everything_comes_from_here_and_nothing_else_may(shown: Shown) -> None:
    status, body, headers = shown.ask()
    assert status == 200
    assert b'id="timeline"' in body
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Server"] == "detach"
    for file in page_module.FILES.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text, f"{file.name} refers to something elsewhere"
        assert "innerHTML" not in text  # names of classes and sensors are text
        assert " style=" not in text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8471", 200), ("127.0.0.1:1", 200), ("[::1]:8471", 200),
        ("192.168.1.7:8471", 200), ("evil.example", 421), ("evil.example:8471", 421),
        ("localhost.evil.example", 421), ("127.0.0.1.evil.example", 421), ("kitchen.lan", 421),
        ("", 421), ("[", 421), ("a@localhost:b", 421),
    ],
)  # fmt: skip
def test_a_name_that_is_not_known_is_refused(shown: Shown, host: str, status: int) -> None:
    assert shown.ask(Host=host)[0] == status
    assert shown.ask("/metrics", Host=host)[0] == status


def test_requests_that_other_sites_cause_are_refused(shown: Shown) -> None:
    assert shown.ask("/camera.png", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
    assert shown.ask("/events", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors")[0] == 403
    assert shown.ask("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200
    assert shown.ask("/page.css", Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_there_is_nothing_to_be_changed(shown: Shown, method: str) -> None:
    for path in ("/", "/events", "/metrics", "/camera.png"):
        assert shown.ask(path, method)[0] == 405
    assert shown.ask("/../../etc/passwd")[0] == 404


@pytest.mark.parametrize("path", ["/", "/events", "/metrics", "/camera.png", "/page.js", "/none"])
def test_without_the_token_there_is_only_the_question_for_it(locked: Shown, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "detach=wrong"},
        {"Cookie": f"detach={TOKEN}"},
    ):
        status, body, _ = locked.ask(path, **headers)
        assert status == 401
        assert b'type="password"' in body
        assert b"fridge" not in body


def test_the_token_lets_in(locked: Shown) -> None:
    status, text, _ = locked.ask("/metrics", Authorization=f"Bearer {TOKEN}")
    assert (status, text) == (200, b"\n")  # nothing is counted yet
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert locked.ask("/login", "POST", "token=wrong", **form)[0] == 401
    assert locked.ask("/login", "POST", "nothing", **form)[0] == 401
    body = f"token={TOKEN.replace(' ', '+')}"
    status, _, headers = locked.ask("/login", "POST", body, **form)
    assert (status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "enough" not in cookie
    given = cookie.partition(";")[0]
    assert b'id="timeline"' in locked.ask("/", Cookie=given)[1]
    assert locked.ask("/", Cookie=given, Host="kitchen.lan:8471")[0] == 200
    assert locked.ask("/", Cookie=given, Host="evil.example")[0] == 421
    assert locked.ask("/login", "POST", "token=" + 5000 * "x", **form)[0] == 413


FORM = "application/x-www-form-urlencoded"
STRANGE: list[tuple[int, str, str, dict[str, str], str]] = [
    (401, "GET", "/", {"Cookie": "detach=\xff\xfe"}, ""),
    (401, "GET", "/", {"Cookie": "detach=\xc3\xa4"}, ""),
    (401, "GET", "/metrics", {"Authorization": "Bearer \xff"}, ""),
    (401, "GET", "/metrics", {"Authorization": "Bearer \xed\xa0\x80"}, ""),
    (401, "POST", "/login", {"Content_Type": FORM}, "token=%FF%ED%A0%80"),
    (400, "POST", "/login", {"Content_Type": FORM}, "token=\xff"),
    (400, "POST", "/login", {"Content_Type": f"{FORM}; charset=none"}, "token=a"),
    (401, "POST", "/login", {"Content_Type": f"{FORM}; charset=utf-7"}, "token=+2AA-"),
    (400, "POST", "/login", {"Content_Type": f"{FORM}; charset=undefined"}, "token=a"),
    (400, "POST", "/login", {"Content_Type": "multipart/form-data; boundary=a"}, "broken"),
    (400, "POST", "/login", {"Content_Type": "multipart/form-data"}, "--a\r\n\r\n"),
    (400, "POST", "/login", {}, "token=a"),
]


@pytest.mark.parametrize(("status", "method", "path", "headers", "body"), STRANGE)
def test_what_no_browser_sends_is_refused_without_a_word(
    locked: Shown,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    status: int,
    method: str,
    path: str,
    headers: dict[str, str],
    body: str,
) -> None:
    assert locked.ask(path, method, body, **headers)[0] == status
    assert not caplog.records
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{listen: 0.0.0.0}", "can be reached by others; give token_file"),
        ("{listen: 192.168.1.2}", "can be reached by others"),
        ("{listen: kitchen}", "must be an address"),
        ("{token_env: A, token_file: b}", "not both"),
        ("{certificate: a}", "belong together"),
        ("{port: 0}", "must be in"),
    ],
)
def test_an_open_door_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "live.yaml"
    path.write_text(f"schema: 1\nlines: true\nsensors: {{a: {{topic: a}}}}\npage: {text}\n")
    with pytest.raises(DataError, match=says):
        read_config(path)


def test_what_cannot_be_served_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", "123")
    with pytest.raises(MachineError, match="at least 16"):
        Shown(token_env="SHORT")  # noqa: S106
    with pytest.raises(MachineError, match=r"page.token_file: .*none"):
        Shown(token_file=tmp_path / "none")
    with pytest.raises(MachineError, match=r"page.certificate"):
        Shown(certificate=tmp_path / "none", key=tmp_path / "none")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setitem(Shown.__init__.__globals__, "free_port", lambda: taken.getsockname()[1])
        with pytest.raises(MachineError, match=r"cannot listen .* choose another page\.port"):
            Shown()


def test_browsers_are_told_what_is_new(shown: Shown) -> None:
    shown.live.offer("fridge", b"on")
    shown.live.offer("tap", b"off")
    go_on(shown.live, shown.clock, 6.0)
    events = shown.listen()
    kind, body = events.next()
    assert kind == "whole"
    assert body["about"]["classes"] == ["idle", "fridge", "tap"]
    assert [lane["sensor"] for lane in body["about"]["lanes"]] == ["fridge", "tap"]
    assert body["lanes"] == {"0": [[0.0, 1.0]], "1": [[0.0, 0.0]]}
    assert [o["number"] for o in body["outcomes"]] == [0, 1, 2, 3]
    assert body["outcomes"][-1]["state"] == "fridge"
    assert body["outcomes"][-1]["likeliest"][0][0] == 1
    assert body["now_s"] == pytest.approx(6.0)
    shown.live.offer("fridge", b"off")
    go_on(shown.live, shown.clock, 7.5)
    kind, body = events.next()
    while body["now_s"] < 7.5:
        kind, body = events.next()
    assert kind == "news"
    assert body["outcomes"][-1]["number"] == 5
    assert body["lanes"]["0"][-1] == [6.0, 0.0]
    assert body["from_s"] <= body["outcomes"][0]["end_s"]
    assert body["status"]["decisions"] >= 4
    events.close()
    text = shown.ask("/metrics")[1].decode()
    assert "detach_page_browsers_total" in text


def test_the_picture_is_shown_only_where_it_may_be() -> None:
    camera = Camera(
        CameraSource(source="/dev/video0"), (8, 8), "keep", clock=FakeClock(), say=print
    )
    camera._take(Shot(1.0, np.full((8, 12, 3), 7, np.uint8)))
    for allowed, status in ((True, 200), (False, 404)):
        shown = Shown(camera, camera=allowed)
        try:
            found, body, headers = shown.ask("/camera.png")
            assert found == status
            events = shown.listen()
            assert (events.next()[1]["picture_s"] == 1.0) is allowed
            events.close()
            if allowed:
                assert headers["Content-Type"] == "image/png"
                assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert body.startswith(b"\x89PNG")
        finally:
            shown.page.close()


def test_a_picture_becomes_a_png() -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 3), (5, 7, 3), (56, 72, 3)):
        picture = rng.integers(0, 256, shape, np.uint8)
        read = cv2.imdecode(np.frombuffer(png(picture), np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(read[..., ::-1], picture)


def test_a_browser_that_takes_nothing_delays_nobody(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "PATIENCE_S", 0.5)
    monkeypatch.setattr(page_module, "TICK_S", 0.01)
    monkeypatch.setattr(page_module, "OVERLAP_S", 1e9)
    for k in range(4000):  # long messages, so that the connections' own memory is soon full
        shown.page.history.push("tap", "value", [k * 0.01], [float(k)])
    with contextlib.ExitStack() as held:
        for _ in range(3):
            browser = held.enter_context(socket.create_connection(("127.0.0.1", shown.config.port)))
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            browser.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: len(shown.page._queues) == 3, "three browsers")
        lags = []
        end = time.monotonic() + 30
        while shown.page.counts["browsers_gone"] < 3:
            assert time.monotonic() < end, "they are never cut off"
            assert all(q.qsize() <= page_module.MOST_WAITING for q in shown.page._queues)
            began = time.monotonic()
            go_on(shown.live, shown.clock, shown.clock.now_s + 0.1)
            lags.append(time.monotonic() - began)
    assert float(np.quantile(lags, 0.95)) < 0.1
    assert shown.live.tally.counts["skip"] == 0
    wait_for(lambda: not shown.page._queues, "nobody")
    assert shown.ask()[0] == 200


def test_so_many_browsers_and_connections_and_no_more(shown: Shown) -> None:
    held = [shown.listen() for _ in range(page_module.MOST_BROWSERS)]
    assert [events.next()[0] for events in held] == len(held) * ["whole"]
    assert shown.ask("/events")[0] == 503
    idle = [socket.create_connection(("127.0.0.1", shown.config.port)) for _ in range(150)]

    def few() -> bool:
        return sum(map(still_open, idle)) <= page_module.MOST_CONNECTIONS

    wait_for(few, "only a few of them")
    for events in held:
        events.close()
    for connection in idle:
        connection.close()
    wait_for(lambda: not shown.page._queues, "nobody")
    assert shown.ask()[0] == 200


def still_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_the_end_is_soon_with_browsers_that_hang_on(shown: Shown) -> None:
    events = shown.listen()
    events.next()
    began = time.monotonic()
    shown.page.close()
    assert time.monotonic() - began < 5
    assert not shown.page._thread.is_alive()
    with pytest.raises(OSError, match="refused"):
        shown.ask()
    events.close()
