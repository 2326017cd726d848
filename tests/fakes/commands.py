"""People's commands and sign-in in memory, with levers for what a task does and what fails."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from bot.film import Film, seconds
from core.access import Person, may
from core.browse import Changes, Listing
from core.card import Card, Question, Result, Step
from core.errors import AppError, ForbiddenError, NotFoundError, UnavailableError, UserError
from core.event import Event
from core.ids import (
    CopyId,
    DecisionId,
    NodeId,
    PersonId,
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
from core.ports.commands import (
    ChatView,
    CopyView,
    Guest,
    Heard,
    Line,
    NodeView,
    RecordingView,
    RunLine,
    TaskView,
    TerminalView,
    When,
    Words,
    WorkspaceView,
)
from core.project import Project
from core.viewing import View
from core.wire import SessionDelta, SessionEvent
from tests.fakes.terminal import FakeTerminal

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
STEPS = ("Machine", "Workspace", "Agent", "Checks", "Pull request")


def a_person(role: Any = "admin", name: str = "Ana") -> Person:
    return Person(id=PersonId(f"person-{name.lower()}"), name=name, role=role, created_at=START)


class FakeCommands:
    """Port `Commands` in memory. Nothing happens to a task but by the levers below.

    Levers: `fail_next[method] = error`; `begin`, `step`, `change`, `speak`, `write`, `ask`,
    `finish` move a task; `calls` is what was asked for; `silent` sweeps; `shell` makes terminals,
    which stay `opening` while `opens` is not set.
    """

    def __init__(self) -> None:
        self.now = START
        self.fail_next: dict[str, AppError] = {}
        self.calls: list[tuple[str, Any]] = []
        self.views: dict[TaskId, TaskView] = {}
        self.facts: list[Event] = []
        self.told: dict[SessionId, list[SessionEvent]] = {}
        self.heard: dict[str, Heard] = {}
        self.machines: dict[NodeId, NodeView] = {}
        self.spaces: dict[WorkspaceId, WorkspaceView] = {}
        self.kept: dict[CopyId, CopyView] = {}
        self.logs: dict[WorkspaceId, str] = {}
        self.started: list[Start] = []
        self.folders: dict[str, Listing] = {}
        self.files: dict[str, bytes] = {}
        self.changed = Changes(base="9f2c1ab0d3")
        self.known = [
            Project(id=ProjectId("web"), repository="acme/web"),
            Project(id=ProjectId("till"), repository="acme/till", size="medium"),
        ]
        self.links = 0
        self.silent: list[str] = []
        self.reads = 0
        self.tabs: dict[TerminalId, TerminalView] = {}
        self.terminals_of: dict[TerminalId, FakeTerminal] = {}
        self.shell: Callable[[], FakeTerminal] = FakeTerminal
        self.opens = True
        self.talks: dict[TaskId, ChatView] = {}
        self.doors = FakeDoors()
        self.casts: dict[RecordingId, str] = {}
        self.recorded: dict[RecordingId, RecordingView] = {}
        self._listeners: dict[SessionId, list[asyncio.Queue[SessionDelta]]] = {}

    # Levers

    def tick(self, seconds: float = 1.0) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def fact(self, kind: str, task: TaskId, **data: Any) -> None:
        self.facts.append(
            Event(
                kind=kind,
                subject=f"task:{task}",
                at=self.tick(),
                seq=len(self.facts) + 1,
                task_id=task,
                data=data,
            )
        )

    def change(self, task: TaskId, **values: Any) -> None:
        view = self.views[task]
        self.views[task] = replace(view, card=replace(view.card, **values))
        self.fact("task.changed", task)

    def line(
        self, task: TaskId, by: str, text: str, kind: str = "message", receipt: str = ""
    ) -> None:
        view = self.views[task]
        line = Line(at=self.tick(), by=by, kind=kind, text=text, receipt=receipt)
        self.views[task] = replace(view, lines=(*view.lines, line))
        self.fact("thread.said", task)

    def receipt(self, task: TaskId, index: int, receipt: str) -> None:
        view = self.views[task]
        lines = list(view.lines)
        lines[index] = replace(lines[index], receipt=receipt)
        self.views[task] = replace(view, lines=tuple(lines))
        self.fact("prompt.moved", task)

    def talk(self, task: TaskId, workspace: WorkspaceId, *, is_own: bool = False) -> ChatView:
        """Make a task a conversation of a workspace: a chat, or the task's own."""
        chats = [view for view in self.talks.values() if not view.is_own]
        self.talks[task] = ChatView(
            id=task,
            workspace_id=workspace,
            title=self.views[task].card.title,
            position=0 if is_own else len(chats),
            state="idle",
            is_own=is_own,
        )
        return self._talk(self.talks[task])

    def _talk(self, view: ChatView) -> ChatView:
        card, told = self.views[view.id].card, self.told.get(self.session(view.id), [])
        states = [event.data["state"] for event in told if event.kind == "session.state"]
        state: Any = "busy" if states[-1:] == ["busy"] else "idle"
        if card.state in {"done", "failed", "cancelled"}:
            state = "ended"
        elif card.run_state == "asking":
            state = "asking"
        error = card.result.advice if card.result and state == "ended" else ""
        return replace(view, state=state, session_id=self.session(view.id), error=error)

    def begin(self, task: TaskId, workspace: WorkspaceId | None = None) -> SessionId:
        """Start a run with an agent session and return the session."""
        view = self.views[task]
        number = len(view.runs) + 1
        session = SessionId(f"00000000-0000-4000-8000-{int(task[2:]):06d}{number:06d}")
        run = RunLine(
            id=RunId(f"{task}.{number}"),
            state="working",
            outcome="",
            reason="",
            session_id=session,
            created_at=self.tick(),
            ended_at=None,
        )
        self.views[task] = replace(view, runs=(*view.runs, run))
        self.told[session] = []
        if workspace is None:
            workspace = WorkspaceId(f"k3v9x2{int(task[2:]) % 100:02d}")
            self.space(workspace, task)
        self.change(
            task,
            state="active",
            run_state="working",
            run_id=run.id,
            workspace_id=workspace,
            can_stop=True,
            steps=tuple(Step(name=name, mark="todo") for name in STEPS),
        )
        return session

    def space(self, workspace: WorkspaceId, task: TaskId) -> None:
        self.spaces[workspace] = WorkspaceView(
            id=workspace,
            project=self.views[task].project,
            task_id=task,
            node_id=NodeId("node-3f9c1ab2"),
            state="ready",
            branch=f"samovar/{task}-fix",
            recovered="",
            error="",
            keep_until=None,
            size="small",
        )

    def step(self, task: TaskId, name: str, mark: Any, text: str = "", **values: Any) -> None:
        steps = tuple(
            replace(step, mark=mark, text=text, **values) if step.name == name else step
            for step in self.views[task].card.steps
        )
        self.change(task, steps=steps)

    def session(self, task: TaskId) -> SessionId:
        found = self.views[task].runs[-1].session_id
        assert found is not None
        return found

    def speak(self, task: TaskId, kind: str, /, **data: Any) -> SessionEvent:
        """Let the coding agent of the newest run do something."""
        session = self.session(task)
        told = self.told[session]
        event = SessionEvent(
            session=session,
            run=self.views[task].runs[-1].id,
            offset=told[-1].offset + 137 if told else 0,
            kind=kind,
            at=self.tick().isoformat(),
            data=data,
        )
        told.append(event)
        return event

    def write(self, task: TaskId, message: str, text: str) -> None:
        """Let the coding agent write some text that is not yet an event."""
        session = self.session(task)
        for queue in self._listeners.get(session, []):
            queue.put_nowait(SessionDelta(session=session, message=message, text=text))

    def ask(self, task: TaskId, kind: str = "question", **values: Any) -> DecisionId:
        view = self.views[task]
        decision = DecisionId(f"{self.session(task)}:req-{len(view.card.questions) + 1}")
        values.setdefault("title", "The coding agent asks")
        values.setdefault("detail", "")
        values.setdefault("questions", ())
        question = Question(id=decision, kind=kind, is_open=True, **values)
        self.change(
            task,
            state="waiting",
            run_state="asking",
            questions=(*view.card.questions, question),
        )
        return decision

    def finish(self, task: TaskId, result: Result, state: str = "done", pull_url: str = "") -> None:
        view = self.views[task]
        runs = (
            *view.runs[:-1],
            replace(
                view.runs[-1],
                state="ended",
                outcome=result.outcome,
                reason=result.headline,
                ended_at=self.tick(),
            ),
        )
        self.views[task] = replace(view, runs=runs)
        self.line(task, "samovar", result.headline, kind="end")
        self.change(
            task, state=state, run_state="", result=result, pull_url=pull_url, can_stop=False
        )

    async def deltas(self, session: SessionId) -> AsyncIterator[SessionDelta]:
        queue: asyncio.Queue[SessionDelta] = asyncio.Queue()
        self._listeners.setdefault(session, []).append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners[session].remove(queue)

    def listening(self, session: SessionId) -> int:
        return len(self._listeners.get(session, []))

    # Port

    def _asked(self, actor: Person, verb: Any, method: str, what: Any = None) -> None:
        self.calls.append((method, what))
        error = self.fail_next.pop(method, None)
        if error is not None:
            raise error
        if not may(actor, verb):
            raise ForbiddenError(f"{actor.name} may not do this.")

    def _view(self, task: TaskId) -> TaskView:
        if task not in self.views:
            raise NotFoundError(f"There is no task {task}.")
        return self.views[task]

    async def say(self, actor: Person, words: Words) -> Heard:
        self._asked(actor, "start", "say", words)
        if words.key in self.heard:
            return self.heard[words.key]
        if not words.text.strip():
            raise UserError("Say what should be done.")
        heard = self._follow_up(actor, words) if words.thread else self._new_task(actor, words)
        self.heard[words.key] = heard
        return heard

    def _new_task(self, actor: Person, words: Words) -> Heard:
        number = len(self.views) + 1
        task, thread = TaskId(f"T-{number}"), ThreadId(f"{words.surface}:{words.channel}:{number}")
        project = words.project or ProjectId("web")
        card = Card(
            task_id=task,
            title=words.text.splitlines()[0][:80],
            state="queued",
            facts=(f"acme/{project} @ main", "small", f"asked by {actor.name}", "budget $3.00"),
            position=1,
            page_url=f"/tasks/{task}",
        )
        self.views[task] = TaskView(
            card=card,
            project=project,
            thread=thread,
            prompt=words.text,
            asked_by=actor.name,
            created_at=self.tick(),
            lines=(Line(at=self.now, by=actor.name, kind="message", text=words.text),),
            runs=(),
        )
        self.fact("task.queued", task)
        return Heard(thread=thread, task_id=task)

    def _follow_up(self, actor: Person, words: Words) -> Heard:
        for task, view in self.views.items():
            if view.thread == words.thread:
                receipt = "waits until the agent is idle" if words.when_idle else "accepted"
                self.line(task, actor.name, words.text, receipt=receipt)
                return Heard(thread=view.thread, task_id=task)
        raise NotFoundError("There is no such thread.")

    async def answer(
        self,
        actor: Person,
        decision: DecisionId,
        *,
        surface: str,
        allow: bool = True,
        answers: Mapping[str, str] | None = None,
    ) -> None:
        self._asked(actor, "answer", "answer", (decision, surface, allow, answers))
        for task, view in self.views.items():
            for question in view.card.questions:
                if question.id == decision:
                    self._answer(actor, task, question, allow, answers)
                    return
        raise NotFoundError("There is no such question.")

    def _answer(
        self,
        actor: Person,
        task: TaskId,
        question: Question,
        allow: bool,
        answers: Mapping[str, str] | None,
    ) -> None:
        if not question.is_open:
            raise UserError(f"{question.answered_by} answered first: {question.answer}")
        said = ", ".join(answers.values()) if answers else ("allowed" if allow else "denied")
        closed = replace(question, is_open=False, answer=said, answered_by=actor.name)
        questions = tuple(
            closed if other.id == question.id else other
            for other in self.views[task].card.questions
        )
        self.change(task, questions=questions, state="active", run_state="working")

    async def stop(self, actor: Person, task: TaskId) -> None:
        self._asked(actor, "stop", "stop", task)
        view = self._view(task)
        if task in self.talks and not self.talks[task].is_own:
            self.speak(task, "turn.end", ok=False, code="interrupted", text="Stopped.")
            self.speak(task, "session.state", state="idle", reason="")
        elif view.card.can_stop:
            self.change(task, can_stop=False)
            if view.runs:
                self.finish(
                    task,
                    Result(outcome="cancelled", headline=f"Stopped by {actor.name}."),
                    state="cancelled",
                )

    async def folder(self, actor: Person, workspace: WorkspaceId, path: str) -> Listing:
        self._asked(actor, "look", "folder", (workspace, path))
        if path not in self.folders:
            raise NotFoundError(f"There is no {path} in the workspace now.")
        return self.folders[path]

    async def file(self, actor: Person, workspace: WorkspaceId, path: str) -> AsyncGenerator[bytes]:
        self._asked(actor, "look", "file", (workspace, path))
        if path not in self.files:
            raise NotFoundError(f"There is no {path} in the workspace now.")
        data = self.files[path]
        for start in range(0, len(data), 65536):
            yield data[start : start + 65536]

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
        self._asked(actor, "steer", "put_file", (workspace, path, size_bytes, replaces))
        if path in self.files and not replaces:
            raise UserError(f"{path} is there already.", code="file_exists")
        self.files[path] = b"".join([chunk async for chunk in chunks])

    async def locate(self, actor: Person, session: SessionId, path: str) -> tuple[WorkspaceId, str]:
        self._asked(actor, "look", "locate", (session, path))
        if not path.startswith("/workspaces/web/"):
            raise NotFoundError(f"{path} is not in the workspace's checkout.")
        return next(iter(self.spaces)), quote(path.removeprefix("/workspaces/web/"))

    async def changes(self, actor: Person, workspace: WorkspaceId) -> Changes:
        self._asked(actor, "look", "changes", workspace)
        return self.changed

    async def starts(self, actor: Person, project: ProjectId) -> Sequence[Start]:
        self._asked(actor, "look", "starts", project)
        return self.started

    async def projects(self, actor: Person) -> Sequence[Project]:
        self._asked(actor, "look", "projects")
        return self.known

    async def tasks(
        self, actor: Person, *, project: ProjectId | None = None, limit: int = 50
    ) -> Sequence[Card]:
        self._asked(actor, "look", "tasks")
        views = [view for view in self.views.values() if project in {None, view.project}]
        return [view.card for view in reversed(views)][:limit]

    async def task(self, actor: Person, task: TaskId) -> TaskView:
        self._asked(actor, "look", "task", task)
        return self._view(task)

    async def events(
        self, actor: Person, *, after: int, limit: int = 500, task: TaskId | None = None
    ) -> Sequence[Event]:
        self.reads += 1
        self._asked(actor, "look", "events")
        found = self.facts[max(0, after) :]
        return [event for event in found if task in {None, event.task_id}][:limit]

    async def session_events(
        self, actor: Person, session: SessionId, *, after: int, limit: int = 500
    ) -> Sequence[SessionEvent]:
        self.reads += 1
        self._asked(actor, "look", "session_events")
        if session not in self.told:
            raise NotFoundError("There is no such agent session.")
        told = self.told[session]
        first = next((n for n, event in enumerate(told) if event.offset > after), len(told))
        return told[first : first + limit]

    async def build_log(self, actor: Person, workspace: WorkspaceId) -> str:
        self._asked(actor, "look", "build_log")
        if workspace not in self.spaces:
            raise NotFoundError("There is no such workspace.")
        return self.logs.get(workspace, "")

    async def nodes(self, actor: Person) -> Sequence[NodeView]:
        self._asked(actor, "look", "nodes")
        return list(self.machines.values())

    async def workspaces(self, actor: Person) -> Sequence[WorkspaceView]:
        self._asked(actor, "look", "workspaces")
        return list(self.spaces.values())

    async def workspace(self, actor: Person, workspace: WorkspaceId) -> WorkspaceView:
        self._asked(actor, "look", "workspace", workspace)
        return self._space(workspace)

    def _space(self, workspace: WorkspaceId) -> WorkspaceView:
        if workspace not in self.spaces:
            raise NotFoundError(f"There is no workspace {workspace}.")
        return self.spaces[workspace]

    def lose_workspace(self, workspace: WorkspaceId) -> None:
        self.spaces[workspace] = replace(self.spaces[workspace], state="gone")

    async def terminals(self, actor: Person, workspace: WorkspaceId) -> Sequence[TerminalView]:
        self._asked(actor, "look", "terminals", workspace)
        found = [self._tab(tab) for tab in self.tabs.values() if tab.workspace_id == workspace]
        return sorted(found, key=lambda tab: tab.position)

    def _tab(self, tab: TerminalView) -> TerminalView:
        terminal = self.terminals_of[tab.id]
        if terminal.exit_code is not None:
            return replace(tab, state="exited", exit_code=terminal.exit_code)
        return tab

    async def open_terminal(
        self, actor: Person, workspace: WorkspaceId, *, title: str = ""
    ) -> TerminalView:
        self._asked(actor, "steer", "open_terminal", workspace)
        number = len(self.terminals_of) + 1
        terminal = TerminalId(f"{workspace}.t{number}")
        tab = TerminalView(
            id=terminal,
            workspace_id=workspace,
            title=title or f"Shell {number}",
            position=len(self.tabs),
            state="open" if self.opens else "opening",
        )
        self.terminals_of[terminal] = self.shell()
        if self.opens:
            await self.terminals_of[terminal].open()
        self.tabs[terminal] = tab
        return tab

    async def open_session(
        self, actor: Person, session: SessionId, *, when: When = ""
    ) -> TerminalView:
        self._asked(actor, "steer", "open_session", (session, when))
        for tab in self.tabs.values():
            if tab.session_id == session:
                return tab
        if not when:
            raise UserError("The agent is at work.", code="agent_busy")
        made = await self.open_terminal(actor, next(iter(self.spaces)), title="Claude")
        state = made.state if when == "now" else "waiting"
        self.tabs[made.id] = replace(made, session_id=session, state=state)
        return self.tabs[made.id]

    async def return_session(self, actor: Person, session: SessionId) -> None:
        self._asked(actor, "steer", "return_session", session)
        for tab in [tab for tab in self.tabs.values() if tab.session_id == session]:
            await self.close_terminal(actor, tab.id)

    async def change_terminal(
        self,
        actor: Person,
        terminal: TerminalId,
        *,
        title: str | None = None,
        position: int | None = None,
    ) -> None:
        self._asked(actor, "steer", "change_terminal", (terminal, title, position))
        tab = self.tabs[terminal]
        if title is not None:
            self.tabs[terminal] = replace(tab, title=title)
        if position is not None:
            order = list(await self.terminals(actor, tab.workspace_id))
            mine = next(one for one in order if one.id == terminal)
            order.remove(mine)
            order.insert(position, mine)
            for n, one in enumerate(order):
                self.tabs[one.id] = replace(self.tabs[one.id], position=n)

    async def close_terminal(self, actor: Person, terminal: TerminalId) -> None:
        self._asked(actor, "steer", "close_terminal", terminal)
        if self.tabs.pop(terminal, None) is not None:
            await self.terminals_of[terminal].close()

    @asynccontextmanager
    async def view_terminal(self, actor: Person, terminal: TerminalId) -> AsyncIterator[View]:
        self._asked(actor, "look", "view_terminal", terminal)
        if terminal not in self.tabs:
            raise NotFoundError("That terminal is not here any more.")
        if self.tabs[terminal].state == "opening":
            raise UnavailableError("node", "The terminal is being opened.")
        view = self.terminals_of[terminal].look(actor.name, writes=may(actor, "steer"))
        try:
            yield view
        finally:
            self.terminals_of[terminal].left(view)

    async def recordings(self, actor: Person, task: TaskId) -> Sequence[RecordingView]:
        self._asked(actor, "look", "recordings", task)
        view = self._view(task)
        sessions = [run.session_id for run in view.runs if run.session_id]
        made = [self._session_recording(session, task) for session in sessions]
        return [*made, *(one for one in self.recorded.values() if one.task_id == task)]

    def _session_recording(self, session: SessionId, task: TaskId) -> RecordingView:
        return RecordingView(
            id=RecordingId(session),
            kind="session",
            title=f"Agent, run {task}.{len(self._view(task).runs)}",
            state="live",
            task_id=task,
            workspace_id=self._view(task).card.workspace_id or WorkspaceId(""),
            began_at=datetime.fromisoformat(self.told[session][0].at),
        )

    async def recording(self, actor: Person, recording: RecordingId) -> RecordingView:
        self._asked(actor, "look", "recording", recording)
        for task in self.views:
            for one in await self.recordings(actor, task):
                if one.id == recording:
                    return one
        raise NotFoundError(f"There is no recording {recording}.")

    async def moment(self, actor: Person, session: SessionId, offset: int) -> float:
        self._asked(actor, "look", "moment", session)
        events = self.told[session]
        found = next(event for event in events if event.offset >= offset)
        return seconds(events[0], found)

    async def film(self, actor: Person, recording: RecordingId) -> AsyncGenerator[bytes]:
        self._asked(actor, "look", "film", recording)
        if recording in self.told:
            yield Film().lines(self.told[SessionId(recording)]).encode()
        elif recording in self.casts:
            yield self.casts[recording].encode()
        else:
            raise NotFoundError(f"The recording of {recording} could not be kept: it is gone.")

    async def chats(self, actor: Person, workspace: WorkspaceId) -> Sequence[ChatView]:
        self._asked(actor, "look", "chats", workspace)
        found = [self._talk(one) for one in self.talks.values() if one.workspace_id == workspace]
        return sorted(found, key=lambda view: (not view.is_own, view.position))

    async def new_chat(
        self, actor: Person, workspace: WorkspaceId, text: str, *, surface: str, key: str
    ) -> ChatView:
        self._asked(actor, "start", "new_chat", (workspace, text, surface, key))
        if not text.strip():
            raise UserError("Say what the chat is about: the message is empty.")
        known = f"{workspace}:{key}"
        if known not in self.heard:
            words = Words(key=known, surface=surface, channel=workspace, message=key, text=text)
            self.heard[known] = self._new_task(actor, words)
            made = self.heard[known].task_id
            assert made is not None
            self.begin(made, workspace)
            self.talk(made, workspace)
        opened = self.heard[known].task_id
        assert opened is not None
        return self._talk(self.talks[opened])

    async def change_chat(
        self,
        actor: Person,
        chat: TaskId,
        *,
        title: str | None = None,
        position: int | None = None,
    ) -> None:
        self._asked(actor, "steer", "change_chat", (chat, title, position))
        if title is not None:
            self.talks[chat] = replace(self.talks[chat], title=title)
        if position is not None:
            order = await self.chats(actor, self.talks[chat].workspace_id)
            order = [view.id for view in order if not view.is_own and view.id != chat]
            order.insert(position, chat)
            for n, one in enumerate(order):
                self.talks[one] = replace(self.talks[one], position=n)

    async def close_chat(self, actor: Person, chat: TaskId) -> None:
        self._asked(actor, "stop", "close_chat", chat)
        self.talks.pop(chat, None)

    async def end_terminals(self) -> None:
        for terminal in self.terminals_of.values():
            await terminal.close()

    async def workspace_link(self, actor: Person, workspace: WorkspaceId) -> str:
        self._asked(actor, "look", "workspace_link", workspace)
        return f"/enter?link={self.doors.link(actor, workspace)}"

    async def enrolment(self, actor: Person) -> str:
        self._asked(actor, "manage", "enrolment")
        return "enrol-0123456789abcdef"

    async def new_workspace(
        self,
        actor: Person,
        project: ProjectId,
        *,
        size: str = "",
        branch: str = "",
        key: str = "",
    ) -> WorkspaceView:
        self._asked(actor, "start", "new_workspace", (project, size, branch))
        if project not in {known.id for known in self.known}:
            raise NotFoundError(f"There is no project {project}.")
        return self._by_hand(project, size=size, branch=branch, key=key)

    def _by_hand(self, project: ProjectId, *, size: str, branch: str, key: str) -> WorkspaceView:
        made = WorkspaceId(f"hand{key}" if key else f"hand{len(self.spaces):04d}")
        self.spaces.setdefault(
            made,
            WorkspaceView(
                id=made,
                project=project,
                task_id=TaskId(""),
                node_id=NodeId(""),
                state="requested",
                branch=branch or f"samovar/ws-{made}",
                recovered="",
                error="",
                keep_until=None,
                size=size or "small",
                place=1,
            ),
        )
        return self.spaces[made]

    def rest(self, workspace: WorkspaceId, why: str = "stopped") -> CopyView:
        """Let a workspace be stopped, with its copy."""
        known = self._space(workspace)
        copy = CopyView(
            id=CopyId(f"{workspace}-1"),
            workspace_id=workspace,
            project=known.project,
            task_id=known.task_id,
            why=why,
            state="kept",
            branch=known.branch,
            head="9f2c1ab0d3" * 4,
            size_bytes=48_200_000,
            made_at=self.now,
            expires_at=self.now + timedelta(days=30),
            left_out=("node_modules", ".venv"),
            left_out_count=2,
        )
        self.kept[copy.id] = copy
        self.spaces[workspace] = replace(
            known, state="stopped", node_id=NodeId(""), keep_until=copy.expires_at, copy=copy
        )
        return copy

    def fails(self, workspace: WorkspaceId, error: str) -> None:
        """Let something not work in a workspace."""
        self.spaces[workspace] = replace(self._space(workspace), error=error)

    async def stop_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        self._asked(actor, "stop", "stop_workspace", workspace)
        self.rest(workspace)

    async def restart_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        self._asked(actor, "steer", "restart_workspace", workspace)
        known = self._space(workspace)
        self.spaces[workspace] = replace(known, state="requested", keep_until=None, place=1)

    async def rebuild_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        self._asked(actor, "steer", "rebuild_workspace", workspace)
        self.spaces[workspace] = replace(self._space(workspace), state="building")

    async def copies(self, actor: Person) -> Sequence[CopyView]:
        self._asked(actor, "look", "copies")
        return list(self.kept.values())

    async def restore(self, actor: Person, copy: CopyId, *, key: str = "") -> WorkspaceView:
        self._asked(actor, "start", "restore", copy)
        if copy not in self.kept:
            raise NotFoundError(f"There is no rescue copy {copy} any more.")
        known = self.kept[copy]
        return self._by_hand(known.project, size="", branch=known.branch, key=key)

    async def delete_workspace(
        self, actor: Person, workspace: WorkspaceId, *, without_copy: bool = False
    ) -> None:
        what = "discard_workspace" if without_copy else "delete_workspace"
        self._asked(actor, "manage", what, workspace)
        if self.spaces.pop(workspace, None) is None:
            raise NotFoundError("There is no such workspace.")

    async def delete_node(self, actor: Person, node: NodeId) -> None:
        self._asked(actor, "manage", "delete_node", node)
        if self.machines.pop(node, None) is None:
            raise NotFoundError("There is no such node.")

    def silent_sweeps(self) -> Sequence[str]:
        return self.silent

    async def sign_in_link(self, actor: Person) -> str:
        self._asked(actor, "look", "sign_in_link")
        self.links += 1
        return f"/sign-in?token=one-time-{self.links}"


