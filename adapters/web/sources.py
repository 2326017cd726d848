"""What viewers watch: a task, a coding agent's session, the list of tasks."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter

from adapters.web import render
from adapters.web.live import LIMIT, PAGES_MAX, READER, Deltas, Live
from adapters.web.window import Drafts, Parts, Window, frame
from core.event import Event
from core.ids import ProjectId, SessionId, TaskId
from core.ports.commands import Commands, TaskView
from core.wire import SessionEvent, to_json

IDLE_TICKS_MAX = 4
"""A silent session is read every 0.4 s: people do not notice, the database does."""
REFRESH_TICKS = 30
"""A watched task is read again after 3 s even if no fact of it was seen."""
SETTLE_TICKS = 3 * IDLE_TICKS_MAX
"""Long enough for two more looks at the session before, so that none of its events is left."""
BOARD_TICKS = 5
BOARD_CARDS_MAX = 10
"""If more tasks than this changed, one reading of the whole list is cheaper."""

FACT = TypeAdapter(Event)
Render = Callable[[SessionEvent], bytes]


def event_put(event: SessionEvent) -> bytes:
    """Return an event of a coding agent as a frame for pages."""
    html = render.event_html(event)
    return frame("put", html, id_=f"{event.session}:{event.offset}") if html else b""


def event_json(event: SessionEvent) -> bytes:
    """Return an event of a coding agent as a frame for programs."""
    return frame("event", json.dumps(to_json(event)), id_=str(event.offset))


def fact_json(fact: Event) -> bytes:
    """Return a fact as a frame for programs."""
    return frame("fact", FACT.dump_json(fact).decode(), id_=str(fact.seq))


@dataclass(slots=True)
class SessionSource:
    """The events of one coding agent, and the text that it is writing right now.

    Attributes:
        looks: How often the store was read.
    """

    session: SessionId
    commands: Commands
    deltas: Deltas | None
    render: Render
    window: Window
    looks: int = 0
    drafts: Drafts = field(default_factory=Drafts)
    _fresh: dict[str, str] = field(default_factory=dict)
    _pause: int = 0
    _wait: int = 0

    async def poll(self, live: Live) -> bool:  # noqa: ARG002  one shape for all sources
        """See `Source.poll`."""
        has_drafts = self._flush()
        if self._wait > 0:
            self._wait -= 1
            return has_drafts
        count = await self._read()
        self._pause = 0 if count else min(self._pause + 1, IDLE_TICKS_MAX)
        self._wait = self._pause
        return has_drafts or count > 0

    async def _read(self) -> int:
        count = 0
        for _ in range(PAGES_MAX):
            events = await self.commands.session_events(
                READER, self.session, after=self.window.end, limit=LIMIT
            )
            for event in events:
                self.window.add(event.offset, self.render(event))
                self._settle(event)
            count += len(events)
            if len(events) < LIMIT:
                break
        self.looks += 1
        return count

    def _settle(self, event: SessionEvent) -> None:
        """Forget the draft of a message that is stored or thrown away."""
        if event.kind == "turn.end":
            self._fresh.clear()
            self.drafts.drop()
        elif event.kind in {"message.text", "message.reset"}:
            message = str(event.data.get("message", ""))
            self._fresh.pop(message, None)
            self.drafts.drop(message)

    async def listen(self) -> None:
        """See `Source.listen`."""
        if self.deltas is None:
            return
        async for delta in self.deltas(self.session):
            self._fresh[delta.message] = self._fresh.get(delta.message, "") + delta.text
            self._wait = 0

    def _flush(self) -> bool:
        fresh, self._fresh = self._fresh, {}
        for message, text in fresh.items():
            self.drafts.add(message, text)
        return bool(fresh)


@dataclass(slots=True)
class TaskSource:
    """The card, the thread and the runs of one task.

    Attributes:
        sessions: Conversations of the task's runs, oldest first.
    """

    task: TaskId
    commands: Commands
    parts: Parts = field(default_factory=Parts)
    sessions: tuple[SessionId, ...] = ()
    _seen: int = -1
    _wait: int = 0
    _settling: int = 0

    async def poll(self, live: Live) -> bool:
        """See `Source.poll`. Viewers are woken for a while after a new session appeared."""
        seen = live.changed.get(self.task, 0)
        self._wait -= 1
        self._settling -= 1
        if seen == self._seen and self._wait > 0:
            return self._settling > 0
        self._wait, before = REFRESH_TICKS, self.sessions
        view = await self.commands.task(READER, self.task)
        self._seen = seen
        if before != sessions_of(view):
            self._settling = SETTLE_TICKS
        shown = replace(view, card=live.offered(view.card))
        return self._put(shown) or self._settling > 0

    def _put(self, view: TaskView) -> bool:
        self.sessions = sessions_of(view)
        news = [
            self.parts.put(name, frame("put", html)) for name, html in render.card_parts(view.card)
        ]
        news += [
            self.parts.put(f"run:{run.id}", frame("put", render.run_html(run))) for run in view.runs
        ]
        news += [
            self.parts.put(f"line:{n}", frame("put", render.line_html(line, n)))
            for n, line in enumerate(view.lines)
            if line.kind != "card"
        ]
        return any(news)

    async def listen(self) -> None:
        """See `Source.listen`."""


def sessions_of(view: TaskView) -> tuple[SessionId, ...]:
    """Return the conversations of a task's runs, oldest first, each once."""
    return tuple(dict.fromkeys(run.session_id for run in view.runs if run.session_id is not None))


@dataclass(slots=True)
class BoardSource:
    """The cards of the newest tasks, of one project or of all."""

    commands: Commands
    project: ProjectId | None
    parts: Parts = field(default_factory=Parts)
    _seen: int | None = None
    _wait: int = 0

    async def poll(self, live: Live) -> bool:
        """See `Source.poll`. Only cards of tasks that changed are read again."""
        self._wait -= 1
        if self._wait > 0 or live.facts_end == self._seen:
            return False
        self._wait, seen = BOARD_TICKS, self._seen
        changed = [task for task, at in live.changed.items() if seen is not None and at > seen]
        end = live.facts_end
        if seen is None or len(changed) > BOARD_CARDS_MAX:
            cards = list(reversed(await self.commands.tasks(READER, project=self.project)))
        else:
            views = [await self.commands.task(READER, task) for task in changed]
            cards = [view.card for view in views if self.project in {None, view.project}]
        self._seen = end
        news = [self.parts.put(c.task_id, frame("put", render.summary_html(c))) for c in cards]
        return any(news)

    async def listen(self) -> None:
        """See `Source.listen`."""


@dataclass(slots=True)
class FactsSource:
    """The facts of one task, for programs."""

    task: TaskId
    commands: Commands
    window: Window
    _seen: int = -1

    async def poll(self, live: Live) -> bool:
        """See `Source.poll`."""
        seen = live.changed.get(self.task, 0)
        if seen == self._seen:
            return False
        for _ in range(PAGES_MAX):
            facts = await self.commands.events(
                READER, after=self.window.end, limit=LIMIT, task=self.task
            )
            for fact in facts:
                self.window.add(fact.seq, fact_json(fact))
            if len(facts) < LIMIT:
                self._seen = seen
                break
        return True

    async def listen(self) -> None:
        """See `Source.listen`."""
