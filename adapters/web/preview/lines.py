"""Connections to apps, HTTP/1.1 by h11, and those that wait for the next request."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)

import h11

from core.errors import QuotaError
from core.ids import WorkspaceId
from core.viewing import View, ViewClosedError

HEAD_BYTES_MAX = 64 * 1024
IDLE_S_MAX = 1.5
"""Development servers close what is idle after two seconds or more; we let go before."""
IDLE_MAX = 32
"""Connections to one port that wait for the next request."""
LINES_MAX = 128
"""Connections to one port that are used at once. Browsers use six and one for each WebSocket, or
hundreds where they speak HTTP/2 with a proxy before us."""
WAIT_S_MAX = 10.0
"""How long a request waits for one of them."""

Place = tuple[WorkspaceId, int]
Connect = Callable[[WorkspaceId, int], AbstractAsyncContextManager[View]]


class CutError(Exception):
    """The app ended a connection before its answer was whole."""


class Line:
    """One connection to an app."""

    def __init__(self, pipe: View, closing: AsyncExitStack) -> None:
        self.is_used = False
        self.idle_since = 0.0
        self._pipe = pipe
        self._closing = closing
        self._is_broken = False
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)

    async def say(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        """Send; an app that reads no more may answer all the same, so that is no error here."""
        data = self._http.send(event)
        if data and not self._is_broken:
            self._is_broken = True  # Until all is said: who is cancelled has said a part.
            with suppress(ViewClosedError):
                await self._pipe.send(data)
                self._is_broken = False

    async def hear(self) -> h11.Event:
        """Return what comes next.

        Raises:
            CutError: The connection broke off.
            h11.RemoteProtocolError: It is no HTTP, or ends too early.
        """
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.ConnectionClosed):
                raise CutError
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # PAUSED comes after an answer only
            try:
                data = await self._pipe.receive()
            except ViewClosedError as closed:
                if closed.code != 1000:
                    raise CutError from closed
                data = b""
            self._http.receive_data(data)

    def is_free(self) -> bool:
        """Whether the next request may go this way; makes the line ready for it."""
        is_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if is_done and not self._is_broken:
            self._http.start_next_cycle()
            return True
        return False

    async def close(self) -> None:
        """Let go of it."""
        await self._closing.aclose()


class _Port:
    """What there is for one port.

    Attributes:
        room: For those who are connected now.
        idle: Lines that wait for the next request, the oldest first.
        users: How many are connected or wait to be.
    """

    def __init__(self) -> None:
        self.room = asyncio.Semaphore(LINES_MAX)
        self.idle: deque[Line] = deque()
        self.users = 0


class Lines:
    """All connections to apps, by workspace and port."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._ports: defaultdict[Place, _Port] = defaultdict(_Port)

    @asynccontextmanager
    async def take(self, place: Place, *, fresh: bool) -> AsyncIterator[Line]:
        """Give a line for one request; `fresh` gives none that was used before.

        What can take another request afterwards is kept for it.

        Raises:
            UserError: There is none, or none becomes free in time.
        """
        async with self._room(place) as port:
            is_kept = port.idle and not fresh
            line = port.idle.pop() if is_kept else await self._opened(place)
            try:
                yield line
            finally:
                if line.is_free() and len(port.idle) < IDLE_MAX:
                    line.is_used = True
                    line.idle_since = asyncio.get_running_loop().time()
                    port.idle.append(line)
                else:
                    await line.close()

    @asynccontextmanager
    async def pipe(self, place: Place) -> AsyncIterator[View]:
        """Connect to a port for the length of a `with` block, without HTTP; see `take`."""
        async with self._room(place), self._connect(*place) as view:
            yield view

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close what is idle for long, for the length of a `with` block, and all at its end."""
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(self._close_idle())
            try:
                yield
            finally:
                closing.cancel()
                await self._close_before(float("inf"))

    @asynccontextmanager
    async def _room(self, place: Place) -> AsyncIterator[_Port]:
        """Be one of those who use a port. Pages ask for hundreds of files at once: they wait."""
        port = self._ports[place]
        port.users += 1
        try:
            try:
                async with asyncio.timeout(WAIT_S_MAX):
                    await port.room.acquire()
            except TimeoutError:
                sentence = f"Port {place[1]} has {LINES_MAX} connections already. "
                sentence += "Close some of its pages."
                raise QuotaError(sentence, code="preview_busy") from None
            try:
                yield port
            finally:
                port.room.release()
        finally:
            port.users -= 1
            self._forget(place)

    async def _opened(self, place: Place) -> Line:
        async with AsyncExitStack() as closing:
            pipe = await closing.enter_async_context(self._connect(*place))
            return Line(pipe, closing.pop_all())

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S_MAX / 3)
            await self._close_before(asyncio.get_running_loop().time() - IDLE_S_MAX)

    async def _close_before(self, moment: float) -> None:
        for place, port in list(self._ports.items()):
            while port.idle and port.idle[0].idle_since < moment:
                await port.idle.popleft().close()
            self._forget(place)

    def _forget(self, place: Place) -> None:
        port = self._ports.get(place)
        if port is not None and not port.users and not port.idle:
            del self._ports[place]
