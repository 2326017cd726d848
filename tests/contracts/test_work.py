"""Port `Work`: its promises, by number, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from adapters.store.schema import REPLICA, WORK
from adapters.store.store import SqlStore, open_store
from adapters.store.transaction import Tx
from adapters.store.work import SqlWork
from core.errors import LostLease
from core.ids import ReplicaId
from core.ports.store import Wake
from core.ports.work import SUSPECT, SUSPECT_S, Claim

A, B = ReplicaId("a"), ReplicaId("b")
KINDS = ("run", "task")


@pytest.fixture
async def work(store: SqlStore) -> SqlWork:
    work = SqlWork(store.database)
    await join(work, A)
    return work


@pytest.fixture
async def two(postgres_url: str) -> AsyncGenerator[tuple[SqlStore, SqlStore]]:
    """Two replicas with connections of their own."""
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(open_store(postgres_url)),
            await stack.enter_async_context(open_store(postgres_url)),
        )


async def join(work: SqlWork, replica: ReplicaId, *, lease_s: float = 60) -> None:
    await work.join(replica, url="http://a", version="1", lease_s=lease_s)


async def wake(store: SqlStore, *keys: str, in_s: float = 0, kind: str = "run") -> None:
    await store.commit(*(Wake(kind, key, in_s) for key in keys))


async def claim(work: SqlWork, replica: ReplicaId = A, *, limit: int = 100) -> list[Claim]:
    return list(await work.claim(replica, KINDS, limit=limit))


async def test_1_an_object_has_one_owner_and_a_growing_fence(
    store: SqlStore, work: SqlWork
) -> None:
    await wake(store, "r1")
    (first,) = await claim(work)
    assert await claim(work) == []
    await work.give_back(first, due_in_s=0)
    (second,) = await claim(work)
    assert second.fence > first.fence
    with pytest.raises(LostLease):
        await work.give_back(first, due_in_s=0)


@pytest.mark.postgres
async def test_1_replicas_that_claim_at_once_share_and_never_overlap(
    two: tuple[SqlStore, SqlStore],
) -> None:
    works = [SqlWork(store.database) for store in two]
    for work, replica in zip(works, (A, B), strict=True):
        await join(work, replica)
    await wake(two[0], *(f"r{n}" for n in range(100)))
    batches = await asyncio.gather(
        *(claim(works[n % 2], (A, B)[n % 2], limit=10) for n in range(20))
    )
    keys = [one.key for batch in batches for one in batch]
    assert len(keys) == len(set(keys))
    rest = await claim(works[0], A)
    assert len(keys) + len(rest) == 100


async def test_2_a_replica_whose_lease_is_over_gets_nothing_and_is_told(
    store: SqlStore, work: SqlWork
) -> None:
    await wake(store, "r1")
    assert await work.beat(A, lease_s=0.05)
    await until_over()
    assert await claim(work) == []
    assert not await work.beat(A, lease_s=60)
    await join(work, A)
    assert await work.beat(A, lease_s=60)
    assert len(await claim(work)) == 1


async def until_over() -> None:
    """Wait out a lease of 50 ms: the database's clock cannot be moved."""
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("due_in_s", [None, 3600.0])
async def test_3_a_wake_up_during_a_look_makes_the_object_due_again(
    store: SqlStore, work: SqlWork, due_in_s: float | None
) -> None:
    await wake(store, "r1")
    (first,) = await claim(work)
    await wake(store, "r1")
    await work.give_back(first, due_in_s=due_in_s)
    (second,) = await claim(work)
    assert second.signals == first.signals + 1
    await work.give_back(second, due_in_s=due_in_s)
    assert await claim(work) == []


async def test_3_a_wake_up_never_makes_an_object_due_later(store: SqlStore, work: SqlWork) -> None:
    await wake(store, "r1")
    await wake(store, "r1", in_s=3600)
    assert len(await claim(work)) == 1


async def test_4_take_over_frees_what_dead_replicas_owned_and_raises_the_fence(
    store: SqlStore, work: SqlWork
) -> None:
    await wake(store, "r1", "r2")
    before = await claim(work)
    assert await work.take_over() == 0
    assert await work.beat(A, lease_s=0.05)
    await until_over()
    assert await work.take_over() == 2
    assert await work.take_over() == 0
    await join(work, A)
    after = await claim(work)
    assert {one.fence for one in after} == {one.fence + 2 for one in before}
    for one in before:
        with pytest.raises(LostLease):
            await store.commit(claim=one)


