"""Stand-in parts of a node: workspaces and coding agents that play a script.

`World` is what outlives a node agent: containers, processes, the code host. `PlayedWorkspaces` and
`PlayedDriver` are one life's hold on it, and may be killed at any call by `World.fuse`.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.driver import Journal, Program
from agent.errors import NodeError
from agent.place import Place
from core.ids import SessionId, TerminalId, WorkspaceId
from core.wire import (
    Checked,
    CheckResult,
    CloseTerminal,
    Collect,
    Collected,
    CreateWorkspace,
    DropCopy,
    FileChange,
    Json,
    OpenTerminal,
    Push,
    Pushed,
    RunChecks,
    Saved,
    SaveWorkspace,
    SessionEvent,
    StartSession,
    WorkspaceReady,
    WorkspaceStep,
)

STEPS = ("fetch", "tree", "policy", "build", "start", "hooks", "probe")
AT = "2026-01-02T03:04:05+00:00"


@dataclass(frozen=True)
class Say:
    """The coding agent writes a message."""

    text: str


@dataclass(frozen=True)
class Commit:
    """The coding agent commits."""

    text: str = "work"


@dataclass(frozen=True)
class Ask:
    """The coding agent asks and goes on when it was answered."""

    text: str
    kind: str = "question"


@dataclass(frozen=True)
class Report:
    """Any other event."""

    kind: str
    data: Json


@dataclass(frozen=True)
class Pause:
    """Nothing happens for so long on the world's clock."""

    s: float


@dataclass(frozen=True)
class Die:
    """The process of the coding agent ends."""

    exit_code: int = 1


Step = Say | Commit | Ask | Report | Pause | Die
Script = Callable[[str], Sequence[Step]]
"""What the coding agent does about a prompt's text."""


def usual(_: str) -> Sequence[Step]:
    return (Say("I look."), Commit(), Report("complete", {"summary": "It is done."}))


class Killed(BaseException):
    """The node agent was killed at this call."""


async def at_once(_: float) -> None:
    """A clock on which nothing takes time."""
    await asyncio.sleep(0)


@dataclass
class Process:
    """A coding agent: its journal on disk and where it is in its script."""

    order: StartSession
    journal: list[SessionEvent] = field(default_factory=list)
    prompts: dict[str, str] = field(default_factory=dict)
    todo: list[tuple[str, Step | None]] = field(default_factory=list)
    question: str = ""
    holder: str = ""
    answers: dict[str, Json] = field(default_factory=dict)
    starts: int = 1
    is_stopped: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, kind: str, /, **data: object) -> None:
        event = SessionEvent(
            session=self.order.session,
            run=self.order.run,
            offset=len(self.journal) + 1,
            kind=kind,
            at=AT,
            data=dict(data),
        )
        self.journal.append(event)

    @property
    def has_ended(self) -> bool:
        last = [e for e in self.journal if e.kind == "session.state"][-1:]
        return bool(last) and last[0].data["state"] == "ended"


@dataclass
class Workspace:
    order: CreateWorkspace
    commits: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1] if self.commits else sha(self.order.url)


def sha(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


@dataclass
class World:
    """What outlives a node agent, with levers.

    `script` what coding agents do; `fail_next[verb]` errors that the next calls raise, in order;
    `took_s[verb]` how long a verb takes on `sleep`; `check_codes[command]` exit codes;
    `fuse(where)` is called before and after every effect and may raise `Killed`.
    """

    script: Script = usual
    sleep: Callable[[float], Awaitable[None]] = at_once
    fuse: Callable[[str], None] = lambda _: None
    fail_next: dict[str, list[NodeError]] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)
    check_codes: dict[str, int] = field(default_factory=dict)
    workspaces: dict[WorkspaceId, Workspace] = field(default_factory=dict)
    processes: dict[SessionId, Process] = field(default_factory=dict)
    remote: dict[tuple[str, str], str] = field(default_factory=dict)
    pushes: list[Push] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def begin(self, verb: str) -> None:
        self.calls.append(verb)
        self.fuse(f"before {verb}")
        if verb in self.took_s:
            await self.sleep(self.took_s[verb])
        if self.fail_next.get(verb):
            raise self.fail_next[verb].pop(0)

    def end(self, verb: str) -> None:
        self.fuse(f"after {verb}")

    def live(self) -> Sequence[SessionId]:
        """Return the sessions whose process runs (G6)."""
        return [ident for ident, process in self.processes.items() if not process.has_ended]


