"""The WebSocket to the control plane, and the few requests besides it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import aiohttp

from core.link import Channel, LinkClosedError
from core.viewing import ViewClosedError
from core.wire import FRAME_BYTES_MAX

DIAL_S_MAX = 30.0
CLOSE_S_MAX = 2.0
REASON_BYTES_MAX = 120
"""RFC 6455 allows 123 bytes in a close frame."""


def dialling() -> aiohttp.ClientSession:
    """Return a client that dials as often as the link allows: aiohttp's own limit is 100."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


class Socket:
    """A `core.link.Channel` over aiohttp."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, text: str) -> None:
        """See `Channel.send`."""
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            raise self._closed() from error

    async def receive(self) -> str:
        """See `Channel.receive`."""
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                return str(message.data)
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise self._closed(str(message.extra or ""))

    async def close(self, code: int, reason: str) -> None:
        """See `Channel.close`."""
        await self._socket.close(code=code, message=reason.encode())

    def _closed(self, reason: str = "") -> LinkClosedError:
        return LinkClosedError(self._socket.close_code or 1006, reason or "the connection ended")


class ViewSocket:
    """A `core.viewing.View` over aiohttp."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        """See `View.send`."""
        try:
            await self._socket.send_bytes(message)
        except (aiohttp.ClientError, OSError) as error:
            raise self._closed() from error

    async def receive(self) -> bytes:
        """See `View.receive`."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return b""  # Which is no frame.
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise self._closed(str(message.extra or ""))
        return bytes(message.data)

    async def close(self, code: int, reason: str) -> None:
        """See `View.close`."""
        if not self._socket.closed:
            told = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore").encode()
            await self._socket.close(code=code if code != 1006 else 1000, message=told)

    def _closed(self, reason: str = "") -> ViewClosedError:
        return ViewClosedError(self._socket.close_code or 1006, reason or "the connection ended")


@asynccontextmanager
async def dial(
    client: aiohttp.ClientSession, url: str, token: str
) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
    """Open a WebSocket below `/node/v1` with the node token.

    Raises:
        LinkClosedError: It cannot be opened; with the HTTP status as code if there was an answer.
    """
    try:
        async with asyncio.timeout(DIAL_S_MAX):
            socket = await client.ws_connect(
                url,
                headers={"Authorization": f"Bearer {token}"},
                max_msg_size=FRAME_BYTES_MAX,
                compress=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S_MAX),
            )
    except aiohttp.WSServerHandshakeError as error:
        reason = HTTPStatus(error.status).phrase if error.status in set(HTTPStatus) else ""
        raise LinkClosedError(error.status, reason) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise LinkClosedError(1006, f"{type(error).__name__}: {error}") from error
    try:
        yield socket
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_S_MAX):  # Also where the other side goes on.
                await socket.close()


@asynccontextmanager
async def dial_link(client: aiohttp.ClientSession, url: str, token: str) -> AsyncGenerator[Channel]:
    """Open the link's channel; `url` is the control plane's, `https://…`."""
    async with dial(client, f"{url}/node/v1/link", token) as socket:
        yield Socket(socket)
