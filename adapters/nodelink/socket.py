"""A WebSocket of Starlette as the link's channel, and as a viewer's connection to a terminal."""

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from core.link import LinkClosedError
from core.viewing import CLOSE_UNREADABLE, FRAME_BYTES_MAX, ViewClosedError

REASON_BYTES_MAX = 120
"""RFC 6455 allows 123 bytes in a close frame."""
SENT = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013})
"""Codes below 3000 that may be sent."""


class Socket:
    """A `core.link.Channel`."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, text: str) -> None:
        """See `Channel.send`."""
        try:
            await self._socket.send_text(text)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise LinkClosedError(1006, "the connection ended") from error

    async def receive(self) -> str:
        """See `Channel.receive`."""
        while self._socket.client_state is not WebSocketState.DISCONNECTED:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise LinkClosedError(message.get("code") or 1006, message.get("reason") or "")
            if (text := message.get("text")) is not None:
                return str(text)
        raise LinkClosedError(1006, "the connection ended")

    async def close(self, code: int, reason: str) -> None:
        """See `Channel.close`."""
        code = code if 3000 <= code < 5000 or code in {1000, 1012, 1013} else 1000
        await _close(self._socket, code, reason)


class ViewSocket:
    """A `core.viewing.View` of a terminal, at the end that the node dialled.

    What is received waits in the connection, not here: uvicorn stops reading while a message is
    not taken, and `send` waits while the node does not read.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        """See `View.send`."""
        try:
            await self._socket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise ViewClosedError(1006, "the machine was lost") from error

    async def receive(self) -> bytes:
        """See `View.receive`. What is no frame ends the view with `CLOSE_UNREADABLE`."""
        if self._socket.client_state is WebSocketState.DISCONNECTED:
            raise ViewClosedError(1006, "the machine was lost")
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ViewClosedError(message.get("code") or 1006, message.get("reason") or "")
        data = message.get("bytes")
        if data is None or len(data) > FRAME_BYTES_MAX:
            await self.close(CLOSE_UNREADABLE, "the machine sent what is no frame")
            raise ViewClosedError(CLOSE_UNREADABLE, "the machine sent what is no frame")
        return bytes(data)

    async def close(self, code: int, reason: str) -> None:
        """See `View.close`. A code that may not be sent, such as 1006, becomes 1001: went away."""
        code = code if 3000 <= code < 5000 or code in SENT else 1001
        await _close(self._socket, code, reason)


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    if socket.client_state is WebSocketState.DISCONNECTED:
        return
    told = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
    try:
        await socket.close(code, told)
    except (WebSocketDisconnect, RuntimeError, OSError):
        return  # It ended by itself at the same moment.
