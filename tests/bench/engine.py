"""The engine: objects per second, from an event to its order, thousands that wait, take-over.

A five-step object is looked at six times; each step is one commit under its claim with its event.
"""

import asyncio
import multiprocessing
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

import psutil
import sqlalchemy as sa

from adapters.store.links import SqlLinkStore
from adapters.store.rows import shape
from adapters.store.schema import TASK, WORK
from adapters.store.store import SqlStore, open_store
from adapters.store.transaction import Tx
from adapters.store.work import SqlWork
from adapters.system import SystemClock, boottime
from core.clocks import Clocks
from core.engine import Engine, Reconciler
from core.event import Event
from core.ids import NodeId, ReplicaId, TaskId
from core.ports.store import Insert, Tell, Update, Wake
from core.ports.work import Claim
from core.task import Task
from core.wire import PROTOCOL, Credential, CredentialRequest, Hello
from tests.bench.ingest import databases
from tests.bench.row import ROUNDS, Row, told, within
from tests.fakes.nouns import NOW, a_node, a_task, an_answer

STEPS = 5
OBJECTS = 100
DISPATCH_MS = 50.0
WAITING = 10_000
QUIET_S = 5.0
OWNED = 40
NODE = NodeId("node-1")


def main() -> Sequence[Row]:
    """Return all rows, for SQLite and for PostgreSQL."""
    return asyncio.run(_main())


async def _main() -> Sequence[Row]:
    rows: list[Row] = []
    async with databases() as urls:
        for name, url in urls.items():
            async with open_store(url) as store:
                rows.append(await _throughput(name, store))
                rows.append(await _dispatch(name, store))
            rows += await _waiting(name, url)
        rows += await _take_over(urls["PostgreSQL"])
    return rows


@asynccontextmanager
async def _working(
    store: SqlStore, reconcilers: Mapping[str, Reconciler], replica: str = "bench"
) -> AsyncGenerator[None]:
    engine = Engine(
        work=SqlWork(store.database),
        clock=SystemClock(),
        clocks=Clocks(),
        reconcilers=reconcilers,
        replica=ReplicaId(replica),
        report=lambda _event, **_values: None,
        boottime=boottime,
    )
    async with engine.running():
        yield


async def _throughput(name: str, store: SqlStore) -> Row:
    left = 0
    done = asyncio.Event()

    async def step(claim: Claim) -> float | None:
        nonlocal left
        task = await store.get(Task, claim.key)
        if task.runs == STEPS:
            left -= 1
            if not left:
                done.set()
            return None
        fact = Event(kind="step.done", subject=claim.key, at=NOW, task_id=task.id)
        await store.commit(Update(replace(task, runs=task.runs + 1)), Tell(fact), claim=claim)
        return 0

    rates = []
    for number in range(ROUNDS):
        left = OBJECTS
        done.clear()
        tasks = [a_task(id=TaskId(f"T-{number}-{n}"), runs=0) for n in range(OBJECTS)]
        await store.commit(*(Insert(task) for task in tasks))
        async with _working(store, {"job": step}):
            began = time.perf_counter()
            await store.commit(*(Wake("job", task.id) for task in tasks))
            await done.wait()
            rates.append(OBJECTS / (time.perf_counter() - began))
    return told(f"{name}: five-step objects in a second", rates, unit="1/s")


async def _dispatch(name: str, store: SqlStore) -> Row:
    """Measure from a node's link to the order that waits for the node, over two objects."""
    links = SqlLinkStore(store, clock=SystemClock(), credential=_no_credential)
    number = 0

    async def node(claim: Claim) -> float | None:
        await store.commit(Wake("run", "T-1.1"), claim=claim)
        return None

    async def run(claim: Claim) -> float | None:
        order = replace(an_answer(f"order-{number}"), ok=None)
        await store.commit(Insert(order, once=True), claim=claim)
        return None

    await store.commit(Insert(a_node(), once=True))
    took = []
    async with _working(store, {"node": node, "run": run}):
        for number in range(1, ROUNDS * 4 + 1):
            await asyncio.sleep(0.05)
            began = time.perf_counter()
            await links.connected(NODE, _hello(), replica=ReplicaId("bench"))
            while not await links.pending(NODE, after=number - 1):
                await links.wait(NODE)
            took.append((time.perf_counter() - began) * 1000)
    return within(f"B17 {name}: node's link to its order", took, DISPATCH_MS)


