"""A history: people, a control plane, a node and everything that happens to them, from a seed.

The seed decides the plan: what is asked for, what coding agents do, who is killed when. Processes
are real, so the same plan does not run to the microsecond alike; the invariants hold anyway.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from adapters.store.database import Database
from adapters.store.store import SqlStore
from bot.config import ProjectConfig
from core.chat import Chat
from core.clocks import Clocks
from core.decision import Decision, DecisionState
from core.ids import NodeId, ProjectId, TaskId
from core.limits import Limits
from core.ports.commands import Heard, Words
from core.task import Task
from core.workspace import Workspace
from tests.fakes import history_control, history_node
from tests.fakes.history_world import (
    REPOSITORY,
    Fail,
    Fault,
    Script,
    Socket,
    World,
    keep_task,
)
from tests.fakes.node_parts import Ask, Commit, Die, Pause, Report, Say

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tests.fakes.history_control", "tests.fakes.history_node", "tests.fakes.replica"]
)
CLOCKS = Clocks(
    lease_s=3,
    beat_s=0.8,
    poll_s=0.1,
    heartbeat_s=0.4,
    stale_s=1.2,
    silence_s=0.8,
    sweep_s=0.5,
    triage_s=1,
)
"""Short where a death is noticed, long where work is given up: nothing is given up here."""
DONE = Report("complete", {"summary": "It is done."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody does so many seconds after a task was asked for.

    Attributes:
        what: `say`, `stop`, `chat`; `when_idle` and `again` belong to words.
        again: How often the words are delivered under the same key besides.
        for_s: How long a chat stays open.
    """

    at_s: float
    what: str
    text: str = ""
    when_idle: bool = False
    again: int = 0
    for_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A task that somebody asks for, and what follows."""

    key: str
    text: str
    at_s: float
    again: int
    acts: tuple[Act, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """What hits the system from outside, at a time: `control`, `node`, `link`, `docker`."""

    at_s: float
    on: str
    for_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a seed decides."""

    seed: int
    requests: tuple[Request, ...]
    scripts: dict[str, Script]
    blows: tuple[Blow, ...]
    faults: tuple[Fault, ...]
    checks: tuple[str, ...]
    room: float
    clocks: Clocks
    limits: Limits
    pauses: tuple[float, ...]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        chance = random.Random(seed)
        scripts: dict[str, Script] = {}
        requests = tuple(_request(chance, n, scripts) for n in range(chance.choice((1, 1, 2, 3))))
        requests = tuple(_with_chats(f"{seed}", one, scripts) for one in requests)
        blows = [
            Blow(at_s=chance.uniform(0.05, 2.5), on=chance.choice(("control", "node")))
            for _ in range(chance.randrange(4))
        ]
        blows += [Blow(at_s=chance.uniform(0.2, 2), on="link")] * chance.choice((0, 0, 1))
        if chance.random() < 0.25:
            away = chance.uniform(0.2, 1.0)
            blows.append(Blow(at_s=chance.uniform(0.1, 1.5), on="docker", for_s=away))
        return cls(
            seed=seed,
            requests=requests,
            scripts=scripts,
            blows=tuple(blows),
            faults=tuple(_fault(chance) for _ in range(chance.randrange(4))),
            checks=chance.choice(((), ("make test",))),
            room=chance.choice((2.0, 16.0)),
            clocks=replace(CLOCKS, warm_s=chance.choice((0.3, 60.0))),
            limits=Limits(runs=chance.choice((1, 10)), runs_per_person=chance.choice((2, 3))),
            pauses=tuple(chance.uniform(0, 0.3) for _ in range(20)),
        )


def _fault(chance: random.Random) -> Fault:
    role = chance.choice(("control", "node"))
    hows = ("kill_before", "kill_after") + (("lose", "fail") if role == "control" else ())
    return Fault(role=role, nth=chance.randrange(1, 16), how=chance.choice(hows))


def _request(chance: random.Random, number: int, scripts: dict[str, Script]) -> Request:
    acts = []
    for n in range(chance.choice((0, 0, 1, 2))):
        at_s = chance.uniform(0.0, 3.0)
        what = chance.choice(("say", "say", "say", "stop", "aside"))
        text = f"More of it {_script(chance, scripts, f't{number}r{n}')}"
        if what == "aside":
            text = "!aside I am only talking"
        acts.append(
            Act(
                at_s=at_s,
                what="stop" if what == "stop" else "say",
                text=text,
                when_idle=what == "say" and chance.random() < 0.3,
                again=chance.choice((0, 0, 2)),
            )
        )
    return Request(
        key=f"k{number}",
        text=f"Fix part {number} {_script(chance, scripts, f't{number}')}",
        at_s=chance.uniform(0, 0.8) * number,
        again=chance.choice((0, 0, 3)),
        acts=tuple(acts),
    )


