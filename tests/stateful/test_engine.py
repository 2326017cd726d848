"""The engine over real records: what it does when everything works and when nothing does."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from adapters.store.schema import REPLICA, WORK
from adapters.store.store import SqlStore, open_store
from adapters.store.transaction import Tx
from adapters.store.work import SqlWork
from adapters.system import SystemClock, boottime
from core.clocks import Clock, Clocks
from core.engine import LOSSES_MAX, Engine, Reconciler
from core.errors import ConflictError, LostLease, RateLimitedError, UnavailableError
from core.ids import ReplicaId, TaskId
from core.ports.store import AtMost, Insert, Update, Wake
from core.ports.work import SUSPECT, Claim
from core.task import Task
from tests.fakes.clock import FakeClock
from tests.fakes.nouns import a_task
from tests.fakes.postgres import Postgres

CLOCKS = Clocks(lease_s=60, beat_s=0.3, poll_s=0.05)
LOSING = replace(CLOCKS, lease_s=0.9)
"""For tests in which a replica may lose its lease."""
A, B = ReplicaId("a"), ReplicaId("b")


async def until(condition: Callable[[], bool | Awaitable[bool]], *, limit_s: float = 60) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    async with asyncio.timeout(limit_s):
        while True:
            value = condition()
            if value if isinstance(value, bool) else await value:
                return
            await asyncio.sleep(0.005)


@dataclass
class Facts:
    """What the engine reported."""

    all: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, event: str, /, **values: object) -> None:
        self.all.append((event, values))

    def of(self, event: str) -> list[dict[str, object]]:
        return [values for one, values in self.all if one == event]

    def count(self, event: str) -> int:
        return len(self.of(event))


class FlakyWork(SqlWork):
    """Work with levers: `fail[method]` says how often it fails next, `hold` delays beats.

    Attributes:
        held: That the database has answered a beat.
        given_back: When each object that was given back is due, and its error.
    """

    def __init__(self, store: SqlStore) -> None:
        super().__init__(store.database)
        self.fail: Counter[str] = Counter()
        self.hold = asyncio.Event()
        self.hold.set()
        self.held = asyncio.Event()
        self.given_back: list[tuple[float | None, str]] = []

    def _lever(self, name: str) -> None:
        if self.fail[name] > 0:
            self.fail[name] -= 1
            raise UnavailableError("The database", "is away")

    async def beat(self, replica: ReplicaId, *, lease_s: float) -> bool:
        self._lever("beat")
        answer = await super().beat(replica, lease_s=lease_s)
        self.held.set()
        await self.hold.wait()
        return answer

    async def claim(
        self, replica: ReplicaId, kinds: Sequence[str], *, limit: int
    ) -> Sequence[Claim]:
        claims = await super().claim(replica, kinds, limit=limit)
        if claims:
            self._lever("claim")  # The answer is lost on its way.
        return claims

    async def give_back(
        self, claim: Claim, *, due_in_s: float | None, error: str = "", progress: bool = True
    ) -> None:
        self._lever("give_back")
        await super().give_back(claim, due_in_s=due_in_s, error=error, progress=progress)
        self.given_back.append((due_in_s, error))

    async def take_over(self) -> int:
        self._lever("take_over")
        return await super().take_over()

    async def wait(self, *, poll_s: float) -> None:
        self._lever("wait")
        await super().wait(poll_s=poll_s)


@asynccontextmanager
async def working(
    store: SqlStore,
    reconcilers: Mapping[str, Reconciler],
    *,
    replica: ReplicaId = A,
    work: SqlWork | None = None,
    facts: Facts | None = None,
    clock: Clock | None = None,
    clocks: Clocks = CLOCKS,
    at_once: int = 50,
    on_stuck: Callable[[str, str, str], Awaitable[None]] | None = None,
    clock_s: Callable[[], float] = boottime,
) -> AsyncGenerator[Engine]:
    async def ignore(kind: str, key: str, error: str) -> None:
        pass

    engine = Engine(
        work=work or SqlWork(store.database),
        clock=clock or SystemClock(),
        clocks=clocks,
        reconcilers=reconcilers,
        replica=replica,
        report=facts or Facts(),
        on_stuck=on_stuck or ignore,
        boottime=clock_s,
        at_once=at_once,
    )
    async with engine.running():
        yield engine


async def work_row(store: SqlStore, key: str) -> dict[str, object]:
    (row,) = await store.database.read(sa.select(WORK).where(WORK.c.key == key))
    return {**row}


async def is_parked(store: SqlStore, key: str) -> bool:
    row = await work_row(store, key)
    return row["owner"] is None and row["due_ms"] is None


async def execute(store: SqlStore, statement: sa.Executable) -> None:
    async def job(tx: Tx) -> None:
        await tx.run(statement)

    await store.database.write(job)


class Looks:
    """A reconciler that remembers; `answers` are returned or raised in turn, then None."""

    def __init__(self, *answers: float | BaseException | None) -> None:
        self.answers = list(answers)
        self.seen: list[Claim] = []

    async def __call__(self, claim: Claim) -> float | None:
        self.seen.append(claim)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer


async def test_a_woken_object_is_looked_at_and_rests_until_the_next_signal(
    store: SqlStore,
) -> None:
    looks = Looks()
    async with working(store, {"job": looks}):
        for times in (1, 2, 3):
            await store.commit(Wake("job", "j"))
            await until(lambda times=times: len(looks.seen) == times)  # type: ignore[misc]
            await until(lambda: is_parked(store, "j"))
    assert [one.fence for one in looks.seen] == [1, 2, 3]


async def test_an_object_is_looked_at_again_when_it_asked_for_it(store: SqlStore) -> None:
    looks = Looks(0.0, 0.01, 0.0)
    async with working(store, {"job": looks}):
        await store.commit(Wake("job", "j"))
        await until(lambda: len(looks.seen) == 4)
        await until(lambda: is_parked(store, "j"))


async def test_kinds_of_other_versions_are_left_alone(store: SqlStore) -> None:
    looks = Looks()
    async with working(store, {"job": looks}):
        await store.commit(Wake("future", "f"), Wake("job", "j"))
        await until(lambda: len(looks.seen) == 1)
    assert (await work_row(store, "f"))["fence"] == 0


async def test_t6_one_reconciler_that_raises_stops_no_other(store: SqlStore) -> None:
    async def broken(claim: Claim) -> float | None:
        raise ZeroDivisionError(claim.key)

    looks, facts = Looks(), Facts()
    async with working(store, {"bad": broken, "job": looks}, facts=facts):
        for number in range(20):
            await store.commit(Wake("bad", f"b{number}"), Wake("job", f"j{number}"))
        await until(lambda: len(looks.seen) == 20)
        await until(lambda: len({one["key"] for one in facts.of("work.failed")}) == 20)
    row = await work_row(store, "b3")
    assert row["last_error"] == "ZeroDivisionError: b3"
    assert row["attempts"] == sum(one["key"] == "b3" for one in facts.of("work.failed"))


async def test_t6_periodic_jobs_go_on_after_any_failure_of_the_database(store: SqlStore) -> None:
    looks, facts, work = Looks(), Facts(), FlakyWork(store)
    work.fail.update({"take_over": 2, "wait": 2, "beat": 1, "claim": 1})
    async with working(store, {"job": looks}, work=work, facts=facts):
        await store.commit(Wake("job", "j"))
        await until(lambda: not +work.fail)
        await until(lambda: len(looks.seen) >= 1)
    told = {event for event, _ in facts.all}
    assert {"rescue.failed", "wait.failed", "beat.failed", "claim.failed"} <= told


async def test_failures_back_off_with_their_error_and_at_last_give_the_object_up(
    store: SqlStore,
) -> None:
    looks, work = Looks(*(ValueError(f"no {n}") for n in range(9))), FlakyWork(store)
    given_up: list[tuple[str, str, str]] = []

    async def on_stuck(*what: str) -> None:
        given_up.append(what)  # type: ignore[arg-type]

    async with working(store, {"job": looks}, work=work, on_stuck=on_stuck):
        await store.commit(Wake("job", "j"))
        for times in range(1, 6):
            await until(lambda times=times: len(work.given_back) >= times)  # type: ignore[misc]
            wait_s, error = work.given_back[times - 1]
            assert wait_s is not None
            assert 0.5 * 2**times <= wait_s <= 2**times
            assert error == f"ValueError: no {times - 1}"
            await execute(store, sa.update(WORK).values(due_ms=0))
        await until(lambda: len(given_up) == 1)
        await until(lambda: is_parked(store, "j"))
    assert given_up == [("job", "j", "ValueError: no 4")]
    assert len(looks.seen) == 5
    assert (await work_row(store, "j"))["attempts"] == 0


async def lose(store: SqlStore, key: str, times: int) -> None:
    """Have an object claimed by replicas that die."""
    work = SqlWork(store.database)
    for number in range(times):
        dying = ReplicaId(f"dying-{number}")
        await work.join(dying, url="", version="", lease_s=3600)
        await execute(store, sa.update(WORK).where(WORK.c.key == key).values(due_ms=0))
        (claim,) = await work.claim(dying, ["job"], limit=1)
        assert (claim.key, claim.losses) == (key, number)
        await execute(store, sa.update(REPLICA).values(lease_until_ms=0))
        assert await work.take_over() == 1


async def test_deaths_of_replicas_are_no_failures_of_what_they_looked_at(store: SqlStore) -> None:
    """Not even of an object that failed before: one look that comes back clears it."""
    looks, facts = Looks(ValueError("once"), ValueError("again")), Facts()
    async with working(store, {"job": looks}, facts=facts):
        await store.commit(Wake("job", "j"))
        await until(lambda: facts.count("work.failed") == 1)
    await lose(store, "j", LOSSES_MAX - 1)
    async with working(store, {"job": looks}, facts=facts):
        await store.commit(Wake("job", "j"))
        await until(lambda: facts.count("work.failed") == 2)
        await until(lambda: is_returned(store, "j"))
    assert [one["attempts"] for one in facts.of("work.failed")] == [1, 2]
    assert (await work_row(store, "j"))["losses"] == 0
    assert facts.count("work.stuck") == 0


async def test_an_object_whose_looks_never_come_back_is_given_up_without_a_look(
    store: SqlStore,
) -> None:
    looks, facts = Looks(), Facts()
    given_up: list[tuple[str, str]] = []

    async def on_stuck(kind: str, key: str, error: str) -> None:
        assert "again and again" in error
        if not facts.count("work.failed"):
            raise ConflictError("somebody was first")
        given_up.append((kind, key))

    await store.commit(Wake("job", "killer"))
    await execute(store, sa.update(WORK).values(last_error="of long ago"))
    await lose(store, "killer", LOSSES_MAX)
    await store.commit(Wake("job", "killer"))
    async with working(store, {"job": looks}, facts=facts, on_stuck=on_stuck):
        await until(lambda: facts.count("work.failed") == 1)
        await until(lambda: is_returned(store, "killer"))
        await store.commit(Wake("job", "killer"))
        await until(lambda: len(given_up) == 1)
        await until(lambda: is_parked(store, "killer"))
        assert looks.seen == []
        await store.commit(Wake("job", "killer"))
        await until(lambda: len(looks.seen) == 1)
    assert given_up == [("job", "killer")]
    assert looks.seen[0].losses == 0


async def test_suspects_are_looked_at_one_after_the_other_beside_all_others(
    store: SqlStore,
) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    done: set[str] = set()

    async def slow(claim: Claim) -> float | None:
        of = claim.key[0]
        running[of] += 1
        most[of] = max(most[of], running[of])
        await asyncio.sleep(0.02)
        running[of] -= 1
        done.add(claim.key)
        return None

    await store.commit(*(Wake("job", f"s{n}") for n in range(10)))
    await execute(store, sa.update(WORK).values(losses=SUSPECT))
    await store.commit(*(Wake("job", f"r{n}") for n in range(10)))
    clocks = Clocks(lease_s=900, beat_s=300, poll_s=60)  # The end of one look brings on the next.
    async with working(store, {"job": slow}, clocks=clocks):
        await until(lambda: len(done) == 20)
    assert most["s"] == 1
    assert most["r"] > 1


async def is_returned(store: SqlStore, key: str) -> bool:
    return (await work_row(store, key))["owner"] is None


async def test_a_look_that_committed_something_got_on(store: SqlStore) -> None:
    await store.commit(Insert(a_task()))
    attempts: list[int] = []

    async def step(claim: Claim) -> float | None:
        attempts.append(claim.attempts)
        task = await store.get(Task, "T-1")
        if task.runs >= 12:
            return None
        await store.commit(Update(replace(task, runs=task.runs + 1)), claim=claim)
        raise ValueError("after the commit")

    async with working(store, {"job": step}):
        await store.commit(Wake("job", "T-1"))
        for times in range(1, 9):
            await until(lambda times=times: len(attempts) >= times)  # type: ignore[misc]
            await until(lambda: is_returned(store, "T-1"))
            await execute(store, sa.update(WORK).values(due_ms=0))
    assert set(attempts) == {1}


async def test_an_outage_elsewhere_is_no_fault_of_the_object(store: SqlStore) -> None:
    looks = Looks(
        *(UnavailableError("GitHub", "502") for _ in range(8)),
        RateLimitedError("GitHub", "slow down", retry_after_s=1234),
    )
    facts, work = Facts(), FlakyWork(store)
    async with working(store, {"job": looks}, work=work, facts=facts):
        await store.commit(Wake("job", "j"))
        for times in range(1, 9):
            await until(lambda times=times: len(work.given_back) >= times)  # type: ignore[misc]
            await execute(store, sa.update(WORK).values(due_ms=0))
        await until(lambda: len(work.given_back) >= 9)
    assert work.given_back[8] == (1234, "GitHub: slow down")
    assert facts.count("work.waits") == 1
    assert facts.count("work.stuck") == 0


async def test_who_was_too_late_looks_again_at_once(store: SqlStore) -> None:
    looks = Looks(ConflictError("somebody was first"))
    facts = Facts()
    async with working(store, {"job": looks}, facts=facts):
        await store.commit(Wake("job", "j"))
        await until(lambda: len(looks.seen) == 2)
    assert facts.count("work.failed") == 0


async def test_who_loses_against_a_crowd_again_and_again_is_not_stuck(store: SqlStore) -> None:
    looks = Looks(*[ConflictError("somebody was first")] * 8)
    facts = Facts()
    async with working(store, {"job": looks}, facts=facts):
        await store.commit(Wake("job", "j"))
        await until(lambda: len(looks.seen) == 9)
    assert facts.count("work.failed") == facts.count("work.stuck") == 0


async def test_no_more_of_a_kind_are_looked_at_at_once_than_allowed(store: SqlStore) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    done: Counter[str] = Counter()
    is_full = asyncio.Event()

    async def slow(claim: Claim) -> float | None:
        running[claim.kind] += 1
        most[claim.kind] = max(most[claim.kind], running[claim.kind])
        if most["a"] >= 4 <= most["b"]:
            is_full.set()
        await is_full.wait()
        await asyncio.sleep(0.01)
        running[claim.kind] -= 1
        done[claim.kind] += 1
        return None

    await store.commit(*(Wake(kind, f"{n}") for n in range(30) for kind in ("a", "b")))
    async with working(store, {"a": slow, "b": slow}, at_once=4):
        await until(lambda: done["a"] == done["b"] == 30)
    assert most == {"a": 4, "b": 4}


async def test_a_lost_lease_stops_that_object_only(store: SqlStore) -> None:
    facts, looks = Facts(), Looks()
    await store.commit(Insert(a_task()))
    wrote: list[str] = []

    async def robbed(claim: Claim) -> float | None:
        await execute(
            store, sa.update(WORK).where(WORK.c.kind == "bad").values(fence=WORK.c.fence + 1)
        )
        task = await store.get(Task, "T-1")
        await store.commit(Update(replace(task, title="stolen")), claim=claim)
        wrote.append(claim.key)
        return None

    async with working(store, {"bad": robbed, "job": looks}, facts=facts):
        await store.commit(Wake("bad", "b"))
        await until(lambda: facts.count("work.lost") == 1)
        await store.commit(Wake("job", "j"))
        await until(lambda: len(looks.seen) == 1)
    assert wrote == []
    assert (await store.get(Task, "T-1")).title == "Fix the cart"


async def test_the_own_lease_counts_from_before_the_beat_was_sent(store: SqlStore) -> None:
    """A beat whose answer takes longer than the lease must not count as a fresh lease."""
    clock, facts, work = FakeClock(), Facts(), FlakyWork(store)
    started = asyncio.Event()
    cancelled: list[str] = []

    async def endless(claim: Claim) -> float | None:
        started.set()
        if cancelled:
            return None
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(claim.key)
            raise
        return None

    clocks = Clocks(lease_s=15, beat_s=5, poll_s=1)
    async with asyncio.timeout(60):
        async with working(
            store,
            {"job": endless},
            work=work,
            facts=facts,
            clock=clock,
            clocks=clocks,
            clock_s=clock.boottime,
        ):
            await store.commit(Wake("job", "j"))
            await started.wait()
            work.hold.clear()  # The beat is sent at 5 s; its answer takes until 13 s.
            clock.advance(5)
            await work.held.wait()
            for _ in range(8):
                clock.advance(1)
                await asyncio.sleep(0.01)
            assert cancelled == ["j"]
            assert facts.count("replica.lost_lease") == 1
            work.hold.set()  # The late answer changes nothing.
            for _ in range(6):
                await asyncio.sleep(0.05)
                clock.advance(1)
            await until(lambda: facts.count("replica.joined_again") == 1)
            assert facts.count("replica.lost_lease") == 1


async def test_a_replica_that_lost_its_lease_starts_nothing_until_it_joined_again(
    store: SqlStore,
) -> None:
    clock, looks, facts, work = FakeClock(), Looks(), Facts(), FlakyWork(store)
    clocks, work.fail["beat"] = Clocks(lease_s=15, beat_s=5, poll_s=1), 1
    async with working(
        store,
        {"job": looks},
        facts=facts,
        work=work,
        clock=clock,
        clocks=clocks,
        clock_s=clock.boottime,
    ):
        await asyncio.sleep(0.01)
        clock.advance(12)
        await until(lambda: facts.count("replica.lost_lease") == facts.count("beat.failed") == 1)
        await execute(store, sa.delete(REPLICA))
        await store.commit(Wake("job", "j"))
        assert looks.seen == []
        clock.advance(5)
        await until(lambda: facts.count("replica.joined_again") == 1)
        await until(lambda: len(looks.seen) == 1)


async def test_a_second_cancel_does_not_kill_the_clean_up(store: SqlStore) -> None:
    """Losing the lease, and then the process's end, must let one clean-up end."""
    facts, work = Facts(), FlakyWork(store)
    started, steps = asyncio.Event(), list[str]()

    async def careful(claim: Claim) -> float | None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            steps.append("cancelled")
            await asyncio.sleep(0.2)
            steps.append("cleaned up")
            raise
        return None

    async with working(store, {"job": careful}, facts=facts, work=work, clocks=LOSING):
        await store.commit(Wake("job", "j"))
        await started.wait()
        work.fail["beat"] = 1000
        await until(lambda: facts.count("replica.lost_lease") >= 1)
    assert steps == ["cancelled", "cleaned up"]