async def test_4_leaving_gives_everything_back(store: SqlStore, work: SqlWork) -> None:
    await wake(store, "r1")
    await claim(work)
    await work.leave(A)
    await join(work, B)
    assert [one.key for one in await claim(work, B)] == ["r1"]


async def test_4_owned_tells_what_a_replica_has(store: SqlStore, work: SqlWork) -> None:
    await wake(store, "r1")
    assert await work.owned(A) == []
    assert await claim(work) == await work.owned(A)
    assert await work.owned(B) == []


async def test_5_wait_returns_soon_after_a_wake_up_and_also_without(
    store: SqlStore, work: SqlWork
) -> None:
    await work.wait(poll_s=0.01)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(work.wait(poll_s=60))
        await asyncio.sleep(0)
        await wake(store, "r1")
        async with asyncio.timeout(30):
            await waiting


async def test_5_a_wake_up_between_claim_and_wait_is_not_missed(
    store: SqlStore, work: SqlWork
) -> None:
    await claim(work)
    await wake(store, "r1")
    async with asyncio.timeout(30):
        await work.wait(poll_s=60)


@pytest.mark.postgres
async def test_5_another_replicas_wake_up_is_heard(two: tuple[SqlStore, SqlStore]) -> None:
    work = SqlWork(two[1].database)
    async with asyncio.timeout(30):
        while not two[1].database.is_listening:
            await asyncio.sleep(0.01)
        await work.wait(poll_s=0.01)
        async with asyncio.TaskGroup() as group:
            group.create_task(work.wait(poll_s=600))
            await wake(two[0], "r1")


@pytest.mark.postgres
@pytest.mark.parametrize("more", ["ssl=prefer", "prepared_statement_cache_size=0"])
async def test_5_wake_ups_are_heard_with_all_that_a_url_may_say(
    postgres_url: str, more: str
) -> None:
    async with open_store(f"{postgres_url}&{more}") as store, asyncio.timeout(30):
        while not store.database.is_listening:
            await asyncio.sleep(0.01)


async def test_6_only_due_objects_of_the_kinds_are_claimed_longest_due_first(
    store: SqlStore, work: SqlWork
) -> None:
    await wake(store, "later", in_s=3600)
    await wake(store, "other", kind="node")
    for key in ("r1", "r2", "r3"):
        await wake(store, key)
        await asyncio.sleep(0.002)  # The database counts milliseconds.
    assert [one.key for one in await claim(work, limit=2)] == ["r1", "r2"]
    assert [one.key for one in await claim(work)] == ["r3"]


async def test_6_higher_priority_goes_first(store: SqlStore, work: SqlWork) -> None:
    await wake(store, "r1")
    await asyncio.sleep(0.002)
    await store.commit(Wake("run", "r2", priority=5))
    assert [one.key for one in await claim(work)] == ["r2", "r1"]


async def test_attempts_count_looks_without_progress(store: SqlStore, work: SqlWork) -> None:
    await wake(store, "r1")
    for attempt in (1, 2, 3):
        (one,) = await claim(work)
        assert one.attempts == attempt
        await work.give_back(one, due_in_s=0, error=f"boom {attempt}", progress=False)
    (one,) = await claim(work)
    assert (one.attempts, one.error) == (4, "boom 3")
    await store.commit(claim=one)
    await work.give_back(one, due_in_s=0, progress=False)
    (one,) = await claim(work)
    assert one.attempts == 1


async def execute(store: SqlStore, statement: sa.Executable) -> None:
    async def job(tx: Tx) -> None:
        await tx.run(statement)

    await store.database.write(job)


async def die(store: SqlStore, work: SqlWork, replica: ReplicaId = A) -> None:
    """Let a replica's lease end and others take over."""
    await execute(store, sa.update(REPLICA).where(REPLICA.c.id == replica).values(lease_until_ms=0))
    await work.take_over()


async def due_at(store: SqlStore, key: str) -> datetime:
    (row,) = await store.database.read(sa.select(WORK.c.due_ms).where(WORK.c.key == key))
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=row["due_ms"])


async def test_7_a_claim_that_ends_with_its_owner_is_a_loss_and_no_attempt(
    store: SqlStore, work: SqlWork
) -> None:
    await wake(store, "r1")
    (one,) = await claim(work)
    await work.give_back(one, due_in_s=0, error="boom", progress=False)
    for losses in range(SUSPECT - 1):
        (one,) = await claim(work)
        assert (one.attempts, one.losses, one.error) == (2, losses, "boom")
        await die(store, work)
        await join(work, A)
    (one,) = await claim(work)
    assert one.losses == SUSPECT - 1
    await work.give_back(one, due_in_s=0, error="boom again", progress=False)
    (one,) = await claim(work)
    assert (one.attempts, one.losses) == (3, 0)


