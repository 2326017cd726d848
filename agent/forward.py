"""Containers reach the model proxy and the push gate through us, on the bridge's address alone."""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from agent import files

log = logging.getLogger(__name__)

PORT = "forward-port"
CHUNK_BYTES = 64 * 1024
CONNECT_S_MAX = 10.0
REBIND_S = 1.0
AWAY_S_MAX = 120.0
"""How long a request waits for a control plane that is starting again: Claude Code itself gives a
turn up after some eight seconds."""
LOOK_S = 0.2
TOKEN_HEADERS = ("Authorization", "X-Api-Key")
HOP_BY_HOP = {
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""RFC 9110, section 7.6.1, and what each hop says for itself."""
AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add to a request that has none."""


class Forward:
    """Passes `/llm/…` and `/git/…` on to the control plane, bodies streamed both ways.

    The port is kept in the state folder: containers that run have it in their environment.

    Args:
        away_s_max: For how long a control plane that takes no connection is called again.
    """

    def __init__(
        self, *, upstream: str, address: str, state: Path, away_s_max: float = AWAY_S_MAX
    ) -> None:
        self._upstream = upstream.rstrip("/")
        self._address = address
        self._state = state
        self._away_s_max = away_s_max
        self._port = 0

    @property
    def url(self) -> str:
        """Where containers find us; known inside of `serving`."""
        return f"http://{self._address}:{self._port}"

    async def _listen(self) -> socket.socket:
        """Take the port of the last life, or any the first time."""
        kept = self._state / PORT
        wanted = int(kept.read_text()) if kept.exists() else 0
        while True:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((self._address, wanted))
                break
            except OSError as error:
                listener.close()
                if error.errno not in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
                    raise
                log.warning("forward.port_taken", extra={"port": wanted, "reason": str(error)})
                await asyncio.sleep(REBIND_S)
        self._port = listener.getsockname()[1]
        files.write(kept, str(self._port))
        return listener

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Serve for the length of a `with` block."""
        client = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=AUTOMATIC,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX),
        )
        app = web.Application()
        app.router.add_route("*", "/{door:llm|git}/{rest:.*}", partial(self._pass_on, client))
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, auto_decompress=False
        )
        async with client:
            await runner.setup()
            with await self._listen() as listener:
                try:
                    await web.SockSite(runner, listener).start()
                    yield
                finally:
                    await runner.cleanup()

    async def _pass_on(
        self, client: aiohttp.ClientSession, request: web.Request
    ) -> web.StreamResponse:
        if not any(request.headers.get(name) for name in TOKEN_HEADERS):
            return _refused()
        if ".." in request.path.split("/"):
            return web.Response(status=400, text="no such address\n")
        response = web.StreamResponse()
        try:
            async with await self._called(client, request) as answer:
                await _answer(request, response, answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("forward.failed", extra={"reason": str(error)[:300]})
            if not response.prepared:
                return web.Response(status=502, text="the control plane cannot be reached\n")
            if request.transport is not None:
                request.transport.abort()  # Half an answer must not look like a whole one.
        return response

    async def _called(
        self, client: aiohttp.ClientSession, request: web.Request
    ) -> aiohttp.ClientResponse:
        """Return the head of the answer. Nothing is sent before there is a connection."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._away_s_max
        while True:
            try:
                return await client.request(
                    request.method,
                    URL(f"{self._upstream}{request.raw_path}", encoded=True),
                    headers=_end_to_end(request.headers, request.content_length),
                    data=_body(request) if request.can_read_body else None,
                    allow_redirects=False,
                )
            except aiohttp.ClientConnectorError:
                if loop.time() >= until:
                    raise
            await asyncio.sleep(LOOK_S)


def _refused() -> web.Response:
    headers = {"WWW-Authenticate": 'Basic realm="samovar"', "Connection": "close"}
    return web.Response(status=401, text="a workspace token is wanted\n", headers=headers)


async def _answer(
    request: web.Request, response: web.StreamResponse, answer: aiohttp.ClientResponse
) -> None:
    response.set_status(answer.status, answer.reason)
    response.headers.extend(_end_to_end(answer.headers, answer.content_length))
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()


async def _body(request: web.Request) -> AsyncGenerator[bytes]:
    async for chunk in request.content.iter_chunked(CHUNK_BYTES):
        yield chunk


def _end_to_end(headers: Mapping[str, str], length: int | None) -> CIMultiDict[str]:
    named = {part.strip().lower() for part in headers.get("Connection", "").split(",")}
    dropped = HOP_BY_HOP | named
    kept = CIMultiDict(
        (name, text) for name, text in headers.items() if name.lower() not in dropped
    )
    if length is not None:
        kept["Content-Length"] = str(length)
    return kept
