"""What stands before every route for people: sizes, Origin, headers."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.web.problems import refusal

BODY_BYTES_MAX = 1024 * 1024
TOO_LARGE = "That is more than 1 MB. Say it in fewer words."
FILES = re.compile(r"/api/v1/workspaces/[^/]+/files/.")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""`same-origin` and not `no-referrer`: with that, browsers send `Origin: null` with forms
(https://fetch.spec.whatwg.org/#append-a-request-origin-header)."""


def origin_of(url: str) -> str:
    """Return `https://host:port` of a URL, as browsers write it in `Origin`."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in {None, default} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


class Shield:
    """Middleware of the apps that people use.

    Attributes:
        origin: Where the pages are; a change asked for from elsewhere is refused, and so is a
            WebSocket. None where no browser can come: on the unix socket.
        headers: What every answer carries if it says nothing else.
    """

    def __init__(
        self, app: ASGIApp, *, origin: str | None, headers: Mapping[str, str] = HEADERS
    ) -> None:
        self.app = app
        self.origin = origin
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        sending = _with_headers(send, self.headers)
        refused = self._refused(scope)
        if refused is not None:
            await refused(scope, receive, sending)
        elif scope["type"] == "websocket" or _is_file(scope):
            await self.app(scope, receive, sending)
        else:
            await self.app(scope, _Body(receive), sending)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > BODY_BYTES_MAX and not _is_file(scope):
            return _too_large(scope)
        if scope.get("method") in SAFE or self.origin is None:
            return None
        if headers.get("origin") == self.origin:
            return None
        return refusal(
            scope,
            403,
            "wrong_origin",
            f"Changes are taken from {self.origin} only. Open that address and do it there.",
        )


class _Body:
    """Counts what is received."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._count = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._count += len(message.get("body", b""))
        if self._count > BODY_BYTES_MAX:
            raise HTTPException(413, TOO_LARGE)  # The frameworks let this kind through.
        return message


def _is_file(scope: Scope) -> bool:
    """Whether a file is sent: its route counts by itself, and keeps nothing."""
    return scope.get("method") == "PUT" and bool(FILES.match(scope["path"]))


def _too_large(scope: Scope) -> Response:
    return refusal(scope, 413, "too_large", TOO_LARGE)


def _with_headers(send: Send, wanted: Mapping[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            headers = MutableHeaders(scope=message)
            for name, value in wanted.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
