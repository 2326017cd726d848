"""The outside world of a history, in the test's process: it survives every kill.

Containers, coding agents, code host, supplier of machines and chat are entries of dictionaries.
Each does what its real one promises; `wrong` collects whatever was done to it that must not be.
"""

import asyncio
import hashlib
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from adapters.memory.forge import MemoryForge, MemoryRepository
from agent.errors import NodeError
from core.errors import UnavailableError
from core.ids import NodeId, SessionId, WorkspaceId
from core.ports.compute import Server
from core.ports.forge import Pull, PullDraft
from core.project import RepoRef
from core.wire import (
    Checked,
    CheckResult,
    Collect,
    Collected,
    CreateWorkspace,
    FileChange,
    Json,
    Push,
    Pushed,
    RunChecks,
    Saved,
    SaveWorkspace,
    SessionEvent,
    StartSession,
    WorkspaceReady,
)
from tests.fakes.history_wire import Peer
from tests.fakes.node_parts import AT, Ask, Commit, Die, Pause, Report, Say, Step, sha

REPOSITORY = "acme/web"
LOOKS = frozenset(
    {
        "copy",
        "find_post",
        "has_prompt",
        "has_session",
        "hello",
        "journal",
        "place",
        "servers",
        "up",
        "workspaces",
    }
)
"""Calls that change nothing: no fault is tied to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The model fails the turn for good."""

    code: str


