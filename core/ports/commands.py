"""Port: what people can ask for. Called by every surface, implemented by `bot`.

Who asks comes first; whether they may is decided behind it. Everything that people can cause
is a `UserError` whose message is said to them.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from core.access import Person
from core.browse import Changes, Listing
from core.card import Card
from core.event import Event
from core.ids import (
    DecisionId,
    NodeId,
    ProjectId,
    RunId,
    SessionId,
    TaskId,
    TerminalId,
    ThreadId,
    WorkspaceId,
)
from core.ledger import Start
from core.project import Project
from core.viewing import View
from core.wire import SessionEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What somebody said on a surface.

    Attributes:
        key: The surface's delivery id; the same key is handled once.
        message: The surface's message id.
        thread: None to start a new one.
        when_idle: Wait for the coding agent's next idle moment instead of steering it.
    """

    key: str
    surface: str
    channel: str
    message: str
    text: str
    thread: ThreadId | None = None
    project: ProjectId | None = None
    when_idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The receipt for words: stored, and what came of them as far as it is known.

    Attributes:
        task_id: The task, once there is one.
        said: What is answered to the author alone; empty when the thread tells all.
    """

    thread: ThreadId
    task_id: TaskId | None = None
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One message of a thread as a page shows it.

    Attributes:
        by: A person's name, or `samovar`.
        kind: `message`, or a post's kind.
        receipt: Of a follow-up: how far it got.
    """

    at: datetime
    by: str
    kind: str
    text: str
    receipt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run of a task in short."""

    id: RunId
    state: str
    outcome: str
    reason: str
    session_id: SessionId | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One task, whole."""

    card: Card
    project: ProjectId
    thread: ThreadId
    prompt: str
    asked_by: str
    created_at: datetime
    lines: tuple[Line, ...]
    runs: tuple[RunLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One machine in short. `link` is `up`, `stale`, `lost` or `never`."""

    id: NodeId
    supplier: str
    state: str
    link: str
    agent: str
    cpus: float
    memory_mb: int
    load: float
    memory_free_mb: int
    disk_free_mb: int
    workspaces: tuple[WorkspaceId, ...]
    seen_at: datetime | None
    warm_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceView:
    """One workspace in short.

    Attributes:
        steps: `[{step, state, at, text}]` of its making, oldest first.
        notes: Sentences that people should know.
    """

    id: WorkspaceId
    project: ProjectId
    task_id: TaskId
    node_id: NodeId
    state: str
    branch: str
    recovered: str
    error: str
    keep_until: datetime | None
    steps: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalView:
    """One tab of a workspace in short.

    Attributes:
        state: Of `core.terminal.TerminalState`.
        exit_code: Of the shell, minus a signal's number; None while it lives or if unknown.
        error: Why it could not be opened or how else it ended, as a sentence.
    """

    id: TerminalId
    workspace_id: WorkspaceId
    title: str
    position: int
    state: str
    exit_code: int | None = None
    error: str = ""


class Commands(Protocol):
    """What people can ask for.

    Promises:

    1. `say` returns when the words are stored; the same key is handled once.
    2. `answer` is won by the first; a later one gets a `UserError` that says who answered what.
    3. `stop` is idempotent.
    4. Every method raises `ForbiddenError` or `NotFoundError` for people who may not.
    """

    async def say(self, actor: Person, words: Words) -> Heard:
        """Take words: a new task, a follow-up, an answer or a command, by where they are said."""
        ...

    async def answer(
        self,
        actor: Person,
        decision: DecisionId,
        *,
        surface: str,
        allow: bool = True,
        answers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer a question, permission, plan or budget."""
        ...

    async def stop(self, actor: Person, task: TaskId) -> None:
        """Stop a task; what was done is kept."""
        ...

    async def projects(self, actor: Person) -> Sequence[Project]:
        """Return the projects that the person may see."""
        ...

    async def tasks(
        self, actor: Person, *, project: ProjectId | None = None, limit: int = 50
    ) -> Sequence[Card]:
        """Return the newest tasks, newest first."""
        ...

    async def task(self, actor: Person, task: TaskId) -> TaskView:
        """Return one task."""
        ...

    async def events(
        self, actor: Person, *, after: int, limit: int = 500, task: TaskId | None = None
    ) -> Sequence[Event]:
        """Return facts past `after`, oldest first."""
        ...

    async def session_events(
        self, actor: Person, session: SessionId, *, after: int, limit: int = 500
    ) -> Sequence[SessionEvent]:
        """Return what a coding agent did past offset `after`, oldest first."""
        ...

    async def build_log(self, actor: Person, workspace: WorkspaceId) -> str:
        """Return the newest build log of a workspace, its end if it is long."""
        ...

    async def folder(self, actor: Person, workspace: WorkspaceId, path: str) -> Listing:
        """Return what is in a folder of a workspace; see `core.browse` for paths."""
        ...

    def file(self, actor: Person, workspace: WorkspaceId, path: str) -> AsyncGenerator[bytes]:
        """Read a file of a workspace. Iterating raises `NotFoundError` if there is none."""
        ...

    async def locate(self, actor: Person, session: SessionId, path: str) -> tuple[WorkspaceId, str]:
        """Return where a file is that a coding agent named by its path in the container.

        The path is percent-encoded and below the checkout; `NotFoundError` for one elsewhere.
        """
        ...

    async def changes(self, actor: Person, workspace: WorkspaceId) -> Changes:
        """Return what differs in a workspace from where its work started."""
        ...

    async def nodes(self, actor: Person) -> Sequence[NodeView]:
        """Return the machines that are not gone."""
        ...

    async def workspaces(self, actor: Person) -> Sequence[WorkspaceView]:
        """Return the workspaces that are not gone."""
        ...

    async def starts(self, actor: Person, project: ProjectId) -> Sequence[Start]:
        """Return how the project's last workspaces started, newest first."""
        ...

    async def workspace(self, actor: Person, workspace: WorkspaceId) -> WorkspaceView:
        """Return one workspace, also one that is gone."""
        ...

    async def terminals(self, actor: Person, workspace: WorkspaceId) -> Sequence[TerminalView]:
        """Return the tabs of a workspace, from left to right."""
        ...

    async def open_terminal(
        self, actor: Person, workspace: WorkspaceId, *, title: str = ""
    ) -> TerminalView:
        """Open a shell; it is `opening` until the node has it. One that is gone is refused."""
        ...

    async def change_terminal(
        self,
        actor: Person,
        terminal: TerminalId,
        *,
        title: str | None = None,
        position: int | None = None,
    ) -> None:
        """Give a tab another title or another place; the others make room."""
        ...

    async def close_terminal(self, actor: Person, terminal: TerminalId) -> None:
        """End what runs in a terminal and take its tab away. Closed already is fine."""
        ...

    def view_terminal(
        self, actor: Person, terminal: TerminalId
    ) -> AbstractAsyncContextManager[View]:
        """Look at a terminal, and type in it if the person may steer; see `core.viewing`."""
        ...

    async def workspace_link(self, actor: Person, workspace: WorkspaceId) -> str:
        """Return a one-time path by which this person enters a workspace: good for 60 s."""
        ...

    async def enrolment(self, actor: Person) -> str:
        """Return a new one-time token with which a machine joins."""
        ...

    async def delete_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        """Remove a workspace that no run works in."""
        ...

    async def delete_node(self, actor: Person, node: NodeId) -> None:
        """Drain a machine and let it go."""
        ...

    def silent_sweeps(self) -> Sequence[str]:
        """Return the periodic jobs that have not been done for long: something is wrong."""
        ...

    async def sign_in_link(self, actor: Person) -> str:
        """Return a one-time path with which the person signs in to the pages."""
        ...


class SignIn(Protocol):
    """Who is behind a browser."""

    async def redeem(self, token: str) -> str | None:
        """Turn a one-time token into the cookie of a browser session, once."""
        ...

    async def person(self, cookie: str) -> Person | None:
        """Return who is signed in, or None."""
        ...

    async def leave(self, cookie: str) -> None:
        """End a browser session."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A person in one workspace: what the cookie of a workspace's own origin stands for."""

    person: Person
    workspace: WorkspaceId


class Doors(Protocol):
    """Ways into workspaces: one-time tickets, and the cookies that they become.

    A link (`Commands.workspace_link`) is what is sent to people. The pages' own origin spends it
    when a person presses the button, never on GET, and hands the browser over to the workspace's
    origin with a pass that nobody sees.

    Promises:

    1. Links and passes are for one person and one workspace, good once and for 60 seconds, each
       spent by one conditional UPDATE. `whose` spends nothing.
    2. A cookie opens its workspace alone, and no longer than the person may look at it.
    """

    async def whose(self, link: str) -> Guest | None:
        """Return whom a link lets in where; None if it is unknown, spent or over."""
        ...

    async def spend(self, link: str) -> str | None:
        """Spend a link; return a pass to its workspace's origin."""
        ...

    async def hand_over(self, person: Person, workspace: WorkspaceId) -> str:
        """Return a pass for a person who is signed in."""
        ...

    async def enter(self, handed: str) -> str | None:
        """Spend a pass; return the cookie of its workspace."""
        ...

    async def guest(self, cookie: str) -> Guest | None:
        """Return who is behind a workspace's cookie, or None."""
        ...
