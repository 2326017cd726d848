"""One end of a node link, the same for both: window, acknowledgements, signs of life.

The transport is given; time is the event loop's. What is durable is the owner's business: it hands
over stored messages with their `seq` and says what it has stored of the other side's.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

from core.wire import (
    ACK_S,
    CLOSE_SILENT,
    WINDOW,
    WINDOW_BYTES,
    Ack,
    Frame,
    FrameError,
    Message,
    Ping,
    Pong,
    encode_stored,
    frame,
)


class LinkClosedError(Exception):
    """The link is over.

    Attributes:
        code: WebSocket close code; 1006 when the connection just ended.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


def as_closed(group: BaseExceptionGroup[BaseException]) -> LinkClosedError:
    """Return why the tasks of a link ended; if it was anything else too, that is raised."""
    closed, rest = group.split(LinkClosedError)
    if rest is not None or closed is None:
        raise rest or group
    inner: BaseException = closed
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, LinkClosedError)  # noqa: S101  what was split off is of this kind
    return inner


class Channel(Protocol):
    """What carries the frames: a WebSocket, or a pair of queues in a simulation."""

    async def send(self, text: str) -> None:
        """Send one frame; wait while the other side does not read. Raises `LinkClosedError`."""
        ...

    async def receive(self) -> str:
        """Return the next frame. Raises `LinkClosedError`."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Say why, and end it. Never raises."""
        ...


class End:
    """One end of a link.

    Args:
        acknowledged: Called with the highest `seq` that the other side has stored, coalesced;
            it may be slow and may take its time to retry, it must not raise what passes.
        unreadable: Called with what is no frame at all; the link goes on.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        heartbeat_s: float,
        acknowledged: Callable[[int], Awaitable[None]],
        unreadable: Callable[[FrameError], None],
    ) -> None:
        self.heartbeat_s = heartbeat_s
        self._channel = channel
        self._acknowledged = acknowledged
        self._unreadable = unreadable
        self._sending = asyncio.Lock()
        self._flying: deque[tuple[int, int]] = deque()
        self._flying_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._heard_ack = 0
        self._ack_heard = asyncio.Event()
        self._stored = 0
        self._said = 0
        self._ack_due = asyncio.Event()
        self._ack_urgent = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Send a message that nobody keeps."""
        ack = self._stored
        await self._send(frame(message, ack=ack).encode(), ack)

    async def send_stored(self, seq: int, kind: str, body: str) -> None:
        """Send a durable message, given as the JSON text of its body, when the window has room."""
        await self._room.wait()
        ack = self._stored
        text = encode_stored(kind, body, seq=seq, ack=ack)
        self._flying.append((seq, len(text)))
        self._flying_bytes += len(text)
        self._gauge()
        await self._send(text, ack)

    def stored(self, seq: int) -> None:
        """Note that everything up to `seq` of the other side is kept; it will be told so."""
        if seq > self._stored:
            self._stored = seq
            self._ack_due.set()
            if seq - self._said >= WINDOW // 2:
                self._ack_urgent.set()

    async def frames(self) -> AsyncGenerator[Frame]:
        """Yield what the other side sends, except for what this class answers itself.

        Raises:
            LinkClosedError: The link ended, or nothing was heard for two heartbeats.
        """
        while True:
            try:
                async with asyncio.timeout(2 * self.heartbeat_s):
                    text = await self._channel.receive()
            except TimeoutError:
                raise LinkClosedError(CLOSE_SILENT, "silent for two heartbeats") from None
            try:
                heard = Frame.decode(text)
            except FrameError as error:
                self._unreadable(error)
                continue
            self._note_ack(heard.ack)
            if heard.type == Ping.TYPE:
                await self._pong(heard)
            elif heard.type not in {Pong.TYPE, Ack.TYPE}:
                yield heard

    async def run(self) -> None:
        """Beat, acknowledge, and pass on acknowledgements, until cancelled or `LinkClosedError`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._acknowledge())
            group.create_task(self._pass_on())

    async def _send(self, text: str, ack: int) -> None:
        try:
            async with asyncio.timeout(2 * self.heartbeat_s), self._sending:
                await self._channel.send(text)
        except TimeoutError:
            raise LinkClosedError(CLOSE_SILENT, "took nothing for two heartbeats") from None
        self._said = max(self._said, ack)

    async def _pong(self, ping: Frame) -> None:
        number = ping.body.get("number")
        if isinstance(number, int):
            await self.send(Pong(number=number))

    def _note_ack(self, ack: int) -> None:
        while self._flying and self._flying[0][0] <= ack:
            self._flying_bytes -= self._flying.popleft()[1]
        self._gauge()
        if ack > self._heard_ack:
            self._heard_ack = ack
            self._ack_heard.set()

    def _gauge(self) -> None:
        if len(self._flying) < WINDOW and self._flying_bytes < WINDOW_BYTES:
            self._room.set()
        else:
            self._room.clear()

    async def _beat(self) -> None:
        number = 0
        while True:
            number += 1
            await self.send(Ping(number=number))
            await asyncio.sleep(self.heartbeat_s)

    async def _acknowledge(self) -> None:
        while True:
            await self._ack_due.wait()
            try:
                async with asyncio.timeout(ACK_S):
                    await self._ack_urgent.wait()
            except TimeoutError:
                pass
            self._ack_due.clear()
            self._ack_urgent.clear()
            if self._said < self._stored:
                await self.send(Ack())

    async def _pass_on(self) -> None:
        while True:
            await self._ack_heard.wait()
            self._ack_heard.clear()
            await self._acknowledged(self._heard_ack)
