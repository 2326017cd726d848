"""Replicas that are killed, frozen and stopped at any moment: nothing lost, nothing doubled.

The processes are real and so are the signals. `-m long` runs longer histories.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adapters.store.database import Database
from adapters.store.schema import EVENT, REPLICA, TASK, WORK
from adapters.store.store import SqlStore, open_store
from adapters.store.transaction import Tx
from adapters.store.work import SqlWork
from adapters.system import SystemClock, boottime
from core.engine import LOSSES_MAX, Engine
from core.ids import ReplicaId, TaskId
from core.ports.store import Insert, Wake
from core.task import Task
from tests.fakes.fuse import Fuse, Fused, Killed
from tests.fakes.nouns import a_task
from tests.fakes.replica import CLOCKS, KILLER, STEPS, Job, Replicas, World, answer


async def look_at(url: str) -> tuple[dict[str, int], Counter[tuple[str, str]]]:
    """Look at the records of a database that others use."""
    database = Database(url)
    try:
        return await look(database)
    finally:
        await database.close()


async def look(database: Database) -> tuple[dict[str, int], Counter[tuple[str, str]]]:
    """Return how far each task is, and how often each step was written down."""
    tasks = await database.read(sa.select(TASK.c.id, TASK.c.runs))
    events = await database.read(sa.select(EVENT.c.subject, EVENT.c.data))
    return (
        {row["id"]: row["runs"] for row in tasks},
        Counter((row["subject"], row["data"]) for row in events),
    )


async def all_done(replicas: Replicas, *, at_least: int, limit_s: float = 90) -> None:
    """Wait until everything that was acknowledged is done, then check that it was done once."""
    async with asyncio.timeout(limit_s):
        while True:
            submitted = {line["key"] for line in replicas.world.lines("submitted")}
            tasks, steps = await look_at(replicas.url)
            if len(submitted) >= at_least and all(runs == STEPS for runs in tasks.values()):
                break
            await asyncio.sleep(0.1)
    assert submitted <= set(tasks), "acknowledged and lost"
    assert len(steps) == len(tasks) * STEPS
    assert set(steps.values()) == {1}, "a step was written down twice"
    done = Counter(
        (line["key"], line["step"])
        for line in replicas.world.lines("effect")
        if line["result"] == "done"
    )
    assert set(done.values()) == {1}
    assert len(done) == len(tasks) * STEPS


def have_asked(world: World) -> set[str]:
    return {line["key"] for line in world.lines("asked for all")}


def end(*processes: Any) -> None:
    for process in processes:
        process.kill()
        process.join()


async def kill_again_and_again(
    replicas: Replicas, *, kills: int, at_once: int, seed: int, **options: Any
) -> None:
    """Kill a random replica at a random moment; the one in its place brings new tasks."""
    chance = random.Random(seed)
    names = (f"r{number}" for number in count())
    alive = [replicas.start(next(names), count=4, **options) for _ in range(at_once)]
    try:
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.1, 0.7))
            victim = chance.randrange(at_once)
            end(alive[victim])
            alive[victim] = replicas.start(next(names), count=4, **options)
        await replicas.until(lambda: {one.name for one in alive} <= have_asked(replicas.world))
        await all_done(replicas, at_least=4 * at_once)
    finally:
        end(*alive)


async def test_twenty_kills_on_sqlite_lose_and_double_nothing(
    sqlite_url: str, tmp_path: Path
) -> None:
    replicas = Replicas(url=sqlite_url, folder=tmp_path)
    await kill_again_and_again(replicas, kills=20, at_once=1, seed=1)


@pytest.mark.postgres
async def test_twenty_kills_of_two_replicas_on_postgresql_lose_and_double_nothing(
    postgres_url: str, tmp_path: Path
) -> None:
    replicas = Replicas(url=postgres_url, folder=tmp_path)
    await kill_again_and_again(replicas, kills=20, at_once=2, seed=2)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
async def test_a_hundred_kills(database_url: str, tmp_path: Path, seed: int) -> None:
    replicas = Replicas(url=database_url, folder=tmp_path)
    at_once = 1 if "sqlite" in database_url else 3
    watch = {"watches_sessions": True} if seed % 2 and at_once > 1 else {}
    await kill_again_and_again(replicas, kills=100, at_once=at_once, seed=seed, **watch)


@pytest.mark.postgres
async def test_a_zombie_that_thaws_inside_a_call_changes_nothing(
    postgres_url: str, tmp_path: Path
) -> None:
    """Frozen for longer than its lease, in the middle of effects; its work is taken over."""
    replicas = Replicas(url=postgres_url, folder=tmp_path, effect_s=0.3)
    zombie = replicas.start("zombie", count=10)
    try:
        effects = replicas.world.lines
        await replicas.until(lambda: len(effects("effect")) >= 10)
        os.kill(zombie.pid, signal.SIGSTOP)
        other = replicas.start("other")
        try:
            await asyncio.sleep(CLOCKS.lease_s)
            await all_done(replicas, at_least=10)
            os.kill(zombie.pid, signal.SIGCONT)
            told = replicas.world.lines
            await replicas.until(lambda: _told(told("report"), "zombie", "replica.joined_again"))
            await all_done(replicas, at_least=10)
        finally:
            end(other)
        late = [
            line
            for line in replicas.world.lines("effect")
            if line["pid"] == zombie.pid and line["result"] == "refused"
        ]
        assert late or _told(replicas.world.lines("report"), "zombie", "replica.lost_lease")
        new = a_task(id=TaskId("new"), runs=0)
        async with open_store(postgres_url) as store:
            await store.commit(Insert(new), Wake("job", "new"))
        await all_done(replicas, at_least=10)
    finally:
        end(zombie)


def _told(lines: list[dict[str, Any]], name: str, event: str) -> bool:
    return any(line["key"] == name and line["event"] == event for line in lines)


@pytest.mark.postgres
async def test_a_zombie_that_thaws_between_calls_writes_nothing(
    postgres_url: str, tmp_path: Path
) -> None:
    """Frozen again and again for longer than its lease, mostly while it talks to the database."""
    replicas = Replicas(url=postgres_url, folder=tmp_path, effect_s=0.0)
    zombie, other = replicas.start("zombie", count=30), replicas.start("other", count=30)
    try:
        await replicas.until(lambda: replicas.world.lines("effect"))
        for _ in range(2):
            os.kill(zombie.pid, signal.SIGSTOP)
            await asyncio.sleep(CLOCKS.lease_s * 1.5)
            os.kill(zombie.pid, signal.SIGCONT)
            await asyncio.sleep(0.2)
        await all_done(replicas, at_least=60)
    finally:
        end(zombie, other)


async def test_sigterm_finishes_the_steps_at_hand_gives_back_and_leaves(
    database_url: str, tmp_path: Path
) -> None:
    clocks = replace(CLOCKS, lease_s=60)
    replicas = Replicas(url=database_url, folder=tmp_path, effect_s=0.2, clocks=clocks)
    first = replicas.start("first", count=6)
    second = None
    try:
        await replicas.until(lambda: have_asked(replicas.world))
        await replicas.until(lambda: len(replicas.world.lines("effect")) >= 6)
        first.terminate()
        await asyncio.to_thread(first.join, 60)
        assert first.exitcode == 0
        assert [line["key"] for line in replicas.world.lines("left")] == ["first"]
        _, steps = await look_at(database_url)
        done = [line for line in replicas.world.lines("effect") if line["result"] == "done"]
        assert len(done) == len(steps), "a step was begun and not written down"
        second = replicas.start("second")
        await all_done(replicas, at_least=6)
    finally:
        end(*(one for one in (first, second) if one))


async def test_an_object_that_kills_everybody_is_given_up_and_takes_no_other_along(
    database_url: str, tmp_path: Path
) -> None:
    """It is claimed first in each life of the program, together with all others."""
    replicas = Replicas(url=database_url, folder=tmp_path)
    innocents = [TaskId(f"t{number}") for number in range(8)]
    async with open_store(database_url) as store:
        await store.commit(
            Wake("job", KILLER, priority=9),
            *(Insert(a_task(id=key, runs=0)) for key in innocents),
            *(Wake("job", key) for key in innocents),
        )
    lives = (replicas.start(f"r{number}") for number in count())
    alive, deaths = next(lives), 0
    try:
        async with asyncio.timeout(200):
            while not _is_stuck(replicas.world, KILLER):
                if not alive.is_alive():
                    alive, deaths = next(lives), deaths + 1
                await let_suspects_have_waited(database_url)
                await asyncio.sleep(0.05)
            while set((await look_at(database_url))[0].values()) != {STEPS}:
                await asyncio.sleep(0.05)
    finally:
        end(alive)
    assert deaths == len(replicas.world.lines("killed")) == LOSSES_MAX
    assert not any(_is_stuck(replicas.world, key) for key in innocents)


def _is_stuck(world: World, key: str) -> bool:
    told = world.lines("report")
    return any(line["event"] == "work.stuck" and line["about"] == key for line in told)


async def let_suspects_have_waited(url: str) -> None:
    """Make due now what is due later."""
    later = sa.update(WORK).where(WORK.c.owner.is_(None), WORK.c.due_ms.is_not(None))

    async def job(tx: Tx) -> None:
        await tx.run(later.values(due_ms=0))

    database = Database(url)
    try:
        await database.write(job)
    finally:
        await database.close()


async def life(store: SqlStore, world: World, key: str, fuse: Fuse, name: str) -> bool:
    """Run an engine until the task is done or the fuse is blown; whether it survived."""
    fused: Any = Fused(store, fuse)
    work: Any = Fused(
        SqlWork(store.database), fuse, free=frozenset({"wait", "beat", "owned", "take_over"})
    )
    job = Job(store=fused, world=world, effect_s=0.0, asked=asyncio.Queue())
    engine = Engine(
        work=work,
        clock=SystemClock(),
        clocks=replace(CLOCKS, lease_s=60, beat_s=5, poll_s=1),  # No lease ends, few claims burn.
        reconcilers={"job": job},
        replica=ReplicaId(name),
        report=lambda *_, **__: None,
        boottime=boottime,
    )

    async def watch() -> None:
        while not fuse.is_blown and (await store.get(Task, key)).runs != STEPS:
            await asyncio.sleep(0.01)

    try:
        async with engine.running(), asyncio.TaskGroup() as group:
            answering = group.create_task(answer(replace(job, store=store)))
            await watch()
            answering.cancel()
    except (Killed, BaseExceptionGroup):
        return False
    return not fuse.is_blown


async def test_no_kill_point_of_a_tasks_life_loses_or_doubles_a_step(
    database_url: str, tmp_path: Path
) -> None:
    """Die before and after every call of every port, each time with a new task."""
    world = World(path=tmp_path / "world.jsonl")
    for length in count():
        key = f"t{length}"
        async with open_store(database_url) as store:
            await store.commit(Insert(a_task(id=TaskId(key), runs=0)), Wake("job", key))
            survived = await life(store, world, key, Fuse(length), f"a{length}")
            if not survived:
                await expire(store)
                assert await life(store, world, key, Fuse(10**9), f"b{length}")
        tasks, steps = await look_at(database_url)
        assert tasks[key] == STEPS
        assert [steps[key, f'{{"step":{step}}}'] for step in range(STEPS)] == [1] * STEPS
        if survived:
            break
    assert length > 30
    done = Counter(
        (line["key"], line["step"]) for line in world.lines("effect") if line["result"] == "done"
    )
    assert len(done) == STEPS * (length + 1)
    assert set(done.values()) == {1}


async def expire(store: SqlStore) -> None:
    """Let the leases of the dead end now."""

    async def job(tx: Tx) -> None:
        await tx.run(sa.update(REPLICA).values(lease_until_ms=0))

    await store.database.write(job)