async def test_7_a_look_that_never_came_back_is_a_loss_when_its_claim_is_dropped(
    store: SqlStore, work: SqlWork
) -> None:
    await wake(store, "r1")
    (first,) = await claim(work)
    await work.drop(first)
    (second,) = await claim(work)
    assert (second.attempts, second.losses) == (1, 1)
    with pytest.raises(LostLease):
        await work.drop(first)
    with pytest.raises(LostLease):
        await store.commit(claim=first)


async def test_7_leaving_or_coming_back_before_others_took_over_is_no_loss(
    store: SqlStore, work: SqlWork
) -> None:
    await wake(store, "r1")
    await claim(work)
    await join(work, A)
    await claim(work)
    await work.leave(A)
    await join(work, A)
    (one,) = await claim(work)
    assert one.losses == 0


async def test_7_on_sqlite_whoever_joins_finds_the_losses_of_the_dead(
    sqlite_url: str,
) -> None:
    async with open_store(sqlite_url) as store:
        work = SqlWork(store.database)
        await join(work, A)
        await wake(store, "r1")
        await claim(work)
        await join(work, B)
        (one,) = await claim(work, B)
        assert one.losses == 1


async def test_7_a_suspect_waits_longer_with_each_loss_but_is_due_when_it_is_woken(
    store: SqlStore, work: SqlWork
) -> None:
    await wake(store, "r1")
    await execute(store, sa.update(WORK).values(losses=SUSPECT - 1))
    for times in (1, 2, 3):
        (one,) = await claim(work)
        before = await store.now()
        await work.drop(one)
        waits = timedelta(seconds=SUSPECT_S * times)
        assert before + waits <= await due_at(store, "r1") <= await store.now() + waits
        assert await claim(work) == []
        await wake(store, "r1")


async def test_7_a_replica_holds_one_suspect_at_a_time_beside_all_others(
    store: SqlStore, work: SqlWork
) -> None:
    await wake(store, "s1", "s2", "s3", "s4")
    await execute(store, sa.update(WORK).values(losses=SUSPECT))
    await wake(store, "r1", "r2")
    first = await claim(work)
    assert sorted(one.key for one in first)[:2] == ["r1", "r2"]
    assert len(first) == 3
    assert await claim(work) == []
    (suspect,) = (one for one in first if one.losses)
    await work.give_back(suspect, due_in_s=None)
    seen = {suspect.key}
    for _ in range(3):
        (suspect,) = await claim(work)
        seen.add(suspect.key)
        await work.give_back(suspect, due_in_s=None)
    assert seen == {"s1", "s2", "s3", "s4"}


@pytest.mark.postgres
async def test_7_replicas_hold_different_suspects(two: tuple[SqlStore, SqlStore]) -> None:
    works = [SqlWork(store.database) for store in two]
    await join(works[0], A)
    await join(works[1], B)
    await wake(two[0], "s1", "s2", "s3")
    await execute(two[0], sa.update(WORK).values(losses=SUSPECT))
    (one,), (other,) = await claim(works[0], A), await claim(works[1], B)
    assert one.key != other.key


async def test_8_the_last_look_without_an_error_is_known(store: SqlStore, work: SqlWork) -> None:
    await wake(store, "all", kind="run")
    await wake(store, "all", kind="task")
    assert await work.looked(KINDS, "all") == {}
    for one in await claim(work):
        await work.give_back(one, due_in_s=None, error="no" if one.kind == "run" else "")
    (age_s,) = (await work.looked(KINDS, "all")).values()
    assert 0 <= age_s < 60
    assert list(await work.looked(KINDS, "all")) == ["task"]
    assert await work.looked(("run",), "all") == {}
    assert await work.looked(KINDS, "other") == {}


async def test_n1_many_signals_against_parking_lose_none(store: SqlStore, work: SqlWork) -> None:
    """A reader parks for ever after each look; writers say what it must see. None is lost."""
    said: set[int] = set()
    seen: set[int] = set()
    total = 300

    async def say(start: int) -> None:
        for number in range(start, total, 3):
            said.add(number)
            await wake(store, "r1")

    async def look() -> None:
        while len(seen) < total:
            for one in await claim(work):
                seen.update(said)
                await work.give_back(one, due_in_s=None)
            await work.wait(poll_s=0.05)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(look())
        for start in range(3):
            group.create_task(say(start))
    assert seen == set(range(total))
