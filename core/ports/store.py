"""Port: our records, their events, and what is owed, one transaction a method."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from core.access import BrowserSession, DoorKey, Person, Ticket
from core.chat import Chat
from core.decision import Decision
from core.event import Event
from core.ids import SessionId, TaskId
from core.message import Post, Said, Thread
from core.node import Link, Node
from core.order import NodeOrder
from core.ports.work import Claim
from core.preview import Preview, PreviewKey
from core.project import Project
from core.recording import Recording
from core.rescue import RescueCopy
from core.run import Run
from core.session import AgentSession, Prompt
from core.task import Task
from core.terminal import Terminal
from core.wire import SessionEvent
from core.workspace import Workspace

Noun = (
    AgentSession
    | BrowserSession
    | Chat
    | Decision
    | DoorKey
    | Link
    | Node
    | NodeOrder
    | Person
    | Post
    | Preview
    | PreviewKey
    | Project
    | Prompt
    | Recording
    | RescueCopy
    | Run
    | Said
    | Task
    | Terminal
    | Thread
    | Ticket
    | Workspace
)
N = TypeVar("N", bound=Noun)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtMost:
    """A limit that is counted in the same transaction as the write.

    Attributes:
        number: How many rows may match, the written one included.
        where: Equal values by column; a tuple means any of them.
        code: Code of the `QuotaError` when it is reached.
    """

    number: int
    where: tuple[tuple[str, object], ...]
    code: str


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row. With `once`, one that is there already is left as it is."""

    noun: Noun
    once: bool = False
    limits: tuple[AtMost, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """The next value of a row: written where its version is still the noun's, then one higher."""

    noun: Noun
    limits: tuple[AtMost, ...] = ()


@dataclass(frozen=True, slots=True)
class Tell:
    """A fact for the event log."""

    event: Event


@dataclass(frozen=True, slots=True)
class Wake:
    """Make an object due, now or in `in_s` seconds; never later than it was due already.

    With a priority it keeps that from now on; higher ones are looked at first.
    """

    kind: str
    key: str
    in_s: float = 0.0
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """The card of a task should be shown anew: `wanted + 1` on its posts, their lanes woken."""

    task_id: TaskId


Change = Insert | Update | Tell | Wake | Touch


class Reader(Protocol):
    """What can be read: each call by itself, or many in one `Store.snapshot`."""

    async def get(self, kind: type[N], key: str) -> N:
        """Return one row by its key, or raise `NotFoundError`."""
        ...

    async def find(
        self,
        kind: type[N],
        /,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        **equal: object,
    ) -> Sequence[N]:
        """Return the rows whose columns equal the given values, oldest first.

        A tuple as value means any of its items; None means "is null".
        """
        ...

    async def session_events(
        self, session_id: SessionId, *, after: int, limit: int
    ) -> Sequence[SessionEvent]:
        """Return a session's events past offset `after`, in order."""
        ...

    async def spent(self, *run_ids: str) -> Mapping[str, int]:
        """Return what runs cost, in millionths of a dollar; one without cost is left out."""
        ...


Look = Callable[[Reader], Coroutine[object, object, T]]
"""Reads, and returns what it makes of it. It awaits nothing but its reader, has no effect, and
may be run in a thread."""


class Store(Reader, Protocol):
    """Our records.

    Promises, each held by a test of the same number, on SQLite and on PostgreSQL:

    1. `commit` is all or nothing, in the given order.
    2. An `Update` of a version that has passed raises `ConflictError` and writes nothing.
    3. An `Insert` of a key that is there raises `ConflictError`, unless it is `once`; so does one
       that breaks a unique rule ("one live run per task").
    4. An `Insert` or `Update` with limits counts and writes as one step, also between replicas; a
       limit that it would pass raises `QuotaError` with its code and writes nothing.
    5. A commit under a claim that is no longer ours raises `LostLease` and writes nothing.
    6. Events are numbered in the order in which readers can see them: who has seen `seq` never
       finds a lower one later.
    7. `append` stores each (session, offset) once, whatever is repeated, and returns when it is
       durable. Many callers share one transaction.
    8. One row that cannot be read is left out of `find`, reported once, and breaks nothing else.
    9. Times come back aware, in UTC; money as `Decimal`; what was written is what is read.
    10. All that is read in one `snapshot` is of one moment: a commit is seen whole or not at all.
        Nothing can be written in it, and no writer waits for it.
    """

    async def snapshot(self, look: Look[T]) -> T:
        """Return what `look` returns."""
        ...

    async def commit(self, *changes: Change, claim: Claim | None = None) -> None:
        """Write all changes, or none."""
        ...

    async def next_number(self, name: str) -> int:
        """Return 1, 2, 3 … for each name; a number is never given twice."""
        ...

    async def events(
        self, *, after: int, limit: int, task_id: TaskId | None = None
    ) -> Sequence[Event]:
        """Return the events past `after`, oldest first."""
        ...

    async def append(self, events: Sequence[SessionEvent]) -> None:
        """Store what an agent session did."""
        ...

    async def book(
        self, run_id: str, model: str, *, usd_micros: int, tokens: dict[str, int]
    ) -> None:
        """Add one model call to what a run cost. Never conflicts with other writers."""
        ...

    async def now(self) -> datetime:
        """Return the database's clock."""
        ...
