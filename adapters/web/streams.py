"""One viewer's stream: offsets, and what is past them. Resumes anywhere by Last-Event-ID."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adapters.web.live import LIMIT, READER, VIEWERS_MAX, Live, rung
from adapters.web.sources import (
    BoardSource,
    FactsSource,
    Render,
    SessionSource,
    TaskSource,
    event_put,
    fact_json,
)
from adapters.web.window import Window
from core.errors import UnavailableError
from core.ids import ProjectId, SessionId, TaskId
from core.ports.commands import Commands

LIFE_S = 600.0
"""A stream ends after so long and is opened again, so whoever was signed out loses it."""
HELLO = b"retry: 1000\n\n"
"""Milliseconds after which a browser comes back."""
QUIET = b": still here\n\n"


class Viewer(Protocol):
    """Somebody who looks. Holds offsets, never frames."""

    def open(self) -> None:
        """Begin to watch."""
        ...

    def close(self) -> None:
        """Watch no more; called once after `open`."""
        ...

    def take(self) -> AsyncIterator[bytes]:
        """Yield what is there and was not yet seen."""
        ...


class EventStream(Response):
    """An endless answer to one viewer. It ends when they go, or after `LIFE_S`.

    Raises:
        UnavailableError: If too many people look already.
    """

    media_type = "text/event-stream"

    def __init__(self, live: Live, viewer: Viewer) -> None:
        if live.viewers >= VIEWERS_MAX:
            raise UnavailableError("Samovar", "too many pages are open", retry_after_s=30)
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._live = live
        self._viewer = viewer

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        self._viewer.open()
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(send))
                leaver = group.create_task(_left(receive))
                writer.add_done_callback(lambda _: leaver.cancel())
                leaver.add_done_callback(lambda _: writer.cancel())
        finally:
            self._viewer.close()

    async def _write(self, send: Send) -> None:
        async def write(body: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        loop = asyncio.get_running_loop()
        end = loop.time() + LIFE_S
        await write(HELLO)
        while self._live.is_open and loop.time() < end:
            bell = self._live.bell
            async for frames in self._viewer.take():
                await write(frames)
            if not await rung(bell):
                await write(QUIET)
        await write(b"", more=False)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def resume_point(request: Request) -> str:
    """Return what the viewer has seen: Last-Event-ID after a break, else what the page says."""
    return request.headers.get("last-event-id") or request.query_params.get("after", "")


@dataclass(slots=True)
class SessionViewer:
    """One viewer's place in one coding agent's session."""

    live: Live
    render: Render
    session: SessionId
    offset: int
    draft: int = 0
    source: SessionSource | None = None

    def open(self) -> None:
        """See `Viewer.open`."""
        self.source = self.live.watch((self.render, self.session), self._make)

    def _make(self) -> SessionSource:
        return SessionSource(
            session=self.session,
            commands=self.live.commands,
            deltas=self.live.deltas,
            render=self.render,
            window=Window(self.offset),
        )

    def close(self) -> None:
        """See `Viewer.close`."""
        self.live.leave((self.render, self.session))

    async def take(self) -> AsyncIterator[bytes]:
        """See `Viewer.take`. What the window lost is read from the store."""
        assert self.source is not None  # noqa: S101
        window, drafts = self.source.window, self.source.drafts
        while (frames := window.after(self.offset)) is None:
            events = await self.live.commands.session_events(
                READER, self.session, after=self.offset, limit=LIMIT
            )
            self.offset = events[-1].offset if events else window.start
            yield b"".join(map(self.render, events))
        self.offset = max(self.offset, window.end)
        frames += drafts.after(self.draft)
        self.draft = drafts.number
        if frames:
            yield frames


@dataclass(slots=True)
class FactsViewer:
    """One program's place in the facts of one task."""

    live: Live
    task: TaskId
    offset: int
    source: FactsSource | None = None

    def open(self) -> None:
        """See `Viewer.open`."""
        self.source = self.live.watch(("facts", self.task), self._make)

    def _make(self) -> FactsSource:
        return FactsSource(self.task, self.live.commands, Window(self.offset))

    def close(self) -> None:
        """See `Viewer.close`."""
        self.live.leave(("facts", self.task))

    async def take(self) -> AsyncIterator[bytes]:
        """See `Viewer.take`."""
        assert self.source is not None  # noqa: S101
        window = self.source.window
        while (frames := window.after(self.offset)) is None:
            facts = await self.live.commands.events(
                READER, after=self.offset, limit=LIMIT, task=self.task
            )
            self.offset = facts[-1].seq if facts else window.start
            yield b"".join(map(fact_json, facts))
        self.offset = max(self.offset, window.end)
        if frames:
            yield frames