async def _no_credential(_node: NodeId, request: CredentialRequest) -> Credential:
    return Credential(number=request.number, code="none")


def _hello() -> Hello:
    return Hello(
        protocol=PROTOCOL,
        node=NODE,
        version="1",
        spool="s",
        received=0,
        cpus=4.0,
        memory_mb=8192,
    )


async def _waiting(name: str, url: str) -> Sequence[Row]:
    """Compare an engine beside which thousands wait for people with one that has nothing."""
    before = [await asyncio.to_thread(_quiet, url) for _ in range(2)]
    async with open_store(url) as store:
        await store.database.write(_let_wait)
    after = [await asyncio.to_thread(_quiet, url) for _ in range(2)]
    return [
        Row(
            name=f"{name}: memory beside {WAITING:,} that wait / beside none",
            ours=[memory for memory, _ in after],
            peer=[memory for memory, _ in before],
            goal=1.1,
            unit="MB",
        ),
        within(
            f"{name}: CPU beside {WAITING:,} that wait", [cpu for _, cpu in after], 0.02, unit="s/s"
        ),
    ]


async def _let_wait(tx: Tx) -> None:
    """Write thousands of objects as they are when each was looked at: that would take minutes."""
    keys = [f"W-{number}" for number in range(WAITING)]
    await tx.run(sa.insert(TASK), [shape(Task).write(a_task(id=TaskId(key))) for key in keys])
    await tx.run(sa.insert(WORK), [{"kind": "job", "key": key, "signals": 1} for key in keys])


def _quiet(url: str) -> tuple[float, float]:
    """Run an idle engine in a fresh process; return its megabytes and CPU seconds a second."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_be_quiet, args=(url, theirs))
    process.start()
    try:
        memory, cpu = ours.recv()
    finally:
        process.join(20)
        process.kill()
    return memory, cpu


def _be_quiet(url: str, pipe: Connection) -> None:
    asyncio.run(_idle(url, pipe))


async def _idle(url: str, pipe: Connection) -> None:
    async def park(_claim: Claim) -> float | None:
        return None

    async with open_store(url) as store, _working(store, {"job": park}, f"idle-{os.getpid()}"):
        await asyncio.sleep(1)
        cpu, began = time.process_time(), time.monotonic()
        await asyncio.sleep(QUIET_S)
        used = (time.process_time() - cpu) / (time.monotonic() - began)
        pipe.send((psutil.Process().memory_info().rss / 2**20, used))


async def _take_over(url: str) -> Sequence[Row]:
    by_session = [await _taken_over(url, watches=True, lease_s=15) for _ in range(ROUNDS)]
    by_lease = [await _taken_over(url, watches=False, lease_s=3)]
    return [
        within("PostgreSQL: take-over of 40 objects, sessions watched", by_session, 3.0, unit="s"),
        told("PostgreSQL: take-over of 40 objects, by a lease of 3 s", by_lease, unit="s"),
    ]


async def _taken_over(url: str, *, watches: bool, lease_s: float) -> float:
    """Return the seconds from a replica's death until its objects were all looked at."""
    seen: set[str] = set()

    async def look(claim: Claim) -> float | None:
        seen.add(claim.key)
        return None

    keys = [f"o{number}" for number in range(OWNED)]
    async with open_store(url, watches_sessions=watches) as alive:
        async with open_store(url) as dying:
            work = SqlWork(dying.database)
            await _until(lambda: dying.database.is_listening)
            await work.join(ReplicaId("dying"), url="", version="", lease_s=lease_s)
            await dying.commit(*(Wake("owned", key) for key in keys))
            await work.claim(ReplicaId("dying"), ["owned"], limit=OWNED)
            await asyncio.sleep(2.1)  # New replicas are left alone for two seconds.
            await work.beat(ReplicaId("dying"), lease_s=lease_s)
        async with _working(alive, {"owned": look}, "alive"):
            began = time.perf_counter()
            await _until(lambda: len(seen) == OWNED)
            return time.perf_counter() - began


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
