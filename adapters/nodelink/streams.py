"""Streams by ticket: the control plane asks, the node dials, bytes flow at the reader's pace."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.websockets import WebSocket

from adapters.nodelink.socket import ViewSocket
from core.errors import NotFoundError, UnavailableError
from core.ids import NodeId
from core.viewing import CLOSE_AWAY
from core.wire import CLOSE_MISSING, OpenStream

TICKET_S_MAX = 60.0


def _future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class _Waiting:
    """Somebody with a ticket: the socket that was dialled, and how it is closed."""

    node: NodeId
    socket: "asyncio.Future[WebSocket]" = field(default_factory=_future)
    over: "asyncio.Future[tuple[int, str]]" = field(default_factory=_future)

    def end(self, code: int, reason: str) -> None:
        if not self.over.done():
            self.over.set_result((code, reason))


class Tickets:
    """Open tickets of this replica. A ticket is good for one dial of one node, for a minute."""

    def __init__(self, *, ticket_s_max: float = TICKET_S_MAX) -> None:
        self._ticket_s_max = ticket_s_max
        self._waiting: dict[str, _Waiting] = {}
        self._open: set[_Waiting] = set()

    async def read(
        self,
        node: NodeId,
        wanted: OpenStream,
        ask: Callable[[OpenStream], Awaitable[None]],
    ) -> AsyncGenerator[bytes]:
        """Yield what the node sends for a new ticket. See `Nodes.stream`."""
        async with self.dialled(node, lambda ticket: ask(replace(wanted, ticket=ticket))) as socket:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    _judge(message.get("code", 1006), message.get("reason") or "")
                    return
                if chunk := message.get("bytes"):
                    yield chunk

    async def serve(self, ticket: str, node: NodeId, socket: WebSocket) -> bool:
        """Hand the node's socket to whoever waits for it, until they are done or it was lost.

        Returns False, and does nothing, for a ticket that is unknown, spent, over or not of
        this node.
        """
        waiting = self._waiting.get(ticket)
        if waiting is None or waiting.node != node or waiting.socket.done():
            return False
        del self._waiting[ticket]
        await socket.accept()
        if not waiting.socket.done():  # Who waited may have gone meanwhile.
            waiting.socket.set_result(socket)
        await ViewSocket(socket).close(*await waiting.over)
        return True

    def lost(self, node: NodeId) -> None:
        """End what a node serves or was asked for: without its link it serves nothing."""
        for waiting in self._open:
            if waiting.node == node:
                waiting.end(CLOSE_AWAY, "it was lost")
                if not waiting.socket.done():
                    waiting.socket.set_exception(UnavailableError("Node", f"{node} was lost"))
                    waiting.socket.exception()  # Whoever waits may be gone already.

    @asynccontextmanager
    async def dialled(
        self, node: NodeId, ask: Callable[[str], Awaitable[None]]
    ) -> AsyncGenerator[WebSocket]:
        """Ask the node to dial a new ticket's address; its socket is ours for the `with` block.

        Raises:
            UnavailableError: It does not dial in time, or `ask` cannot reach it.
        """
        ticket = secrets.token_urlsafe(32)
        waiting = self._waiting[ticket] = _Waiting(node)
        self._open.add(waiting)
        try:
            yield await self._socket(waiting, lambda: ask(ticket))
        finally:
            self._waiting.pop(ticket, None)
            self._open.discard(waiting)
            waiting.end(1000, "")

    async def _socket(self, waiting: _Waiting, ask: Callable[[], Awaitable[None]]) -> WebSocket:
        try:
            async with asyncio.timeout(self._ticket_s_max):
                await ask()
                return await waiting.socket
        except TimeoutError:
            late = f"{waiting.node} did not open the stream in time"
            raise UnavailableError("Node", late) from None


def _judge(code: int, reason: str) -> None:
    """Return for a stream that ended as it should."""
    if code == CLOSE_MISSING:
        raise NotFoundError(reason or "the node has no such thing")
    if code != 1000:
        raise UnavailableError("Node", reason or "the stream was cut")
