"""A desk: everything that hears people, on a real database, without an engine around it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from adapters.memory.nodes import a_view
from adapters.store.store import SqlStore
from adapters.store.work import SqlWork
from bot.commands import BotCommands
from bot.conversation import Conversation
from bot.people import People
from core.access import Person, Role
from core.errors import ConflictError, UnavailableError
from core.ids import NodeId, PersonId, ProjectId, ReplicaId, TaskId, ThreadId
from core.limits import Limits
from core.ports.commands import Heard, Words
from core.ports.store import Insert, Noun, Update
from core.reconcile.tasks import TaskReconciler
from core.reconcile.terminals import TerminalReconciler
from core.run import Run, RunState
from core.task import Task
from core.viewing import View
from tests.fakes.clock import FakeClock
from tests.fakes.nouns import CLOCKS

REPLICA = ReplicaId("r-1")


class WorkingClock(FakeClock):
    """Whoever sleeps lets others work: here, the inbox. It wakes when nobody is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.desk: Desk | None = None
        self._working = 0
        self._is_calm = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        if self.desk is None or not self.desk.is_open:
            return
        self._working += 1
        self._is_calm.clear()
        try:
            await self.desk.work_off("inbox")
            await self.desk.work_off("terminal")
        finally:
            self._working -= 1
            if not self._working:
                self._is_calm.set()
        await self._is_calm.wait()


class Logs:
    """Node agents of which build logs and terminals are asked for.

    Attributes:
        chunks: What a build log is made of; None while the machine does not answer.
        looked: Who looked at what, and whether they may type.
        terminal: The other end of the newest view.
    """

    chunks: list[bytes] | None = None
    is_up = True

    def __init__(self) -> None:
        self.looked: list[tuple[str, str, str, str, bool]] = []
        self.terminal: View | None = None

    @asynccontextmanager
    async def view(
        self, node: str, workspace: str, terminal: str, *, viewer: str, writes: bool
    ) -> AsyncGenerator[View]:
        if not self.is_up:
            raise UnavailableError("Node", f"{node} is not connected")
        self.looked.append((node, workspace, terminal, viewer, writes))
        viewing, self.terminal = a_view()
        yield viewing

    async def stream(
        self, node_id: NodeId, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        if self.chunks is None:
            raise UnavailableError("node-1", "no link")
        for chunk in self.chunks:
            yield chunk


@dataclass(slots=True, kw_only=True)
class Desk:
    """What people meet.

    Attributes:
        is_open: Whether the inbox is worked off while somebody waits for an answer.
    """

    store: SqlStore
    clock: WorkingClock
    commands: BotCommands
    people: People
    conversation: Conversation
    work: SqlWork
    logs: Logs
    is_open: bool = True
    keys: int = 0

    async def person(self, name: str, role: Role = "member") -> Person:
        person = Person(
            id=PersonId(name), name=name.title(), role=role, created_at=self.clock.now()
        )
        await self.store.commit(Insert(person, once=True))
        return await self.store.get(Person, name)

    async def say(self, by: Person, text: str, **values: Any) -> Heard:
        self.keys += 1
        key = f"k{self.keys}"
        words = {"key": key, "surface": "web", "channel": "web", "message": key, **values}
        return await self.commands.say(by, Words(text=text, **words))

    async def asked(self, by: Person, text: str = "Fix the cart.") -> tuple[TaskId, ThreadId]:
        heard = await self.say(by, text, project=ProjectId("web"))
        assert heard.task_id is not None
        return heard.task_id, heard.thread

    async def working(self, by: Person) -> tuple[Run, ThreadId]:
        """Ask for a task and bring its run to work."""
        task, thread = await self.asked(by)
        await self.work_off("task")
        run = await self.store.get(Run, f"{task}.1")
        await self.put(replace(run, state=RunState.WORKING))
        return await self.store.get(Run, run.id), thread

    async def put(self, *nouns: Noun) -> None:
        """Write new rows, or the next values of known ones."""
        for noun in nouns:
            is_known = await self.store.find(type(noun), id=noun.id)
            await self.store.commit(Update(noun) if is_known else Insert(noun))

    async def work_off(self, kind: str) -> None:
        looks = {
            "inbox": self.conversation,
            "task": TaskReconciler(
                store=self.store, clock=self.clock, clocks=CLOCKS, limits=Limits()
            ),
            "terminal": TerminalReconciler(store=self.store, clock=self.clock, clocks=CLOCKS),
        }
        for _ in range(50):
            claims = await self.work.claim(REPLICA, [kind], limit=10)
            for claim in claims:
                due_in_s: float | None = 0
                with suppress(ConflictError):
                    due_in_s = await looks[kind](claim)
                await self.work.give_back(claim, due_in_s=due_in_s)
            if not claims:
                return
        raise AssertionError(f"{kind} is never done")

    async def task(self, task_id: TaskId) -> Task:
        return await self.store.get(Task, task_id)
