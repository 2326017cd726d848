"""Streams by ticket: the control plane asks, the node dials, bytes flow at the reader's pace."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from starlette.websockets import WebSocket

from core.errors import NotFoundError, UnavailableError
from core.ids import NodeId
from core.wire import CLOSE_MISSING, OpenStream

TICKET_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    node: NodeId
    socket: "asyncio.Future[WebSocket]"
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class Tickets:
    """Open tickets of this replica. A ticket is good for one dial of one node, for a minute."""

    def __init__(self, *, ticket_s_max: float = TICKET_S_MAX) -> None:
        self._ticket_s_max = ticket_s_max
        self._waiting: dict[str, _Waiting] = {}

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
        """Hand the node's socket to whoever waits for it, until they are done.

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
            await waiting.is_over.wait()
        return True

    @asynccontextmanager
    async def dialled(
        self, node: NodeId, ask: Callable[[str], Awaitable[None]]
    ) -> AsyncGenerator[WebSocket]:
        """Ask the node to dial a new ticket's address; its socket is ours for the `with` block.

        Raises:
            UnavailableError: It does not dial in time, or `ask` cannot reach it.
        """
        ticket = secrets.token_urlsafe(32)
        waiting = _Waiting(node, asyncio.get_running_loop().create_future())
        self._waiting[ticket] = waiting
        try:
            yield await self._socket(waiting, lambda: ask(ticket))
        finally:
            self._waiting.pop(ticket, None)
            waiting.is_over.set()

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
        raise UnavailableError("Node", "the stream was cut")