class PlayedWorkspaces:
    """`agent.host.WorkspaceKeeper` over a `World`."""

    def __init__(self, world: World, tell: Callable[[WorkspaceStep], Awaitable[None]]) -> None:
        self._world = world
        self._tell = tell

    def ids(self) -> Sequence[WorkspaceId]:
        return list(self._world.workspaces)

    async def create(self, order: CreateWorkspace) -> WorkspaceReady:
        await self._world.begin("create")
        known = self._world.workspaces.get(order.workspace)
        if known is None or known.order.attempt < order.attempt:
            for step in STEPS:
                await self._step(order, step)
            kept = known.commits if known else []
            known = self._world.workspaces[order.workspace] = Workspace(order, kept)
        self._world.end("create")
        return WorkspaceReady(
            workspace=order.workspace,
            attempt=order.attempt,
            container=f"c-{order.workspace}",
            user="dev",
            folder="/workspaces/web",
            base=order.base or "main",
            base_commit=sha(order.url),
            token_hash=hashlib.sha256(f"token-{order.workspace}".encode()).hexdigest(),
        )

    async def _step(self, order: CreateWorkspace, step: str) -> None:
        for state in ("started", "done"):
            await self._tell(
                WorkspaceStep(
                    workspace=order.workspace,
                    attempt=order.attempt,
                    step=step,
                    state="started" if state == "started" else "done",
                    at=AT,
                )
            )
            await self._world.begin(f"step {step}")

    async def save(self, order: SaveWorkspace) -> Saved:
        await self._world.begin("save")
        found = self._find(order.workspace)
        self._world.end("save")
        return Saved(
            sha256=hashlib.sha256(found.head.encode()).hexdigest(),
            size_bytes=1,
            branch=found.order.branch,
            head=found.head,
            base_commit=sha(found.order.url),
        )

    async def drop(self, order: DropCopy) -> None:
        await self._world.begin("drop")

    async def delete(self, workspace: WorkspaceId, *, discards: bool = False) -> None:
        await self._world.begin("delete")
        self._world.workspaces.pop(workspace, None)
        for process in self._world.processes.values():
            if process.order.workspace == workspace and not process.has_ended:
                process.write("session.state", state="ended", reason="workspace_gone")
                process.changed.set()
        self._world.end("delete")

    async def place(self, workspace: WorkspaceId) -> Place:
        self._find(workspace)
        return Place(
            container=f"c-{workspace}",
            user="dev",
            uid=1000,
            gid=1000,
            folder="/workspaces/web",
            env={},
            run_dir=Path("/nowhere"),
            config_dir="/run/samovar/claude",
            token=f"token-{workspace}",
            claude="/opt/claude",
        )

    async def collect(self, order: Collect) -> Collected:
        await self._world.begin("collect")
        found = self._find(order.workspace)
        wish = found.order
        self._world.end("collect")
        return Collected(
            head=found.head,
            base_commit=sha(wish.url),
            remote=self._world.remote.get((wish.repository, wish.branch), ""),
            commits=len(found.commits),
            files=(FileChange(path="a.py", added=1, removed=0),) if found.commits else (),
        )

    async def check(self, order: RunChecks) -> Checked:
        await self._world.begin("check")
        self._find(order.workspace)
        codes = self._world.check_codes
        results = tuple(
            CheckResult(command=command, exit_code=codes.get(command, 0), took_s=1.0, tail="ok")
            for command in order.commands
        )
        self._world.end("check")
        return Checked(commit=order.commit, results=results)

    async def push(self, order: Push) -> Pushed:
        await self._world.begin("push")
        wish = self._find(order.workspace).order
        if self._world.remote.get((wish.repository, order.branch)) != order.commit:
            self._world.remote[wish.repository, order.branch] = order.commit
            self._world.pushes.append(order)
        self._world.end("push")
        return Pushed(commit=order.commit, branch=order.branch)

    async def run(self) -> None:
        await asyncio.Event().wait()

    def _find(self, workspace: WorkspaceId) -> Workspace:
        if workspace not in self._world.workspaces:
            raise NodeError("workspace_gone", f"{workspace} is not on this node")
        return self._world.workspaces[workspace]


