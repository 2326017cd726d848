"""Live pages: one reader per process, whatever the number of viewers.

While anybody looks, the reader looks every `TICK_S` at what is watched: new facts in the event
log, new events of coding agents, cards that changed. It renders each once and rings. A viewer
holds offsets, takes what is past them and never has a queue, so a slow one costs no memory.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

import structlog

from core.access import Person
from core.card import Card
from core.errors import AppError
from core.ids import PersonId, SessionId, TaskId
from core.ports.commands import Commands
from core.wire import SessionDelta

TICK_S = 0.1
HEARTBEAT_S = 15.0
"""A comment is sent after so long without news; proxies close what is silent for 30 to 60 s."""
POLL_S_MAX = 5.0
OUTAGE_S = 1.0
"""Pause after a reading that failed."""
VIEWERS_MAX = 5000
PAGES_MAX = 20
"""Most pages of facts that one tick reads while it catches up."""
LIMIT = 500

READER = Person(
    id=PersonId("samovar"),
    name="Samovar",
    role="viewer",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
"""Who reads for all viewers. Whether a viewer may look is asked before a stream is opened."""

Deltas = Callable[[SessionId], AsyncIterator[SessionDelta]]

log = structlog.get_logger(__name__)


class Source(Protocol):
    """Something that viewers watch."""

    async def poll(self, live: "Live") -> bool:
        """Read what is new and render it; return whether there is news."""
        ...

    async def listen(self) -> None:
        """Take in what is not stored, for as long as somebody watches."""
        ...


R = TypeVar("R")
S = TypeVar("S", bound=Source)


@dataclass(slots=True, kw_only=True)
class _Watched:
    source: Source
    listener: asyncio.Task[None]
    viewers: int = 0


@dataclass(slots=True)
class Live:
    """What is watched now. Used as `async with live.running():` by the app's lifespan.

    Attributes:
        can_enter: Whether workspaces have addresses.
        changed: The newest fact of each task that was seen since this process reads.
        is_open: Whether streams go on.
        bell: Rings once, when there is news; take it before looking, then wait for it.
    """

    commands: Commands
    deltas: Deltas | None = None
    can_enter: bool = True
    changed: dict[TaskId, int] = field(default_factory=dict)
    facts_end: int = 0
    is_open: bool = True
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    _watched: dict[Hashable, _Watched] = field(default_factory=dict)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _group: asyncio.TaskGroup | None = None
    _down: set[Hashable] = field(default_factory=set)

    @property
    def viewers(self) -> int:
        """How many streams are open."""
        return sum(watched.viewers for watched in self._watched.values())

    def offered(self, card: Card) -> Card:
        """Return a card, without what leads into workspaces where these have no addresses."""
        return card if self.can_enter else replace(card, session_id=None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read for viewers until the block ends."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            reader = group.create_task(self._read())
            try:
                yield
            finally:
                self._group = None
                reader.cancel()
                for watched in self._watched.values():
                    watched.listener.cancel()
                self.end_streams()

    def end_streams(self) -> None:
        """Let every stream end: a server waits for its answers before it stops."""
        self.is_open = False
        self._ring()

    def watch(self, key: Hashable, make: Callable[[], S]) -> S:
        """Return the source `key` for one more viewer. Give it back with `leave`."""
        assert self._group is not None, "the app's lifespan does not run"  # noqa: S101
        watched = self._watched.get(key)
        if watched is None:
            source = make()
            listener = self._group.create_task(self._listen(source))
            watched = self._watched[key] = _Watched(source=source, listener=listener)
        watched.viewers += 1
        self._wanted.set()
        return watched.source  # type: ignore[return-value]  # a key names one kind of source

    def leave(self, key: Hashable) -> None:
        """Take one viewer from the source `key`; the last one ends it."""
        watched = self._watched[key]
        watched.viewers -= 1
        if not watched.viewers:
            watched.listener.cancel()
            del self._watched[key]
            self._down.discard(key)

    async def _read(self) -> None:
        while True:
            await self._wanted.wait()
            await self._guarded("facts", self._facts)
            has_news = False
            for key, watched in list(self._watched.items()):
                has_news |= await self._guarded(key, partial(watched.source.poll, self)) or False
            if has_news:
                self._ring()
            if not self._watched:
                self._wanted.clear()
            await asyncio.sleep(OUTAGE_S if "facts" in self._down else TICK_S)

    async def _guarded(self, key: Hashable, work: Callable[[], Awaitable[R]]) -> R | None:
        """Do one reading. What fails is said once, until it works again, and ends nothing else."""
        try:
            async with asyncio.timeout(POLL_S_MAX):
                result = await work()
        except (AppError, TimeoutError) as error:
            if key not in self._down:
                log.warning("live.read_failed", what=str(key), error=str(error))
        except Exception:  # A bug in one reading must not end the pages of everybody for good.
            if key not in self._down:
                log.exception("live.read_crashed", what=str(key))
        else:
            self._down.discard(key)
            return result
        self._down.add(key)
        return None

    async def _listen(self, source: Source) -> None:
        try:
            await source.listen()
        except Exception:  # Drafts are a comfort: without them the stored text still comes.
            log.exception("live.listen_crashed")

    async def _facts(self) -> None:
        for _ in range(PAGES_MAX):
            facts = await self.commands.events(READER, after=self.facts_end, limit=LIMIT)
            for fact in facts:
                self.facts_end = fact.seq
                if fact.task_id is not None:
                    self.changed[fact.task_id] = fact.seq
            if len(facts) < LIMIT:
                return

    def _ring(self) -> None:
        bell, self.bell = self.bell, asyncio.Event()
        bell.set()


async def rung(bell: asyncio.Event) -> bool:
    """Wait for `bell`, at most a heartbeat; return whether it rang."""
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            await bell.wait()
    except TimeoutError:
        return False
    return True
