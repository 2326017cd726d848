"""A replica in a process of its own, and the outside world that it works on.

The world is a ledger that survives every kill. Like a good node or code host it refuses a lower
fence than it knows and does a thing of the same name once; it remembers what was refused.
"""

import asyncio
import fcntl
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from adapters.store.store import SqlStore, open_store
from adapters.store.work import SqlWork
from adapters.system import SystemClock, boottime
from core.clocks import Clocks
from core.engine import Engine
from core.errors import ConflictError, UnavailableError
from core.event import Event
from core.ids import ReplicaId, TaskId
from core.ports.store import Insert, Tell, Update, Wake
from core.ports.work import Claim
from core.session import Prompt
from core.task import Task
from tests.fakes.nouns import NOW, a_prompt, a_task

STEPS = 5
ASK = 2
"""The step that waits for an answer."""
KILLER = "killer"
"""Whoever looks at this object dies."""
CLOCKS = Clocks(lease_s=1.2, beat_s=0.3, poll_s=0.05)
"""A lease that soon ends with whoever is killed or frozen."""

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.fakes.replica"])


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The ledger: one JSON line per thing that was done or refused."""

    path: Path

    def act(self, kind: str, key: str, *, fence: int, step: int) -> str:
        """Do `step` of `key` unless it was done or a higher fence is known; say which."""
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            lines = self._read(file)
            mine = [line for line in lines if line["key"] == key and line["kind"] == kind]
            if any(line["fence"] > fence for line in mine):
                result = "refused"
            elif any(line["step"] == step and line["result"] == "done" for line in mine):
                result = "known"
            else:
                result = "done"
            self._write(file, kind=kind, key=key, fence=fence, step=step, result=result)
        return result

    def note(self, kind: str, key: str, **more: Any) -> None:
        """Write a line that is no effect."""
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._write(file, kind=kind, key=key, fence=0, step=-1, result="", **more)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open() as file:
            return [line for line in self._read(file) if line["kind"] == kind]

    def _read(self, file: Any) -> list[dict[str, Any]]:
        file.seek(0)
        return [json.loads(line) for line in file if line.endswith("\n")]

    def _write(self, file: Any, **line: Any) -> None:
        os.write(file.fileno(), (json.dumps({"pid": os.getpid(), **line}) + "\n").encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Five steps, each an effect and then its record; at `ASK` it waits for an answer."""

    store: SqlStore
    world: World
    effect_s: float
    asked: asyncio.Queue[str]

    async def __call__(self, claim: Claim) -> float | None:
        if claim.key == KILLER:
            self.world.note("killed", claim.key)
            os.kill(os.getpid(), signal.SIGKILL)
        task = await self.store.get(Task, claim.key)
        step = task.runs
        if step == STEPS:
            return None
        if step == ASK and not await self.store.find(Prompt, id=claim.key):
            self.world.note("asked", claim.key)
            self.asked.put_nowait(claim.key)
            return None
        await asyncio.sleep(self.effect_s / 2)
        self.world.act("effect", claim.key, fence=claim.fence, step=step)
        await asyncio.sleep(self.effect_s / 2)
        fact = Event(
            kind="step.done", subject=claim.key, at=NOW, task_id=task.id, data={"step": step}
        )
        await self.store.commit(Update(replace(task, runs=step + 1)), Tell(fact), claim=claim)
        return 0


async def answer(job: Job) -> None:
    """Answer what is asked, a moment later, twice; first what was asked of an earlier life."""
    answered = {prompt.id for prompt in await job.store.find(Prompt)}
    for line in job.world.lines("asked"):
        if line["key"] not in answered:
            job.asked.put_nowait(line["key"])
    while True:
        key = await job.asked.get()
        await asyncio.sleep(0.005)
        for _ in range(2):
            prompt = a_prompt(id=key)
            await patiently(job.store, Insert(prompt, once=True), Wake("job", key))


async def submit(job: Job, name: str, count: int) -> None:
    """Ask for new tasks, a little apart. Only what was acknowledged may not be lost."""
    for number in range(count):
        task = a_task(id=TaskId(f"{name}-{number}"), runs=0)
        await patiently(job.store, Insert(task), Wake("job", task.id))
        job.world.note("submitted", task.id)
        await asyncio.sleep(0.01)
    job.world.note("asked for all", name)


async def patiently(store: SqlStore, *changes: Any) -> None:
    """Commit, again while the database is away."""
    while True:
        try:
            await store.commit(*changes)
        except UnavailableError:
            await asyncio.sleep(0.05)
        except ConflictError:
            return
        else:
            return


async def live(
    url: str,
    folder: str,
    name: str,
    *,
    count: int,
    effect_s: float,
    clocks: Clocks,
    options: Mapping[str, Any],
) -> None:
    """Be a replica until SIGTERM."""
    world = World(path=Path(folder) / "world.jsonl")
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    def report(event: str, /, **values: object) -> None:
        world.note("report", name, event=event, about=str(values.get("key", "")))

    async with open_store(url, **options) as store:
        job = Job(store=store, world=world, effect_s=effect_s, asked=asyncio.Queue())
        engine = Engine(
            work=SqlWork(store.database),
            clock=SystemClock(),
            clocks=clocks,
            reconcilers={"job": job},
            replica=ReplicaId(f"{name}-{os.getpid()}"),
            report=report,
            boottime=boottime,
        )
        async with engine.running():
            world.note("up", name)
            async with asyncio.TaskGroup() as group:
                answering = group.create_task(answer(job))
                submitting = group.create_task(submit(job, name, count))
                await stopping.wait()
                answering.cancel()
                submitting.cancel()
    world.note("left", name)


def main(url: str, folder: str, name: str, settings: Mapping[str, Any]) -> None:
    """Run in the process of its own."""
    asyncio.run(live(url, folder, name, **settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Starts, kills and asks replicas on one database."""

    url: str
    folder: Path
    effect_s: float = 0.02
    clocks: Clocks = CLOCKS

    @property
    def world(self) -> World:
        return World(path=self.folder / "world.jsonl")

    def start(self, name: str, *, count: int = 0, **options: Any) -> Any:
        settings = {
            "count": count,
            "effect_s": self.effect_s,
            "clocks": self.clocks,
            "options": options,
        }
        process = PROCESSES.Process(
            target=main, args=(self.url, str(self.folder), name, settings), name=name, daemon=True
        )
        process.start()
        return process

    async def up(self, name: str) -> None:
        await self.until(lambda: any(line["key"] == name for line in self.world.lines("up")))

    async def until(self, condition: Any, *, limit_s: float = 60) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.02)