async def test_a_row_that_nobody_works_on_comes_back_within_beats(store: SqlStore) -> None:
    """The answer to a claim, and that to a give-back, are lost on their way."""
    looks, facts, work = Looks(), Facts(), FlakyWork(store)
    work.fail["claim"] = 1
    async with working(store, {"job": looks}, facts=facts, work=work):
        await store.commit(Wake("job", "j"))
        await until(lambda: len(looks.seen) == 1)
        await until(lambda: is_parked(store, "j"))
        work.fail["give_back"] = 1
        await store.commit(Wake("job", "j"))
        await until(lambda: len(looks.seen) == 3)
        await until(lambda: is_parked(store, "j"))
    assert facts.count("work.orphaned") == 2
    assert facts.count("work.kept") == 1


async def test_a_row_that_nobody_works_on_comes_back_although_it_is_woken_all_the_time(
    store: SqlStore,
) -> None:
    looks, facts, work = Looks(), Facts(), FlakyWork(store)
    work.fail["claim"] = 1
    async with asyncio.TaskGroup() as group, working(store, {"job": looks}, work=work, facts=facts):

        async def wake_again_and_again() -> None:
            while not looks.seen:
                await store.commit(Wake("job", "j"))
                await asyncio.sleep(CLOCKS.beat_s / 10)

        group.create_task(wake_again_and_again())
        await until(lambda: len(looks.seen) == 1)
    assert facts.count("work.orphaned") == 1