@dataclass(slots=True)
class BoardViewer:
    """Somebody who looks at the list of tasks: all cards at first, then those that change."""

    live: Live
    project: ProjectId | None
    version: int = 0
    source: BoardSource | None = None

    def open(self) -> None:
        """See `Viewer.open`."""
        self.source = self.live.watch(("board", self.project), self._make)

    def _make(self) -> BoardSource:
        return BoardSource(self.live.commands, self.project)

    def close(self) -> None:
        """See `Viewer.close`."""
        self.live.leave(("board", self.project))

    async def take(self) -> AsyncIterator[bytes]:
        """See `Viewer.take`."""
        assert self.source is not None  # noqa: S101
        frames = self.source.parts.after(self.version)
        self.version = self.source.parts.version
        if frames:
            yield frames


@dataclass(slots=True)
class TaskViewer:
    """Somebody who looks at a task: its card and thread, and its sessions one after the other.

    Attributes:
        seen: `{session}:{offset}`, or empty for the beginning of the first session.
        make: Makes what is watched; the same one for the same page.
        render: What a coding agent's event becomes there.
    """

    live: Live
    task: TaskId
    seen: str
    make: Callable[[TaskId, Commands], TaskSource] = TaskSource
    render: Render = event_put
    version: int = 0
    source: TaskSource | None = None
    reader: SessionViewer | None = None
    _looks: int = 0

    def open(self) -> None:
        """See `Viewer.open`."""
        self.source = self.live.watch(
            (self.make, self.task), lambda: self.make(self.task, self.live.commands)
        )

    def close(self) -> None:
        """See `Viewer.close`."""
        if self.reader is not None:
            self.reader.close()
        self.live.leave((self.make, self.task))

    async def take(self) -> AsyncIterator[bytes]:
        """See `Viewer.take`."""
        assert self.source is not None  # noqa: S101
        frames = self.source.parts.after(self.version)
        self.version = self.source.parts.version
        if frames:
            yield frames
        self._go_on(self.source.sessions)
        if self.reader is not None:
            async for frames in self.reader.take():
                yield frames

    def _go_on(self, sessions: tuple[SessionId, ...]) -> None:
        """Open the next session once the one before was read to its end."""
        if not sessions:
            return
        if self.reader is None:
            self._read(*_place(self.seen, sessions))
            return
        here = sessions.index(self.reader.session)
        source = self.reader.source
        assert source is not None  # noqa: S101
        if here + 1 == len(sessions):
            self._looks = source.looks
        elif source.looks > self._looks + 1 and self.reader.offset >= source.window.end:
            self.reader.close()
            self._read(sessions[here + 1], -1)

    def _read(self, session: SessionId, offset: int) -> None:
        self.reader = SessionViewer(self.live, self.render, session, offset)
        self.reader.open()


def _place(seen: str, sessions: tuple[SessionId, ...]) -> tuple[SessionId, int]:
    """Return where to go on; from the beginning where the viewer's place is unknown."""
    session, _, offset = seen.rpartition(":")
    if session in sessions and offset.lstrip("-").isdecimal():
        return SessionId(session), int(offset)
    return sessions[0], -1