def _with_chats(seed: str, request: Request, scripts: dict[str, Script]) -> Request:
    """Open chats beside a task; by a chance of its own, so that the rest of a seed stays."""
    chance = random.Random(f"{seed} {request.key}")
    chats = tuple(
        Act(
            at_s=chance.uniform(0.0, 3.0),
            what="chat",
            text=f"Look at it {_script(chance, scripts, f'{request.key}c{n}')}",
            again=chance.choice((0, 0, 2)),
            for_s=chance.uniform(0.0, 2.0),
        )
        for n in range(chance.choice((0, 0, 1, 2)))
    )
    return replace(request, acts=request.acts + chats)


def _script(chance: random.Random, scripts: dict[str, Script], name: str) -> str:
    """Make a script up; return its mark, to be put into the words."""
    steps: list[Any] = []
    for n in range(chance.randrange(1, 5)):
        steps.append(Say(f"I am at {name}, step {n}."))
        steps.append(Report("tool.start", {"tool": f"{name}{n}", "name": "Bash", "title": "ls"}))
        steps.append(Pause(chance.uniform(0, 0.4)))
    steps.append(Commit())
    kind = chance.choice(
        ("work", "work", "work", "work", "ask", "ask", "die", "silent", "fail", "idle", "no_commit")
    )
    match kind:
        case "ask":
            steps += [Ask("Tabs or spaces?"), Commit(), DONE]
        case "die":
            steps.append(Die())
        case "silent":
            steps += [Pause(1.2), Commit(), DONE]
        case "fail":
            steps.append(Fail(code=chance.choice(("overloaded", "billing_error"))))
        case "no_commit":
            steps = [Say("There is nothing to do."), DONE]
        case "idle":
            steps.append(Pause(0.1))
        case _:
            steps.append(DONE)
    scripts[name] = tuple(steps)
    return f"#{name}"


@dataclass(slots=True, kw_only=True)
class Child:
    """A process that is started again when it dies, until it is let go."""

    start: Callable[[], Any]
    pauses: Sequence[float]
    complain: Callable[[str], None]
    process: Any = None
    lives: int = 0
    is_kept: bool = True

    async def live(self) -> None:
        while self.is_kept:
            self.process = await asyncio.to_thread(self.start)
            self.lives += 1
            code = await ended(self.process)
            if code not in {0, -signal.SIGKILL}:
                self.complain(f"a process ended by itself: exit code {code}")
                await asyncio.sleep(1)
            await asyncio.sleep(self.pauses[self.lives % len(self.pauses)])

    def kill(self) -> None:
        if self.process is not None and self.process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