async def test_leaving_finishes_the_looks_at_hand_and_claims_nothing_more(
    store: SqlStore,
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    async def slow(claim: Claim) -> float | None:
        started.set()
        await go_on.wait()
        ended.append(claim.key)
        return None

    async def later() -> None:
        await asyncio.sleep(0.1)
        await store.commit(Wake("job", "too-late"))
        go_on.set()

    async with asyncio.TaskGroup() as group, working(store, {"job": slow}):
        await store.commit(Wake("job", "j"))
        await started.wait()
        group.create_task(later())
    assert ended == ["j"]
    assert await is_parked(store, "j")
    assert (await work_row(store, "too-late"))["fence"] == 0
    assert await store.database.read(sa.select(REPLICA)) == []


async def test_run_works_until_it_is_cancelled(store: SqlStore) -> None:
    looks = Looks()
    engine = Engine(
        work=SqlWork(store.database),
        clock=SystemClock(),
        clocks=CLOCKS,
        reconcilers={"job": looks},
        replica=A,
        report=Facts(),
        boottime=boottime,
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(engine.run())
        await store.commit(Wake("job", "j"))
        await until(lambda: len(looks.seen) == 1)
        running.cancel()
    assert await store.database.read(sa.select(REPLICA)) == []


async def test_what_a_process_left_behind_is_picked_up_at_once_by_the_next(
    sqlite_url: str,
) -> None:
    """On SQLite whoever holds the file is alone: nobody waits for a lease."""
    looks = Looks()
    async with open_store(sqlite_url) as store:
        work = SqlWork(store.database)
        await work.join(B, url="", version="", lease_s=3600)
        await store.commit(Wake("job", "j"))
        assert len(await work.claim(B, ["job"], limit=1)) == 1
    async with open_store(sqlite_url) as store, working(store, {"job": looks}):
        await until(lambda: len(looks.seen) == 1)


# Two replicas on PostgreSQL


@pytest.fixture
async def two(postgres_url: str) -> AsyncGenerator[tuple[SqlStore, SqlStore]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(open_store(postgres_url)),
            await stack.enter_async_context(open_store(postgres_url)),
        )


class SkewedClock(SystemClock):
    """A clock that is wrong by an hour."""

    def now(self):  # type: ignore[no-untyped-def]
        return super().now() + timedelta(hours=1)


@pytest.mark.postgres
async def test_a_clock_that_is_wrong_by_an_hour_changes_nothing(
    two: tuple[SqlStore, SqlStore],
) -> None:
    looks, facts = (Looks(), Looks()), (Facts(), Facts())
    await two[0].commit(Wake("job", "later", in_s=600))
    async with (
        working(two[0], {"job": looks[0]}, replica=A, facts=facts[0]),
        working(two[1], {"job": looks[1]}, replica=B, facts=facts[1], clock=SkewedClock()),
    ):
        for number in range(40):
            await two[number % 2].commit(Wake("job", f"j{number}"))
        await until(lambda: sum(len(one.seen) for one in looks) == 40)
        await asyncio.sleep(3 * CLOCKS.beat_s)
    for one in facts:
        assert one.count("replica.lost_lease") == one.count("work.taken_over") == 0
    assert "later" not in {claim.key for one in looks for claim in one.seen}


@pytest.mark.postgres
async def test_signals_from_another_replica_against_parking_lose_none(
    two: tuple[SqlStore, SqlStore],
) -> None:
    """Each object asks and parks for ever; the other replica answers 0 to 15 ms later, twice."""
    objects, rounds = 30, 10
    heard: dict[str, list[int]] = {f"j{n}": [] for n in range(objects)}

    async with asyncio.TaskGroup() as answers:

        async def answer(key: str, number: int) -> None:
            await asyncio.sleep((number * 7 % 16) / 1000)
            task = a_task(id=TaskId(f"{key}:{number}"))
            for _ in range(2):
                await two[1].commit(Insert(task, once=True), Wake("job", key))

        async def job(claim: Claim) -> float | None:
            number = len(heard[claim.key])
            if number == rounds:
                return None
            if await two[0].find(Task, id=f"{claim.key}:{number}"):
                heard[claim.key].append(number)
                if number + 1 < rounds:
                    answers.create_task(answer(claim.key, number + 1))
            return None

        async with working(two[0], {"job": job}):
            for key in heard:
                answers.create_task(answer(key, 0))
            await until(lambda: all(len(one) == rounds for one in heard.values()))


@pytest.mark.postgres
async def test_a_dead_replicas_work_is_taken_over_when_its_lease_is_over(
    two: tuple[SqlStore, SqlStore],
) -> None:
    looks, facts = Looks(), Facts()
    dead = SqlWork(two[0].database)
    await dead.join(B, url="", version="", lease_s=60)
    await two[0].commit(*(Wake("job", f"j{n}") for n in range(5)))
    claims = await dead.claim(B, ["job"], limit=9)
    assert await dead.beat(B, lease_s=0.5)
    async with working(two[1], {"job": looks}, facts=facts):
        await until(lambda: len(looks.seen) == 5)
    assert facts.count("work.taken_over") == 1
    with pytest.raises(LostLease):
        await two[0].commit(claim=claims[0])
    assert not await dead.beat(B, lease_s=60)


@pytest.mark.postgres
async def test_a_replica_without_a_session_is_dead_at_once_where_sessions_are_watched(
    postgres_url: str,
) -> None:
    looks, facts = Looks(), Facts()
    async with open_store(postgres_url, watches_sessions=True) as alive:
        async with open_store(postgres_url) as dying:
            dead = SqlWork(dying.database)
            await dead.join(B, url="", version="", lease_s=3600)
            await dying.commit(Wake("job", "j"))
            await dead.claim(B, ["job"], limit=9)
            await until(lambda: dying.database.is_listening)
            await execute(alive, sa.update(REPLICA).values(joined_ms=0))
            assert await SqlWork(alive.database).take_over() == 0
        async with working(alive, {"job": looks}, facts=facts):
            await until(lambda: len(looks.seen) == 1)


@pytest.mark.postgres
async def test_a_replica_that_is_frozen_inside_a_transaction_stops_nobody_for_long(
    two: tuple[SqlStore, SqlStore],
) -> None:
    """It holds the lock under which limits are counted; the database ends its transaction."""
    holds, thaws = asyncio.Event(), asyncio.Event()

    async def frozen(tx: Tx) -> None:
        await tx.lock("limits")
        holds.set()
        await thaws.wait()
        await tx.run(sa.select(1))

    async with asyncio.timeout(60):
        zombie = asyncio.ensure_future(two[0].database.write(frozen))
        await holds.wait()
        limit = AtMost(number=1, where=(("asked_by", "ana"),), code="busy")
        await two[1].commit(Insert(a_task(), limits=(limit,)))
        thaws.set()
        with pytest.raises(UnavailableError):
            await zombie


@pytest.fixture
def own_server() -> "Postgres":
    from tests.fakes import postgres

    postgres.wanted()
    return Postgres()


@pytest.mark.postgres
async def test_work_goes_on_when_the_database_crashes_in_its_midst(own_server: Postgres) -> None:
    """`pg_ctl restart -m immediate`: sessions are cut, answers get lost, rows stay owned."""
    from tests.fakes.postgres import migrate_to

    url = await migrate_to(own_server)
    tasks, steps = 20, 5
    told: Counter[tuple[str, int]] = Counter()
    facts = Facts()
    try:
        async with open_store(url) as store:

            async def job(claim: Claim) -> float | None:
                task = await store.get(Task, claim.key)
                if task.runs == steps:
                    return None
                await asyncio.sleep(0.05)
                await store.commit(Update(replace(task, runs=task.runs + 1)), claim=claim)
                told[claim.key, task.runs] += 1
                return 0

            for number in range(tasks):
                task = a_task(id=TaskId(f"T-{number}"), runs=0)
                await store.commit(Insert(task), Wake("job", task.id))
            async with working(store, {"job": job}, facts=facts, clocks=LOSING):
                await until(lambda: sum(told.values()) > tasks)
                await asyncio.to_thread(own_server.restart_at_once)

                async def is_done() -> bool:
                    try:
                        found = await store.find(Task)
                    except UnavailableError:
                        return False
                    return all(task.runs == steps for task in found)

                await until(is_done)
            assert len(await store.find(Task)) == tasks
            assert {*told.values()} <= {1}
    finally:
        own_server.remove()
