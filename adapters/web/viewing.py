"""One viewer at one terminal: frames pass untouched between a WebSocket and a `View`.

Nothing is kept here. The server stops reading from whoever was not heard yet, and sending waits
for whoever does not read, so the slower side sets the pace.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from core.errors import AppError, OutsideError
from core.viewing import (
    CLOSE_AWAY,
    CLOSE_MISSING,
    CLOSE_UNREADABLE,
    INPUT_BYTES_MAX,
    View,
    ViewClosedError,
)

LOOK_AGAIN_S = 30.0
"""How often it is asked whether somebody still may look."""
MESSAGE_BYTES_MAX = 1 + INPUT_BYTES_MAX
"""Largest frame of a viewer: a tag, and as much as may be typed at once."""
REASON_BYTES_MAX = 123
"""https://www.rfc-editor.org/rfc/rfc6455#section-5.5 leaves so much of a frame for a reason."""
SENT = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013})
"""Codes below 3000 that may be sent."""

Viewing = Callable[[], AbstractAsyncContextManager[View]]


async def refuse(socket: WebSocket, code: int, reason: str) -> None:
    """Say no to somebody whose origin is right: a script reads the code and the reason."""
    await socket.accept()
    await _Viewer(socket).close(code, reason)


async def show(
    socket: WebSocket, viewing: Viewing, may_look: Callable[[], Awaitable[bool]] | None = None
) -> None:
    """Show a terminal to whoever dialled, until either side ends it.

    Args:
        socket: Not yet accepted; its origin and its person were checked.
        viewing: Opens the view. What it raises ends the socket: `CLOSE_AWAY` for what passes,
            else `CLOSE_MISSING`, with the error's sentence.
        may_look: Asked again every `LOOK_AGAIN_S`; a no ends the view.
    """
    await socket.accept()
    try:
        async with viewing() as view, asyncio.TaskGroup() as group:
            watching = group.create_task(_as_long_as(may_look, socket, view))
            await splice(socket, view)
            watching.cancel()
    except AppError as error:
        code = CLOSE_AWAY if isinstance(error, OutsideError) else CLOSE_MISSING
        await _Viewer(socket).close(code, str(error))


async def splice(socket: WebSocket, view: View) -> None:
    """Pass frames both ways until one side ends it; the other one learns code and reason."""
    viewer = _Viewer(socket)
    async with asyncio.TaskGroup() as group:
        group.create_task(_carry(viewer, view))
        group.create_task(_carry(view, viewer))


async def _carry(source: View, target: View) -> None:
    """Pass frames on. That the target has ended is known best to whoever receives from it."""
    while True:
        try:
            message = await source.receive()
        except ViewClosedError as closed:
            await target.close(closed.code, closed.reason)
            return
        try:
            await target.send(message)
        except ViewClosedError:
            return


async def _as_long_as(
    may_look: Callable[[], Awaitable[bool]] | None, socket: WebSocket, view: View
) -> None:
    while may_look is not None:
        await asyncio.sleep(LOOK_AGAIN_S)
        if not await may_look():
            for side in (_Viewer(socket), view):
                await side.close(CLOSE_MISSING, "You may not look here any more.")
            return


class _Viewer:
    """The `core.viewing.View` of an accepted WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        """See `View.send`."""
        try:
            await self._socket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise ViewClosedError(1006, "the viewer was lost") from error

    async def receive(self) -> bytes:
        """See `View.receive`. What is no frame of a viewer ends it with `CLOSE_UNREADABLE`."""
        if self._socket.client_state is WebSocketState.DISCONNECTED:
            raise ViewClosedError(1006, "the viewer was lost")
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ViewClosedError(message.get("code") or 1006, message.get("reason") or "")
        data = message.get("bytes")
        if data is None or len(data) > MESSAGE_BYTES_MAX:
            closed = ViewClosedError(CLOSE_UNREADABLE, "That is no frame, or too large.")
            await self.close(closed.code, closed.reason)
            raise closed
        return bytes(data)

    async def close(self, code: int, reason: str) -> None:
        """See `View.close`. The end of a machine without a code is `CLOSE_AWAY`: dial again."""
        if self._socket.client_state is WebSocketState.DISCONNECTED:
            return
        code = code if 3000 <= code < 5000 or code in SENT else CLOSE_AWAY
        told = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        try:
            await self._socket.close(code, told)
        except (WebSocketDisconnect, RuntimeError, OSError):
            return  # It ended by itself at the same moment.
