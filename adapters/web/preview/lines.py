"""Connections to apps, HTTP/1.1 by h11, and those that wait for the next request."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import h11

from core.errors import QuotaError
from core.ids import WorkspaceId
from core.viewing import View, ViewClosedError

HEAD_BYTES_MAX = 64 * 1024
IDLE_S_MAX = 1.5
"""Development servers close what is idle after two seconds or more; we let go before."""
LINES_MAX = 128
"""Connections to one port at once. Browsers hold six, and one for each WebSocket."""

Place = tuple[WorkspaceId, int]
Connect = Callable[[WorkspaceId, int], AbstractAsyncContextManager[View]]


class CutError(Exception):
    """The app ended a connection before its answer was whole."""


class Line:
    """One connection to an app."""

    def __init__(self, place: Place, pipe: View, closing: AsyncExitStack) -> None:
        self.place = place
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
            try:
                await self._pipe.send(data)
            except ViewClosedError:
                self._is_broken = True

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


class Lines:
    """All connections to apps, by workspace and port."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._idle: defaultdict[Place, deque[Line]] = defaultdict(deque)
        self._count: Counter[Place] = Counter()

    async def take(self, place: Place, *, fresh: bool) -> Line:
        """Return a line for one request; `fresh` takes none that was used before.

        Raises:
            UserError: There is none, or there are too many.
        """
        if not fresh and self._idle[place]:
            return self._idle[place].pop()
        closing = AsyncExitStack()
        async with closing:
            pipe = await closing.enter_async_context(self.pipe(place))
            return Line(place, pipe, closing.pop_all())

    async def give(self, line: Line) -> None:
        """Keep a line for the next request, or close it if it cannot take one."""
        if not line.is_free():
            await line.close()
            return
        line.is_used = True
        line.idle_since = asyncio.get_running_loop().time()
        self._idle[line.place].append(line)

    @asynccontextmanager
    async def pipe(self, place: Place) -> AsyncIterator[View]:
        """Connect to a port, counted, for the length of a `with` block; see `take`."""
        if self._count[place] >= LINES_MAX:
            raise QuotaError(
                f"Port {place[1]} has {LINES_MAX} connections already. Close some of its pages.",
                code="preview_busy",
            )
        self._count[place] += 1
        try:
            async with self._connect(*place) as view:
                yield view
        finally:
            self._count[place] -= 1
            if not self._count[place]:
                del self._count[place]

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

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S_MAX / 3)
            await self._close_before(asyncio.get_running_loop().time() - IDLE_S_MAX)

    async def _close_before(self, moment: float) -> None:
        for place in list(self._idle):
            waiting = self._idle[place]
            while waiting and waiting[0].idle_since < moment:
                await waiting.popleft().close()
            if not waiting:
                self._idle.pop(place, None)
