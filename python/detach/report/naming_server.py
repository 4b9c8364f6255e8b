"""The page of `detach name` on loopback: one person, one browser, one secret in the address."""

import json
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from detach import naming
from detach.errors import DataError, DetachError
from detach.report.naming import Found, render

ADDRESS = "127.0.0.1"
LARGEST_BODY = 100_000
TIMEOUT_S = 30


class Server(ThreadingHTTPServer):
    """Serves the page, takes names, and ends when the person is done."""

    daemon_threads = True

    def __init__(self, found: Found, port: int = 0) -> None:
        self.token = secrets.token_urlsafe(24)
        self.nonce = secrets.token_urlsafe(16)
        self.found = found
        self.page = render(found, nonce=self.nonce, token=self.token).encode()
        super().__init__((ADDRESS, port), _Handler)

    @property
    def hosts(self) -> tuple[str, str]:
        """What a browser may call us; another name is a page elsewhere that guesses."""
        return f"{ADDRESS}:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def url(self) -> str:
        """What to open."""
        return f"http://{ADDRESS}:{self.server_port}/?token={self.token}"

    def save(self, given: dict[str, Any]) -> str:
        """Writes names and head; what was done, in words.

        Raises:
            DataError: A name that cannot be one, or none at all.
        """
        clusters, track = self.found.clusters, self.found.track
        names = naming.check_names(given, clusters, "names")
        head = naming.write_head(self.found.folder, clusters, names, track)
        merged = [f"{n} = {' + '.join(ids)}" for n, ids in naming.joined(names).items()]
        words = f"saved: {len(head.classes) - 1} classes and {naming.UNKNOWN}"
        return f"{words}; joined: {', '.join(merged)}" if merged else words


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "detach", ""
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        token = parse_qs(parts.query).get("token", [""])[0]
        if self._refused(token):
            return
        if parts.path != "/":
            self._send(HTTPStatus.NOT_FOUND, "there is one page only")
            return
        self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if self._refused(self.headers.get("X-Token", "")):
            return
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.server.hosts}:
            self._send(HTTPStatus.FORBIDDEN, "this page only talks to itself")
            return
        if self.path == "/done":
            self._send(HTTPStatus.OK, "done")
            self.server.shutdown()  # we are in a thread of our own
            return
        if self.path != "/names":
            self._send(HTTPStatus.NOT_FOUND, "there is no such thing to post to")
            return
        try:
            self._send(HTTPStatus.OK, self.server.save(self._body()))
        except DetachError as error:
            self._send(HTTPStatus.BAD_REQUEST, str(error))

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST_BODY:
            raise DataError(f"names must be JSON of at most {LARGEST_BODY} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise DataError(f"names must be JSON: {error}") from error
        if not isinstance(body, dict):
            raise DataError("names must be an object: cluster to name or null")
        return body

    def _refused(self, token: str) -> bool:
        """Whether somebody else asks; then the answer is already given."""
        known = self.headers.get("Host", "") in self.server.hosts
        if known and secrets.compare_digest(token.encode(), self.server.token.encode()):
            return False
        self._send(HTTPStatus.FORBIDDEN, "open the address that detach printed")
        return True

    def _send(self, status: HTTPStatus, body: str | bytes, kind: str = "text/plain") -> None:
        raw = body if isinstance(body, bytes) else body.encode()
        nonce = f"'nonce-{self.server.nonce}'"
        policy = (
            f"default-src 'none'; img-src data:; style-src {nonce}; script-src {nonce}; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Says nothing: addresses hold the secret."""


def serve(found: Found, port: int, say: Callable[[str], None]) -> None:
    """Shows the page until the person is done, or Ctrl-C.

    Raises:
        OSError: The port is taken.
    """
    with Server(found, port) as server:
        say(f"open {server.url}\nthis machine only; Ctrl-C or the button Done ends it")
        server.serve_forever(poll_interval=0.2)