class FakeSignIn:
    """Port `SignIn` in memory. `tokens` maps what may be redeemed to whose it is."""

    def __init__(self) -> None:
        self.tokens: dict[str, Person] = {}
        self.cookies: dict[str, Person] = {}
        self.redeemed: list[str] = []

    def signed_in(self, person: Person) -> str:
        cookie = f"cookie-of-{person.id}"
        self.cookies[cookie] = person
        return cookie

    async def redeem(self, token: str) -> str | None:
        self.redeemed.append(token)
        person = self.tokens.pop(token, None)
        return None if person is None else self.signed_in(person)

    async def person(self, cookie: str) -> Person | None:
        return self.cookies.get(cookie)

    async def leave(self, cookie: str) -> None:
        self.cookies.pop(cookie, None)


class FakeDoors:
    """Port `Doors` in memory: what opens what, once. `expire` ends all that was not spent."""

    def __init__(self) -> None:
        self.links: dict[str, Guest] = {}
        self.passes: dict[str, Guest] = {}
        self.cookies: dict[str, Guest] = {}
        self._count = 0

    def link(self, person: Person, workspace: WorkspaceId) -> str:
        return self._cut(self.links, Guest(person=person, workspace=workspace), "link")

    def expire(self) -> None:
        self.links.clear()
        self.passes.clear()

    def _cut(self, of: dict[str, Guest], guest: Guest, kind: str) -> str:
        self._count += 1
        secret = f"{kind}-{self._count}-of-{guest.person.name}"
        of[secret] = guest
        return secret

    async def whose(self, link: str) -> Guest | None:
        return self.links.get(link)

    async def spend(self, link: str) -> str | None:
        guest = self.links.pop(link, None)
        return None if guest is None else self._cut(self.passes, guest, "pass")

    async def hand_over(self, person: Person, workspace: WorkspaceId) -> str:
        return self._cut(self.passes, Guest(person=person, workspace=workspace), "pass")

    async def enter(self, handed: str) -> str | None:
        guest = self.passes.pop(handed, None)
        return None if guest is None else self._cut(self.cookies, guest, "cookie")

    async def guest(self, cookie: str) -> Guest | None:
        return self.cookies.get(cookie)


def a_machine(name: str = "node-3f9c1ab2", **values: Any) -> NodeView:
    shown: dict[str, Any] = {
        "supplier": "local",
        "state": "ready",
        "link": "up",
        "agent": "0.1.0",
        "cpus": 2.0,
        "memory_mb": 8192,
        "load": 0.42,
        "memory_free_mb": 5120,
        "disk_free_mb": 40960,
        "workspaces": (WorkspaceId("k3v9x201"),),
        "seen_at": START,
        "warm_until": None,
    }
    return NodeView(id=NodeId(name), **{**shown, **values})


def a_result(**values: Any) -> Result:
    shown: dict[str, Any] = {
        "outcome": "pull_request",
        "headline": "PR #3 Fix rounding in cart totals (draft)",
        "says": "12 tests added, suite green.",
        "measured": ("Measured at 9f2c1ab in a clean container.",),
        "added": 48,
        "removed": 12,
        "files": 3,
        "wait_s": 9.0,
        "work_s": 358.0,
        "checks_s": 65.0,
    }
    return Result(**{**shown, **values})


MONEY = Decimal("0.84")