Script = Sequence[Step | Fail]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong around the nth call of one side that changes the world.

    Attributes:
        how: `kill_before` and `kill_after` the effect the caller dies; `lose`: it is told that the
            call failed although it worked; `fail`: it failed.
    """

    role: str
    nth: int
    how: str


class World:
    """What is outside. `scripts` is what coding agents do about a prompt with `#key` in it."""

    def __init__(self, *, scripts: dict[str, Script], faults: Sequence[Fault], room: float) -> None:
        self.scripts = scripts
        self.room = room
        self.log: list[tuple[float, str]] = []
        self.wrong: list[str] = []
        self.kills = 0
        self.forge = MemoryForge(now=lambda: datetime.now(UTC))
        self.forge.repositories[REPOSITORY] = MemoryRepository(heads={"main": sha("main")})
        self.servers: dict[str, Server] = {}
        self.servers_made: list[NodeId] = []
        self.pull_calls: list[str] = []
        self.posts: dict[str, list[str]] = {}
        self.workspaces: dict[WorkspaceId, Workspace] = {}
        self.deleted: set[WorkspaceId] = set()
        self.kept: set[str] = set()
        self.copies: dict[str, bytes] = {}
        self.agents: dict[SessionId, CodingAgent] = {}
        self.is_docker_away = False
        self.on_server: Callable[[NodeId, str], None] = lambda *_: None
        self.on_server_gone: Callable[[NodeId], None] = lambda _: None
        self.group: asyncio.TaskGroup | None = None
        self._faults = {(fault.role, fault.nth): fault.how for fault in faults}
        self._calls: Counter[str] = Counter()
        self._began = asyncio.get_running_loop().time()

    def note(self, text: str) -> None:
        self.log.append((asyncio.get_running_loop().time() - self._began, text))

    def complain(self, text: str) -> None:
        self.note(f"WRONG: {text}")
        self.wrong.append(text)

    async def serve(self, role: str, pid: int, name: str, values: tuple[Any, ...]) -> object:
        """Answer one call of a process, or let a fault happen to it."""
        method = getattr(self, f"do_{name}")
        if name in LOOKS:
            return await method(*values)
        self._calls[role] += 1
        how = self._faults.get((role, self._calls[role]), "")
        self.note(f"{role} {pid} {name} {_short(values)} {how}")
        if how == "kill_before":
            return await self._kill(pid)
        if how == "fail" and role == "control":
            raise UnavailableError("World", f"{name} failed")
        result = await method(*values)
        if how == "kill_after":
            return await self._kill(pid)
        if how == "lose" and role == "control":
            raise UnavailableError("World", f"the answer of {name} was lost")
        return result

    async def _kill(self, pid: int) -> object:
        self.kills += 1
        os.kill(pid, signal.SIGKILL)
        return await asyncio.Event().wait()

    # The supplier of machines

    async def do_create_server(self, node_id: NodeId, token: str) -> Server:
        if node_id not in self.servers:
            self.servers_made.append(node_id)
            self.servers[node_id] = Server(ref=node_id, node_id=node_id, is_running=True)
        self.on_server(node_id, token)
        return self.servers[node_id]

    async def do_destroy_server(self, ref: str) -> None:
        if self.servers.pop(ref, None) is not None:
            self.on_server_gone(NodeId(ref))

    async def do_servers(self) -> Sequence[Server]:
        return list(self.servers.values())

    # The chat

    async def do_post(self, thread: str, key: str, text: str) -> str:
        self.posts.setdefault(key, []).append(text)
        return f"{key}:{len(self.posts[key])}"

    async def do_find_post(self, thread: str, key: str) -> str | None:
        return f"{key}:1" if key in self.posts else None

    async def do_edit(self, thread: str, remote: str, text: str) -> None:
        if remote.rpartition(":")[0] not in self.posts:
            self.complain(f"{remote} was edited and never posted")

    # The code host

    async def do_access(self, repo: RepoRef, scope: str, ttl_s: float) -> object:
        return await self.forge.access(repo, scope=scope, ttl_s=ttl_s)  # type: ignore[arg-type]

    async def do_default_branch(self, repo: RepoRef) -> str:
        return await self.forge.default_branch(repo)

    async def do_open_pull(self, repo: RepoRef, draft: PullDraft) -> Pull:
        self.pull_calls.append(draft.head)
        return await self.forge.open_pull(repo, draft)

    # Containers

    async def _docker(self) -> None:
        """Wait for Docker while it is away, as a node does."""
        while self.is_docker_away:
            await asyncio.sleep(0.02)

    def workspace(self, ident: WorkspaceId) -> "Workspace":
        if ident not in self.workspaces:
            raise NodeError("workspace_gone", f"{ident} is not on this node")
        return self.workspaces[ident]

    async def do_workspaces(self) -> Sequence[WorkspaceId]:
        return list(self.workspaces)

    async def do_place(self, ident: WorkspaceId) -> None:
        self.workspace(ident)

    async def do_create_workspace(self, order: CreateWorkspace) -> WorkspaceReady:
        await self._docker()
        if order.workspace in self.deleted and not order.restore:
            self.complain(f"{order.workspace} was made after it was deleted")
        known = self.workspaces.get(order.workspace)
        if known is None and order.restore:
            _, start, *commits = json.loads(self.copies[order.restore])
            self.workspaces[order.workspace] = known = Workspace(order, start, commits)
        if known is None:
            remote = self.forge.repositories[REPOSITORY].heads.get(order.branch)
            self.workspaces[order.workspace] = known = Workspace(order, remote or sha("main"))
        return WorkspaceReady(
            workspace=order.workspace,
            attempt=order.attempt,
            container=f"c-{order.workspace}",
            user="dev",
            folder="/workspaces/web",
            base="main",
            base_commit=sha("main"),
            token_hash=hashlib.sha256(f"token-{order.workspace}".encode()).hexdigest(),
        )

    async def do_save_workspace(self, order: SaveWorkspace) -> Saved:
        found = self.workspace(order.workspace)
        await self._docker()
        data = json.dumps([order.workspace, found.start, *found.commits]).encode()
        sha256 = hashlib.sha256(data).hexdigest()
        self.copies[sha256] = data
        return Saved(
            sha256=sha256,
            size_bytes=len(data),
            branch=found.order.branch,
            head=found.head,
            base_commit=sha("main"),
        )

    async def do_copy(self, sha256: str) -> bytes:
        """Give a rescue copy to who keeps it: what is in it may be deleted from now on."""
        data = self.copies[sha256]
        self.kept.add(json.loads(data)[-1])
        return data

    async def do_drop_copy(self, sha256: str) -> None:
        if sha256 not in self.copies:
            self.complain(f"the copy {sha256} is dropped and was never made")

    async def do_delete_workspace(self, ident: WorkspaceId) -> None:
        await self._docker()
        found = self.workspaces.pop(ident, None)
        self.deleted.add(ident)
        if found is None:
            return
        heads = self.forge.repositories[REPOSITORY].heads.values()
        if found.head not in self.kept and found.head not in heads and found.commits:
            self.complain(f"G4: {ident} was deleted with commits that are nowhere else")
        for agent in self.agents.values():
            if agent.order.workspace == ident:
                agent.end("workspace_gone")

    async def do_collect(self, order: Collect) -> Collected:
        found = self.workspace(order.workspace)
        await self._docker()
        if any(a.is_live for a in self.agents.values() if a.order.run == order.run):
            self.complain(f"{order.run} is collected while its coding agent works")
        self.kept.add(found.head)
        return Collected(
            head=found.head,
            base_commit=sha("main"),
            remote=self.forge.repositories[REPOSITORY].heads.get(found.order.branch, ""),
            commits=len(found.commits) + (found.start != sha("main")),
            files=(FileChange(path="a.py", added=1, removed=0),) if found.commits else (),
        )

    async def do_check(self, order: RunChecks) -> Checked:
        self.workspace(order.workspace)
        await self._docker()
        results = tuple(
            CheckResult(command=command, exit_code=0, took_s=0.1, tail="ok")
            for command in order.commands
        )
        return Checked(commit=order.commit, results=results)

    async def do_push(self, order: Push) -> Pushed:
        found = self.workspace(order.workspace)
        await self._docker()
        if order.commit not in {found.start, *found.commits}:
            self.complain(
                f"{order.run} pushes {order.commit}, which is not in {found.order.branch}"
            )
        self.forge.push(RepoRef.parse(REPOSITORY), order.branch, order.commit)
        return Pushed(commit=order.commit, branch=order.branch)

    # Coding agents

    async def do_start_session(self, order: StartSession) -> None:
        self.workspace(order.workspace)
        await self._docker()
        for other in self.agents.values():
            is_same_place = other.order.workspace == order.workspace
            is_beside = order.is_chat or other.order.is_chat or other.order.session == order.session
            if other.is_live and is_same_place and not is_beside:
                self.complain(f"T4: {order.run} starts while {other.order.run} works")
        known = self.agents.get(order.session)
        if known is None:
            assert self.group is not None
            agent = self.agents[order.session] = CodingAgent(self, order)
            agent.task = self.group.create_task(agent.live())
        elif known.order.run != order.run:
            self.complain(f"P3: {order.session} of {known.order.run} is started for {order.run}")

    async def do_journal(
        self, session: SessionId, after: int
    ) -> tuple[Sequence[SessionEvent], bool]:
        """Return what is new; wait for it if need be."""
        agent = self.agents[session]
        while len(agent.journal) <= after and agent.is_live:
            agent.changed.clear()
            await agent.changed.wait()
        return agent.journal[after : after + 5], not agent.is_live and after + 5 >= len(
            agent.journal
        )

    def _agent(self, session: SessionId) -> "CodingAgent":
        agent = self.agents[session]
        if not agent.is_live:
            raise NodeError("session_ended", "the coding agent is not running any more")
        return agent

    async def do_has_session(self, session: SessionId) -> bool:
        return session in self.agents

    async def do_has_prompt(self, session: SessionId, prompt: str) -> bool:
        return prompt in self.agents[session].delivered

    async def do_prompt(self, session: SessionId, prompt: str, text: str) -> None:
        agent = self._agent(session)
        agent.delivered[prompt] += 1
        if agent.delivered[prompt] > 1:
            self.complain(f"P4: {prompt} came twice")
        agent.receive(prompt, text)

    async def do_answer_question(
        self, session: SessionId, request: str, answers: dict[str, str]
    ) -> None:
        agent = self._agent(session)
        if request in agent.answers:
            return
        if agent.question != request:
            raise NodeError("question_gone", "the question is not open any more")
        agent.answers[request] = answers
        agent.answered.set()

    async def do_stop_session(self, session: SessionId) -> None:
        self.agents[session].end("stopped")

    def live_runs(self) -> Counter[str]:
        """Return how many coding agents work for each run (G6)."""
        return Counter(agent.order.run for agent in self.agents.values() if agent.is_live)


@dataclass
class Workspace:
    order: CreateWorkspace
    start: str
    commits: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1] if self.commits else self.start


class CodingAgent:
    """A process of its own: it works and writes its journal whether or not anybody reads it."""

    def __init__(self, world: World, order: StartSession) -> None:
        self.world = world
        self.order = order
        self.journal: list[SessionEvent] = []
        self.delivered: Counter[str] = Counter()
        self.asked: list[str] = []
        self.answers: dict[str, dict[str, str]] = {}
        self.question = ""
        self.answered = asyncio.Event()
        self.changed = asyncio.Event()
        self.is_live = True
        self.died = False
        self.last_code: str | None = None
        self.task: asyncio.Task[None] | None = None
        self._todo: list[tuple[str, str]] = []
        self._write("session.state", state="starting", reason="")
        self._write("session.state", state="idle", reason="")

    def _write(self, kind: str, /, **data: object) -> None:
        event = SessionEvent(
            session=self.order.session,
            run=self.order.run,
            offset=len(self.journal),
            kind=kind,
            at=AT,
            data=dict(data),
        )
        self.journal.append(event)
        self.changed.set()

    def receive(self, prompt: str, text: str) -> None:
        self._write("prompt.state", prompt=prompt, state="queued")
        self._todo.append((prompt, text))

    def end(self, reason: str) -> None:
        """End the process; again is fine."""
        if not self.is_live:
            return
        self.is_live = False
        if self.question:
            self._write("question.closed", request=self.question, by="withdrawn")
        self._write("session.state", state="ended", reason=reason)
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        self.world.note(f"agent {self.order.run} ended: {reason}")

    async def live(self) -> None:
        while self.is_live:
            if not self._todo:
                self.changed.clear()
                await self.changed.wait()
                continue
            prompt, text = self._todo.pop(0)
            self._write("session.state", state="busy", reason="")
            self._write("prompt.state", prompt=prompt, state="started")
            await self._turn(prompt, text)

    async def _turn(self, prompt: str, text: str) -> None:
        found = re.findall(r"#(\w+)", text)
        script = self.world.scripts[found[-1]] if found else (Report("complete", {"summary": "x"}),)
        self.last_code = ""
        for step in script:
            await self._play(step)
            if not self.is_live:
                return
        self._write("prompt.state", prompt=prompt, state="completed")
        data = {"prompts": [prompt], "reason": "end_turn", "text": "It is done."}
        if self.last_code:
            self._write("turn.end", **data, ok=False, code=self.last_code)
        else:
            self._write("turn.end", **data, ok=True)
        if not self._todo:
            self._write("session.state", state="idle", reason="")

    async def _play(self, step: Step | Fail) -> None:
        match step:
            case Say():
                self._write("message.text", message=f"m{len(self.journal)}", text=step.text)
            case Commit():
                commits = self.world.workspaces[self.order.workspace].commits
                commits.append(sha(f"{self.order.run} {len(self.journal)}"))
            case Ask():
                await self._ask(step)
            case Report():
                self._write(step.kind, **step.data)
            case Pause():
                await asyncio.sleep(step.s)
            case Die():
                self.died = True
                self.end("crashed")
            case Fail():
                self.last_code = step.code

    async def _ask(self, step: Ask) -> None:
        self.question = f"q{len(self.journal)}"
        self.asked.append(self.question)
        self.answered.clear()
        asked: Json = {"text": step.text, "header": "", "options": [], "multiple": False}
        self._write(
            "question.open",
            request=self.question,
            kind="question",
            title=step.text,
            questions=[asked],
        )
        await self.answered.wait()
        self._write("question.closed", request=self.question, by="answered")
        self.question = ""


def keep_task(tasks: set[asyncio.Task[Any]]) -> None:
    """Remember the task that runs now until it is over."""
    task = asyncio.current_task()
    assert task is not None
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _short(values: Sequence[object]) -> str:
    texts = []
    for value in values:
        names = [getattr(value, name, "") for name in ("session", "workspace", "run", "head")]
        texts.append(" ".join(filter(None, names)) or str(value)[:40])
    return " ".join(texts)


@dataclass(slots=True)
class Socket:
    """Where processes reach the world; who has said hello can be called back."""

    world: World
    peers: dict[str, Peer] = field(default_factory=dict)
    sockets: dict[str, str] = field(default_factory=dict)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep_task(self.tasks)
        who: dict[str, Any] = {"role": "", "name": "", "pid": 0}

        async def serve(name: str, values: tuple[Any, ...]) -> object:
            if name == "hello":
                who["role"], who["name"], who["pid"] = values
                return who["name"]
            if name == "up":
                self.world.note(f"{who['name']} is up")
                self.peers[who["name"]] = peer
                self.sockets[who["name"]] = values[1]
                return None
            return await self.world.serve(who["role"], who["pid"], name, values)

        peer = Peer(reader, writer, serve)
        try:
            await peer.run()
        finally:
            self.peers.pop(who["name"], None)
            self.sockets.pop(who["name"], None)