async def ended(process: Any) -> int:
    """Wait for a process without holding up the loop; return its exit code."""
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(process.sentinel, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(process.sentinel)
    process.join()
    return int(process.exitcode)


class Front:
    """What stands before the replicas: connections go to one that is up, and can be cut."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.prefer = ""
        self.url = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep_task(self.tasks)
        known = self._socket.sockets
        path = known.get(self.prefer) or next(iter(known.values()), "")
        try:
            if not path:
                return
            there, out = await asyncio.open_unix_connection(path)
            self._writers |= {writer, out}
            async with asyncio.TaskGroup() as group:
                group.create_task(_pipe(reader, out))
                group.create_task(_pipe(there, writer))
            self._writers -= {writer, out}
            out.close()
        except (OSError, ExceptionGroup):
            return
        finally:
            writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(2**16):
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()


@dataclass(slots=True, kw_only=True)
class History:
    """A running history.

    Attributes:
        accepted: Words whose receipt somebody got, by key.
        answered: What was answered with success, by decision.
    """

    plan: Plan
    folder: Path
    database: str
    world: World
    socket: Socket
    front: Front
    group: asyncio.TaskGroup
    store: SqlStore
    controls: dict[str, Child] = field(default_factory=dict)
    nodes: dict[NodeId, Child] = field(default_factory=dict)
    accepted: dict[str, Heard] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, TaskId] = field(default_factory=dict)
    stops: set[TaskId] = field(default_factory=set)

    # Processes

    def add_control(self, name: str) -> Child:
        settings = history_control.Settings(
            name=name,
            database=self.database,
            world=str(self.folder / "world"),
            socket=str(self.folder / f"{name}.sock"),
            log=str(self.folder / f"{name}.log"),
            clocks=self.plan.clocks,
            limits=self.plan.limits,
            projects=(ProjectConfig(id="web", repository=REPOSITORY, checks=self.plan.checks),),
        )
        lives = iter(range(1, 1000))

        def start() -> Any:
            mine = replace(settings, name=name if name in _FIXED else f"{name}{next(lives)}")
            return _started(history_control.main, mine)

        child = self.controls[name] = Child(
            start=start, pauses=self.plan.pauses, complain=self.world.complain
        )
        self.group.create_task(child.live())
        return child

    def add_node(self, node_id: NodeId, token: str) -> None:
        """Do what a supplier does: a machine boots and its node agent joins."""
        state = self.folder / node_id
        state.mkdir(exist_ok=True)
        if not (state / "node.json").exists():
            (state / "join.json").write_text(json.dumps({"url": self.front.url, "token": token}))
            room = {"cpus": self.world.room, "memory_mb": int(self.world.room * 4096)}
            (state / "settings.json").write_text(json.dumps(room))
        if node_id in self.nodes:
            return
        settings = history_node.NodeSettings(
            name=node_id,
            state=str(state),
            world=str(self.folder / "world"),
            log=str(self.folder / f"{node_id}.log"),
        )
        child = Child(
            start=lambda: _started(history_node.main, settings),
            pauses=self.plan.pauses[::-1],
            complain=self.world.complain,
        )
        self.nodes[node_id] = child
        self.group.create_task(child.live())

    def remove_node(self, node_id: NodeId) -> None:
        child = self.nodes.pop(node_id)
        child.is_kept = False
        child.kill()

    def kill(self, child: Child) -> None:
        self.world.kills += 1
        self.world.note(f"SIGKILL {getattr(child.process, 'pid', None)}")
        child.kill()

    async def strike(self, blow: Blow) -> None:
        await asyncio.sleep(blow.at_s)
        self.world.note(f"blow on {blow.on} {blow.for_s:.1f}")
        match blow.on:
            case "control":
                self.kill(self.controls["c"])
            case "node":
                for node in self.nodes.values():
                    if (self.folder / node_name(node, self) / "node.json").exists():
                        self.kill(node)
            case "link":
                self.front.cut()
            case "docker":
                self.world.is_docker_away = True
                await asyncio.sleep(blow.for_s)
                self.world.is_docker_away = False

    # People

    async def call(self, name: str, *values: object, at: str = "") -> object:
        """Ask a control plane that is up, again and again until one has answered."""
        while True:
            peers = self.socket.peers
            peer = peers.get(at) or (None if at else next(iter(peers.values()), None))
            if peer is not None:
                with contextlib.suppress(ConnectionError):
                    return await peer.call(name, *values)
            await asyncio.sleep(0.02)

    async def say(self, key: str, text: str, *, again: int = 0, at: str = "", **more: Any) -> Heard:
        words = Words(
            key=key,
            surface=history_control.SURFACE,
            channel="general",
            message=f"m-{key}",
            text=text,
            **more,
        )
        heard = await self.call("say", words, at=at)
        assert isinstance(heard, Heard), f"{key}: {heard}"
        self.accepted[key] = heard
        self.world.note(f"said {key}: {text[:40]} -> {heard.task_id}")
        for n in range(again):
            other = replace(words, key=f"{key}-other{n}") if n % 2 else words
            await self.call("say", other)
        return heard

    async def ask_for(self, request: Request) -> None:
        """Be the person who wants a task done."""
        await asyncio.sleep(request.at_s)
        heard = await self.say(
            request.key, request.text, again=request.again, project=ProjectId("web")
        )
        while heard.task_id is None:  # Stored and not understood yet: the same words again.
            heard = await self.say(request.key, request.text, project=ProjectId("web"))
        self.tasks[request.key] = heard.task_id
        async with asyncio.TaskGroup() as group:
            for number, act in enumerate(request.acts):
                group.create_task(self._do(act, f"{request.key}-{number}", heard))

    async def _do(self, act: Act, key: str, heard: Heard) -> None:
        await asyncio.sleep(act.at_s)
        await self.until(lambda: self._is_understood(heard))
        if act.what == "stop":
            self.world.note(f"stop {heard.task_id}")
            assert heard.task_id is not None
            self.stops.add(heard.task_id)
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(self.call("stop", heard.task_id))
        elif act.what == "chat":
            await self._chat(act, key, heard)
        else:
            await self.say(
                key, act.text, again=act.again, thread=heard.thread, when_idle=act.when_idle
            )

    async def _chat(self, act: Act, key: str, heard: Heard) -> None:
        """Open a chat in the task's workspace, unless none comes any more, and close it again."""
        while not (places := await self.store.find(Workspace, task_id=heard.task_id)):
            [task] = await self.store.find(Task, id=heard.task_id)
            if task.state.is_over:
                return
            await asyncio.sleep(0.05)
        for _ in range(1 + act.again):
            opened = await self.call("new_chat", places[-1].id, act.text, key)
            self.world.note(f"chat {key}: {opened}")
        await asyncio.sleep(act.for_s)
        for chat in await self.store.find(Chat, id=opened):
            await self.call("close_chat", chat.id)

    async def _is_understood(self, heard: Heard) -> bool:
        return bool(await self.store.find(Task, id=heard.task_id))

    async def answer_all(self) -> None:
        """Answer every question twice at once, until cancelled."""
        chance = random.Random(self.plan.seed)
        while True:
            await asyncio.sleep(0.05)
            for decision in await self.store.find(Decision, state=DecisionState.OPEN):
                await asyncio.sleep(chance.uniform(0, 0.3))
                await self.answer(decision)

    async def answer(self, decision: Decision, at: tuple[str, str] = ("", "")) -> None:
        """Answer from two surfaces at once; note which won."""

        async def give(surface: str, text: str, where: str) -> None:
            values = (decision.id, surface, {"Tabs or spaces?": text})
            told = await self.call("answer", *values, at=where)
            self.world.note(f"answer {decision.id[-6:]} by {surface}: {told}")

        async with asyncio.TaskGroup() as group:
            group.create_task(give("web", "tabs", at[0]))
            group.create_task(give("chat", "spaces", at[1]))

    # Waiting

    async def is_up(self) -> bool:
        return bool(self.socket.peers)

    async def until(
        self, condition: Callable[[], Awaitable[object]], *, limit_s: float = 60
    ) -> None:
        async with asyncio.timeout(limit_s):
            while not await condition():
                await asyncio.sleep(0.03)

    def timeline(self) -> str:
        """Return all that is known of this history, for whoever looks into a failure."""
        lines = [f"plan: {self.plan}", *(f"{at:7.3f} {text}" for at, text in self.world.log)]
        for path in sorted(self.folder.glob("*.log")):
            kept = [line for line in path.read_text().splitlines() if _is_telling(line)]
            lines += [f"--- {path.name}", *kept[-60:]]
        return "\n".join(lines)


_FIXED = ("a", "b")


def node_name(child: Child, history: History) -> str:
    return next(name for name, known in history.nodes.items() if known is child)


def _is_telling(line: str) -> bool:
    return not any(word in line for word in ("link.closed", "HTTP"))


def _started(main: Callable[[Any], None], settings: Any) -> Any:
    process = PROCESSES.Process(target=main, args=(settings,), daemon=True)
    process.start()
    return process


@asynccontextmanager
async def history(plan: Plan, folder: Path, database: str) -> AsyncGenerator[History]:
    """Set the stage: world, front and eyes on the records; no process yet."""
    folder.mkdir(parents=True, exist_ok=True)
    world = World(scripts=plan.scripts, faults=plan.faults, room=plan.room)
    socket = Socket(world)
    front = Front(socket)
    eyes = Database(database)
    inside = await asyncio.start_unix_server(socket.connected, str(folder / "world"))
    outside = await asyncio.start_server(front.connected, "127.0.0.1", 0)
    front.url = f"http://127.0.0.1:{outside.sockets[0].getsockname()[1]}"
    try:
        async with asyncio.TaskGroup() as group:
            world.group = group
            known = History(
                plan=plan,
                folder=folder,
                database=database,
                world=world,
                socket=socket,
                front=front,
                group=group,
                store=SqlStore(eyes),
            )
            world.on_server, world.on_server_gone = known.add_node, known.remove_node
            try:
                yield known
            finally:
                for child in (*known.controls.values(), *known.nodes.values()):
                    child.is_kept = False
                    child.kill()
                for task in group._tasks:
                    if task is not asyncio.current_task():
                        task.cancel()
    finally:
        inside.close()
        outside.close()
        front.cut()
        if tasks := socket.tasks | front.tasks:
            await asyncio.wait(tasks, timeout=10)
        await eyes.close()
