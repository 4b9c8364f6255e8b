"""Who is let in to the live page, and what browsers are told about it.

A page of another site can make a browser send requests to this machine, and can point a name of its
own at it (DNS rebinding). So names are only those that are known, requests that other sites cause
are refused, and there is nothing to be changed by a request at all.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

COOKIE, COOKIE_S = "detach", 30 * 86400
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
OPEN_PATHS = ("/login", "/page.css")
"""What is shown to those who have no token yet."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "detach",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Decides by name, origin and token.

    Args:
        token: Who knows it is let in; None lets in everybody who can connect.
        hosts: Names by which the page is reached, beside addresses and localhost.
        secure: Whether it speaks TLS.
    """

    def __init__(self, token: str | None, hosts: tuple[str, ...], *, secure: bool) -> None:
        self._token = token
        self._hosts = {"localhost", *(host.lower().rstrip(".") for host in hosts)}
        self._secure = secure
        self._pass = "" if token is None else _pass(token)

    def knows_host(self, host: str) -> bool:
        """Whether the Host header is an address or a known name; a rebound name is neither."""
        match = HOST.fullmatch(host.lower())
        name = match[1].strip("[]").rstrip(".") if match else ""
        return name in self._hosts or _is_address(name)

    def knows(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> bool:
        """Whether a request brings the token, or the cookie that was given for it."""
        if self._token is None:
            return True
        kind, _, given = headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.is_token(given)
        return hmac.compare_digest(_raw(cookies.get(COOKIE, "")), self._pass.encode())

    def is_token(self, given: str) -> bool:
        """In a time that does not depend on how much of it is right."""
        if self._token is None:
            return False
        return hmac.compare_digest(_pass(given.strip()).encode(), self._pass.encode())

    def let_in(self, response: web.StreamResponse) -> None:
        """Gives the cookie; the token does not stand in it."""
        response.set_cookie(
            *(COOKIE, self._pass),
            max_age=COOKIE_S, httponly=True, samesite="Lax", secure=self._secure,
        )  # fmt: skip

    def middleware(self, locked: Callable[[], web.Response]) -> Any:
        """For the server; ``locked`` makes the page that asks for the token."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not self.knows_host(request.headers.get("Host", "")):
                text = "This name is not known here; add it to page.hosts in live.yaml.\n"
                return web.Response(status=421, text=text)
            if request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"} and (
                request.headers.get("Sec-Fetch-Mode") != "navigate"
            ):
                return web.Response(status=403, text="Not for other sites.\n")
            if request.path in OPEN_PATHS or self.knows(request.headers, request.cookies):
                return await handler(request)
            return locked()

        return guarded


def _pass(token: str) -> str:
    return hmac.new(_raw(token), b"the live page of detach", hashlib.sha256).hexdigest()


def _raw(text: str) -> bytes:
    """Headers hold whatever a stranger sends, half a letter too."""
    return text.encode(errors="surrogatepass")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
