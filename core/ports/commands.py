"""Port: what people can ask for. Called by every surface, implemented by `bot`.

Who asks comes first; whether they may is decided behind it. Everything that people can cause
is a `UserError` whose message is said to them.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from core.access import Person
from core.browse import Changes, Listing
from core.card import Card
from core.chat import Activity
from core.event import Event
from core.ids import (
    CopyId,
    DecisionId,
    NodeId,
    ProjectId,
    RecordingId,
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
class CopyView:
    """One rescue copy in short.

    Attributes:
        task_id: Empty if its workspace was made by hand.
        why: Whether its workspace was stopped, slept or was deleted.
        state: Of `core.rescue.CopyState`.
        expires_at: When it is removed; that of a stopped workspace goes with it.
        left_out: The first things that are not in it; `left_out_count` is the number of all.
    """

    id: CopyId
    workspace_id: WorkspaceId
    project: ProjectId
    task_id: TaskId
    why: str
    state: str
    branch: str
    head: str
    size_bytes: int
    made_at: datetime | None
    expires_at: datetime | None
    left_out: tuple[str, ...] = ()
    left_out_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceView:
    """One workspace in short.

    Attributes:
        task_id: Empty if it was made by hand.
        node_id: Empty while it is on no machine.
        keep_until: Until when it stays without a run; a stopped one, until when it is kept.
        size: Of `core.project.SIZES`.
        place: Its place among the workspaces that wait for a machine, from 1; else 0.
        copy: The copy that is being made or holds all of its work, while there is one.
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
    size: str = ""
    place: int = 0
    copy: CopyView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalView:
    """One tab of a workspace in short.

    Attributes:
        state: Of `core.terminal.TerminalState`.
        exit_code: Of the shell, minus a signal's number; None while it lives or if unknown.
        error: Why it could not be opened or how else it ended, as a sentence.
        session_id: The coding agent's session that is open in it; None for a shell.
    """

    id: TerminalId
    workspace_id: WorkspaceId
    title: str
    position: int
    state: str
    session_id: SessionId | None = None
    exit_code: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingView:
    """What can be watched again.

    Attributes:
        kind: `session` or `terminal`.
        state: `live` while more may come, `kept`, `lost` or `expired`.
        size_bytes: In the file store; 0 where it is made when it is asked for.
        sha256: Its name in the file store, empty where it is not there.
        error: Why it was lost, as a sentence.
        expires_at: When it goes; None where nobody has said.
    """

    id: RecordingId
    kind: str
    title: str
    state: str
    task_id: TaskId
    workspace_id: WorkspaceId
    began_at: datetime
    size_bytes: int = 0
    sha256: str = ""
    error: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatView:
    """One conversation of a workspace in short.

    Attributes:
        id: The task that it is; words, answers and stops go there.
        is_own: Whether it is the task that the workspace was made for: no chat, it stays.
        position: Place among the chats, from left to right.
        session_id: The newest coding agent's session; None before the first.
        error: Of one that has ended, why, as a sentence.
    """

    id: TaskId
    workspace_id: WorkspaceId
    title: str
    position: int
    state: Activity
    is_own: bool = False
    session_id: SessionId | None = None
    error: str = ""


When = Literal["", "idle", "now"]
"""When a busy coding agent's conversation goes to a terminal: not at all, once it is idle, or at
once, which interrupts it."""


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
        """Stop a task; what was done is kept. A chat only ends its turn, and goes on."""
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

    async def put_file(
        self,
        actor: Person,
        workspace: WorkspaceId,
        path: str,
        chunks: AsyncIterable[bytes],
        *,
        size_bytes: int = -1,
        replaces: bool = False,
    ) -> None:
        """Write a file of a workspace, whole or not at all; nothing is read before it is taken.

        Args:
            actor: Who asks.
            workspace: Where to.
            path: Percent-encoded, in a folder that is there; see `core.browse`.
            chunks: What is in it, at most `UPLOAD_BYTES_MAX`.
            size_bytes: How much will come; -1 where nobody knows.
            replaces: Whether a file that is there may be replaced; else it is `file_exists`.
        """
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

    async def open_session(
        self, actor: Person, session: SessionId, *, when: When = ""
    ) -> TerminalView:
        """Leave a coding agent's conversation to a terminal, once it is idle or now.

        One that the person has already is returned, and opened now if they say so.
        """
        ...

    async def return_session(self, actor: Person, session: SessionId) -> None:
        """End the terminal of a coding agent's conversation: the agent goes on by itself."""
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

    async def recordings(self, actor: Person, task: TaskId) -> Sequence[RecordingView]:
        """Return what can be watched again of a task, oldest first."""
        ...

    async def recording(self, actor: Person, recording: RecordingId) -> RecordingView:
        """Return one recording."""
        ...

    async def moment(self, actor: Person, session: SessionId, offset: int) -> float:
        """Return at which second of a session's recording the event at `offset` is shown."""
        ...

    def film(self, actor: Person, recording: RecordingId) -> AsyncGenerator[bytes]:
        """Read a recording as an asciicast. Iterating raises `NotFoundError` if there is none."""

    async def chats(self, actor: Person, workspace: WorkspaceId) -> Sequence[ChatView]:
        """Return the conversations of a workspace: its task's, then the chats that are open."""
        ...

    async def new_chat(
        self, actor: Person, workspace: WorkspaceId, text: str, *, surface: str, key: str
    ) -> ChatView:
        """Open a chat with its first words; the same `key` opens one. It begins by itself."""
        ...

    async def change_chat(
        self,
        actor: Person,
        chat: TaskId,
        *,
        title: str | None = None,
        position: int | None = None,
    ) -> None:
        """Give a chat's tab another title or another place; the others make room."""
        ...

    async def close_chat(self, actor: Person, chat: TaskId) -> None:
        """End a chat and take its tab away; its work stays. Closed already is fine."""
        ...

    async def workspace_link(self, actor: Person, workspace: WorkspaceId) -> str:
        """Return a one-time path by which this person enters a workspace: good for 60 s."""
        ...

    async def enrolment(self, actor: Person) -> str:
        """Return a new one-time token with which a machine joins."""
        ...

    async def new_workspace(
        self,
        actor: Person,
        project: ProjectId,
        *,
        size: str = "",
        branch: str = "",
        key: str = "",
    ) -> WorkspaceView:
        """Make a workspace without a task; the same key makes one.

        A branch that the code host has is continued; without one it gets a branch of its own.
        """
        ...

    async def stop_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        """Save a workspace and let its machine go. Stopped already is fine.

        This and what follows is refused while a run works in it.
        """
        ...

    async def restart_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        """Put a stopped workspace back on a machine. On its way already is fine."""
        ...

    async def rebuild_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        """Make the container of a ready workspace anew; its files stay."""
        ...

    async def delete_workspace(
        self, actor: Person, workspace: WorkspaceId, *, without_copy: bool = False
    ) -> None:
        """Save a workspace and remove it; the copy can be restored for some time.

        `without_copy` removes one that cannot be saved, with all that was not pushed.
        """
        ...

    async def copies(self, actor: Person) -> Sequence[CopyView]:
        """Return the rescue copies that can be restored, newest first."""
        ...

    async def restore(self, actor: Person, copy: CopyId, *, key: str = "") -> WorkspaceView:
        """Make a new workspace from a rescue copy; the same key makes one."""
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
