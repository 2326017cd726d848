"""Following a session's journal: read, normalise, store, then let others act on it."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent.claude.normalise import fold
from agent.claude.protocol import decode, part, text
from agent.claude.state import Fact, State
from agent.driver import Cursor, Journal, SessionSpec
from agent.mailbox import Line, Mailbox
from core.ids import RunId
from core.wire import Json, SessionDelta, SessionEvent

POLL_S = 0.02
QUIET_S = 2.0
QUIET_POLL_S = 0.05
DELTA_S = 0.06
BATCH_LINES = 500
BATCH_BYTES = 1 << 20
"""Read in one go, while everything else on the node waits; and the rest of the last line."""


@dataclass(slots=True, kw_only=True)
class _Batch:
    """What some lines changed."""

    state: State
    end: int
    lines: int = 0
    events: list[SessionEvent] = field(default_factory=list)
    deltas: list[tuple[str, str]] = field(default_factory=list)
    replies: list[Json] = field(default_factory=list)


class Follower:
    """The one ordered consumer of a session's journal.

    Its state is rebuilt from the journal's first line, so it is the same after any restart; only
    lines after the stored cursor make events.
    """

    def __init__(
        self,
        spec: SessionSpec,
        mailbox: Mailbox,
        journal: Journal,
        *,
        publish: Callable[[SessionDelta], None],
        now: Callable[[], datetime],
    ) -> None:
        self.state = State()
        self.is_caught_up = False
        self.read_at = 0.0
        self._spec = spec
        self._mailbox = mailbox
        self._journal = journal
        self._publish = publish
        self._now = now
        self.first = 0
        """The offset of the journal's first byte in its events."""
        self._generation = 0
        self._base = 0
        self._offset = 0
        self._stored = 0
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()
        self._replies: dict[str, asyncio.Future[Json]] = {}
        self._written: dict[str, list[str]] = {}
        self._published_at = 0.0
        self._nudged_at = 0.0

    async def run(self) -> None:
        """Replay what is stored, then follow for ever."""
        await self._replay()
        while True:
            more = await self.read()
            self._flush_deltas()
            if not more:
                if not self.is_caught_up:
                    self.is_caught_up = True
                    self.notify()
                await self._pause()

    async def _pause(self) -> None:
        """Wait before the next look: shortly while something happens."""
        quiet_s = asyncio.get_running_loop().time() - max(self.read_at, self._nudged_at)
        if quiet_s > QUIET_S and not self._written:
            await self.changed(within_s=QUIET_POLL_S)
        else:
            await asyncio.sleep(POLL_S)

    async def _replay(self) -> None:
        generation, self._stored = await self._journal.cursor(self._spec.session)
        if self._mailbox.rotation_was_cut(generation):
            self._mailbox.rotate(generation)
            generation, self._stored = generation + 1, 0
            await self._store([], (generation, 0))
        for number in range(generation):
            with closing(self._mailbox.lines(0, generation=number)) as lines:
                for line in lines:
                    self.state, _ = _fold(self.state, line)
                    if line.start // BATCH_BYTES != line.end // BATCH_BYTES:
                        await asyncio.sleep(0)
        self._generation, self._base = generation, self._offset_of(generation)

    def _offset_of(self, generation: int) -> int:
        return self.first + self._mailbox.base(generation)

    async def read(self) -> bool:
        """Take over some more lines and return whether there were any."""
        async with self._reading:
            batch = self._next_batch()
            if not batch.lines:
                return False
            if batch.events:
                await self._store(batch.events, (self._generation, batch.end))
            self.state, self._offset = batch.state, batch.end
            self._mailbox.keep_room(batch.end)
            self.read_at = asyncio.get_running_loop().time()
        for message, said in batch.deltas:
            self._written.setdefault(message, []).append(said)
        for reply in batch.replies:
            waiting = self._replies.pop(text(reply, "request_id"), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)
        self.notify()
        await asyncio.sleep(0)
        return True

    async def read_to_end(self) -> None:
        """Take over everything that is there."""
        while await self.read():
            pass

    def _next_batch(self) -> _Batch:
        batch = _Batch(state=self.state, end=self._offset)
        with closing(self._mailbox.lines(self._offset)) as lines:
            for line in lines:
                batch.state, facts = _fold(batch.state, line, replies=batch.replies)
                batch.end = line.end
                batch.lines += 1
                if line.start >= self._stored:
                    self._take(batch, line, facts)
                if batch.lines == BATCH_LINES or batch.end - self._offset > BATCH_BYTES:
                    break
        return batch

    def _take(self, batch: _Batch, line: Line, facts: tuple[Fact, ...]) -> None:
        for index, fact in enumerate(facts):
            if fact.kind == "message.delta":
                batch.deltas.append((fact.data["message"], fact.data["text"]))
                continue
            event = SessionEvent(
                session=self._spec.session,
                run=RunId(batch.state.run),
                offset=self._base + line.start + index,
                kind=fact.kind,
                at=self._now().astimezone(UTC).isoformat(),
                data=fact.data,
            )
            batch.events.append(event)

    async def _store(self, events: list[SessionEvent], cursor: Cursor) -> None:
        await self._journal.store(self._spec.session, events, cursor=cursor)

    def _flush_deltas(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._written or now - self._published_at < DELTA_S:
            return
        for message, parts in self._written.items():
            said = "".join(parts)
            self._publish(SessionDelta(session=self._spec.session, message=message, text=said))
        self._written.clear()
        self._published_at = now

    # What others wait for.

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        self._nudged_at = asyncio.get_running_loop().time()
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, *, within_s: float) -> None:
        """Wait for the next change, or for so long."""
        changed = self._changed
        try:
            async with asyncio.timeout(within_s):
                await changed.wait()
        except TimeoutError:
            return

    def expect(self, request: str) -> asyncio.Future[Json]:
        """Return the future answer to a request of ours."""
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._replies[request] = future
        return future

    async def is_at_end(self) -> bool:
        """Whether all is read and the last line is whole; the coding agent must be stopped."""
        await self.read_to_end()
        return self._mailbox.size() == self._offset

    async def rotate(self) -> bool:
        """Begin a new generation; the coding agent must be stopped. False: it is in mid-line."""
        if not await self.is_at_end():
            return False
        async with self._reading:
            self._mailbox.rotate(self._generation)
            self._generation, self._offset, self._stored = self._generation + 1, 0, 0
            self._base = self._offset_of(self._generation)
            await self._store([], (self._generation, 0))
            return True


def _fold(
    state: State, line: Line, *, replies: list[Json] | None = None
) -> tuple[State, tuple[Fact, ...]]:
    raw = decode(line.text)
    if raw is None:
        return state, ()
    if replies is not None and raw.get("type") == "control_response":
        replies.append(part(raw, "response"))
    return fold(state, raw)