class PlayedDriver:
    """`agent.driver.AgentDriver` over a `World`: the process goes on where it was."""

    def __init__(self, world: World, journal: Journal, order: StartSession) -> None:
        self._world = world
        self._journal = journal
        self._order = order
        self._is_up = asyncio.Event()
        self._process: Process | None = None
        self._is_stopping = False

    async def run(self) -> None:
        await self._world.begin("start")
        process = await self._attach()
        self._world.end("start")
        if process is None:
            return
        await self._deliver_noted(process)
        while True:
            await self._store(process)
            self._is_up.set()
            if process.has_ended:
                return
            if process.is_stopped:
                process.todo.clear()
                process.write("session.state", state="ended", reason="stopped")
            elif process.todo and not self._waits(process):
                await self._play(process)
            else:
                process.changed.clear()
                await process.changed.wait()

    async def started(self) -> None:
        await self._is_up.wait()

    async def prompt(self, prompt: str, text: str) -> None:
        if self._process is not None and self._process.has_ended:
            raise NodeError("session_ended", "the coding agent is not running any more")
        await self._world.begin("prompt")
        await self._journal.note(self._order.session, f"prompt.{prompt}", text)
        self._world.end("prompt")
        if self._process is not None:
            self._receive(self._process, prompt, text)

    async def answer(
        self, request: str, *, allow: bool, answers: Mapping[str, str], message: str
    ) -> None:
        await self._world.begin("answer")
        process = self._process
        if process is None or (process.question != request and request not in process.answers):
            raise NodeError("question_gone", "the question is not open any more")
        if request not in process.answers:
            process.answers[request] = {"allow": allow, "answers": dict(answers)}
            process.question = ""
            process.write("question.closed", request=request, by="answered")
            process.changed.set()
        self._world.end("answer")

    async def interrupt(self) -> None:
        await self._world.begin("interrupt")
        process = self._process
        if process is not None and process.todo:
            prompts = list(dict.fromkeys(prompt for prompt, _ in process.todo))
            process.todo.clear()
            process.question = ""
            process.write(
                "turn.end",
                prompts=prompts,
                ok=False,
                reason="interrupted",
                text="",
                code="interrupted",
            )
            process.write("session.state", state="idle", reason="")
            process.changed.set()
        self._world.end("interrupt")

    async def hand_over(self, terminal: TerminalId) -> None:
        await self._world.begin("hand_over")
        process = self._process
        if process is None or process.has_ended:
            raise NodeError("session_ended", "the coding agent is not running any more")
        if process.holder != terminal:
            await self.interrupt()
            process.holder = terminal
            process.write("session.state", state="in_terminal", reason="", terminal=terminal)
            process.changed.set()
        self._world.end("hand_over")

    def program(self) -> Program:
        return Program(command=("claude", f"--resume={self._order.session}"), env={})

    async def take_back(self, terminal: TerminalId) -> None:
        await self._world.begin("take_back")
        process = self._process
        if process is not None and process.holder == terminal:
            process.holder = ""
            process.write("session.state", state="starting", reason="")
            process.write("session.state", state="idle", reason="")
            process.changed.set()
        self._world.end("take_back")

    async def stop(self) -> None:
        self._is_stopping = True
        await self._journal.note(self._order.session, self._stopping, "1")
        await self._world.begin("stop")
        process = self._world.processes.get(self._order.session)
        if process is not None:
            process.is_stopped = True
            process.changed.set()
        self._world.end("stop")

    @property
    def _stopping(self) -> str:
        return f"stopping.{self._order.run}"

    async def _attach(self) -> Process | None:
        """Find the process or start it; None for one that was stopped before it was started."""
        ident, known = self._order.session, self._world.processes
        process = known.get(ident)
        notes = await self._journal.notes(ident)
        if process is None and (self._is_stopping or self._stopping in notes):
            return None
        if process is None:
            process = known[ident] = Process(self._order)
            process.write("session.state", state="starting", reason="")
            process.write("session.state", state="idle", reason="")
        elif process.has_ended and process.order.run != self._order.run:
            process.order, process.is_stopped = self._order, False
            process.starts += 1
            process.write("session.state", state="starting", reason="resumed")
            process.write("session.state", state="idle", reason="")
        process.changed = asyncio.Event()  # An event belongs to the loop of this life.
        self._process = process
        return process

    async def _deliver_noted(self, process: Process) -> None:
        for key, text in (await self._journal.notes(self._order.session)).items():
            if key.startswith("prompt."):
                self._receive(process, key.removeprefix("prompt."), text)

    def _receive(self, process: Process, prompt: str, text: str) -> None:
        if prompt in process.prompts or process.has_ended:
            return
        process.prompts[prompt] = text
        process.write("prompt.state", prompt=prompt, state="queued")
        process.todo += [(prompt, step) for step in self._world.script(text)]
        process.todo.append((prompt, None))
        process.changed.set()

    def _waits(self, process: Process) -> bool:
        return bool(process.question or process.holder)

    async def _play(self, process: Process) -> None:
        """Take the next step of the script: one effect in the world, then the journal's line."""
        prompt, step = process.todo[0]
        self._world.fuse("before step of the coding agent")
        if isinstance(step, Pause):
            await self._world.sleep(step.s)
        process.todo.pop(0)
        if {"prompt": prompt, "state": "started"} not in [e.data for e in process.journal]:
            process.write("prompt.state", prompt=prompt, state="started")
            process.write("session.state", state="busy", reason="")
        self._write(process, prompt, step)
        self._world.fuse("after step of the coding agent")

    def _write(self, process: Process, prompt: str, step: Step | None) -> None:
        match step:
            case Say():
                process.write("message.text", message=f"m{len(process.journal)}", text=step.text)
            case Commit():
                commits = self._world.workspaces[process.order.workspace].commits
                commits.append(sha(f"{process.order.run} {len(commits)} {step.text}"))
            case Ask():
                process.question = f"q{len(process.journal)}"
                process.write(
                    "question.open",
                    request=process.question,
                    kind=step.kind,
                    title=step.text,
                    questions=[{"text": step.text, "header": "", "options": [], "multiple": False}],
                )
            case Report():
                process.write(step.kind, **step.data)
            case Die():
                process.todo.clear()
                code = step.exit_code
                process.write("session.state", state="ended", reason="crashed", exit_code=code)
            case None:
                process.write("prompt.state", prompt=prompt, state="completed")
                process.write(
                    "turn.end", prompts=[prompt], ok=True, reason="end_turn", text="It is done."
                )
                if not process.todo:
                    process.write("session.state", state="idle", reason="")

    async def _store(self, process: Process) -> None:
        _, stored = await self._journal.cursor(self._order.session)
        if stored < len(process.journal):
            events = process.journal[stored:]
            await self._journal.store(self._order.session, events, cursor=(1, len(process.journal)))


class PlayedTerminals:
    """Terminals that are there because it was said.

    `ended` and `taken_in` are the workspaces for which that was asked.
    """

    def __init__(self) -> None:
        self.has_adopted = asyncio.Event()
        self.there: dict[str, OpenTerminal] = {}
        self.ended: list[WorkspaceId] = []
        self.taken_in: list[WorkspaceId] = []

    async def open(self, order: OpenTerminal, program: Program | None = None) -> None:
        self.there[order.terminal] = order

    async def close(self, order: CloseTerminal) -> None:
        self.there.pop(order.terminal, None)

    async def close_all(self, workspace: WorkspaceId) -> None:
        for order in [each for each in self.there.values() if each.workspace == workspace]:
            del self.there[order.terminal]

    async def end_all(self, workspace: WorkspaceId) -> None:
        self.ended.append(workspace)

    async def take_in(self, workspace: WorkspaceId) -> None:
        self.taken_in.append(workspace)

    async def run(self) -> None:
        self.has_adopted.set()
        await asyncio.Event().wait()
