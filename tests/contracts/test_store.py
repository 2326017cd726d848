"""Port `Store`: its promises, by number, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.store.changes import write
from adapters.store.database import Database
from adapters.store.schema import EVENT, OUTBOX, RUN, TABLES, WORK, WORKSPACE
from adapters.store.store import SqlStore, open_store
from adapters.store.transaction import Tx
from adapters.store.work import SqlWork
from core.access import DoorKey, Person
from core.decision import Decision, DecisionState
from core.errors import ConflictError, LostLease, NotFoundError, QuotaError, UnavailableError
from core.event import Event
from core.ids import (
    CopyId,
    DecisionId,
    NodeId,
    PersonId,
    ReplicaId,
    RunId,
    SessionId,
    TaskId,
    TerminalId,
    ThreadId,
    WorkspaceId,
)
from core.message import Post, Said, Thread
from core.order import NodeOrder
from core.ports.store import AtMost, Insert, Noun, Reader, Tell, Touch, Update, Wake
from core.ports.work import Claim
from core.project import Project
from core.recording import RecordingState
from core.rescue import CopyState
from core.run import Run, RunState
from core.session import AgentSession, SessionState
from core.task import Task, TaskState
from core.terminal import LIVE, Terminal, TerminalState
from core.wire import SessionEvent
from core.workspace import Workspace, WorkspaceState
from tests.fakes.nouns import (
    NOW,
    SESSION,
    a_chat,
    a_copy,
    a_node,
    a_project,
    a_prompt,
    a_recording,
    a_run,
    a_session,
    a_task,
    a_terminal,
    a_workspace,
    an_answer,
    an_event,
    at,
)
from tests.fakes.statements import commit_elsewhere


def a_post(**values: Any) -> Post:
    lane = ThreadId("web:web:1")
    return Post(
        **{
            "key": f"{lane}/card/T-1",
            "lane": lane,
            "surface": "web",
            "kind": "card",
            "state": "pending",
            "created_at": NOW,
            "task_id": TaskId("T-1"),
            **values,
        }
    )


def said(**values: Any) -> Said:
    return Said(
        **{
            "key": "delivery-1",
            "surface": "slack",
            "channel": "C1",
            "message": "171.1",
            "thread": ThreadId("slack:C1:171.1"),
            "author": PersonId("ana"),
            "text": "Fix it",
            "state": "received",
            "created_at": NOW,
            **values,
        }
    )


def a_decision(**values: Any) -> Decision:
    return Decision(
        **{
            "id": DecisionId("s:1"),
            "task_id": TaskId("T-1"),
            "run_id": RunId("T-1.1"),
            "session_id": SESSION,
            "request": "1",
            "kind": "question",
            "title": "Which?",
            "state": DecisionState.OPEN,
            "state_since": NOW,
            "created_at": NOW,
            **values,
        }
    )


def a_thread(**values: Any) -> Thread:
    values = {"id": ThreadId("web:web:1"), "surface": "web", "channel": "web", **values}
    return Thread(created_at=NOW, **values)


def an_order(name: str, **values: Any) -> NodeOrder:
    return an_answer(name, ok=None, **values)  # type: ignore[arg-type]


def a_fact(kind: str = "task.created", **values: Any) -> Event:
    return Event(kind=kind, subject="task:T-1", at=NOW, **values)


async def rows(store: SqlStore, table: sa.Table) -> list[dict[str, Any]]:
    return [{**row} for row in await store.database.read(sa.select(table))]


async def execute(store: SqlStore, statement: sa.Executable) -> None:
    async def job(tx: Tx) -> None:
        await tx.run(statement)

    await store.database.write(job)


async def due(store: SqlStore, kind: str) -> list[str]:
    query = sa.select(WORK.c.key).where(WORK.c.kind == kind, WORK.c.due_ms.is_not(None))
    return sorted(row["key"] for row in await store.database.read(query))


async def claimed(store: SqlStore, kind: str = "run", key: str = "T-1.1") -> Claim:
    work = SqlWork(store.database)
    await work.join(ReplicaId("r"), url="", version="1", lease_s=60)
    await store.commit(Wake(kind, key))
    (claim,) = await work.claim(ReplicaId("r"), [kind], limit=1)
    return claim


# 1. All or nothing


async def test_1_a_commit_is_all_or_nothing(store: SqlStore) -> None:
    await store.commit(Insert(a_run()))
    changes = [
        Insert(a_task()),
        Tell(a_fact()),
        Wake("task", "T-1"),
        Insert(a_post()),
        Touch(TaskId("T-1")),
        Update(a_run(version=7)),
    ]
    with pytest.raises(ConflictError):
        await store.commit(*changes)
    assert await store.find(Task) == []
    assert await store.events(after=0, limit=10) == []
    assert await rows(store, WORK) == []
    await store.commit(*changes[:-1])
    assert len(await store.find(Task)) == len(await store.events(after=0, limit=10)) == 1


async def test_1_changes_are_written_in_the_given_order(store: SqlStore) -> None:
    await store.commit(
        Insert(a_run(state=RunState.ENDED)),
        Insert(a_run(id=RunId("T-1.2"), number=2)),
        Update(a_run(id=RunId("T-1.2"), number=2, state=RunState.ENDED)),
        Insert(a_run(id=RunId("T-1.3"), number=3)),
        *(Tell(a_fact(f"run.n{n}")) for n in range(5)),
    )
    assert [event.kind for event in await store.events(after=0, limit=9)] == [
        f"run.n{n}" for n in range(5)
    ]


# 2. Versions


async def test_t1_2_the_second_writer_of_a_version_gets_a_conflict(store: SqlStore) -> None:
    await store.commit(Insert(a_task()))
    task = await store.get(Task, "T-1")
    await store.commit(Update(replace(task, title="mine")))
    with pytest.raises(ConflictError):
        await store.commit(Update(replace(task, title="yours")))
    now = await store.get(Task, "T-1")
    assert (now.title, now.version) == ("mine", task.version + 1)


async def test_t2_2_of_a_finish_and_a_cancel_at_once_one_wins(store: SqlStore) -> None:
    await store.commit(Insert(a_run()))
    run = await store.get(Run, "T-1.1")
    ends = [replace(run, state=RunState.ENDED, code=code) for code in ("done", "cancelled")]
    results = await asyncio.gather(
        *(store.commit(Update(end)) for end in ends), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["ConflictError", "NoneType"]
    winner = ends[results.index(None)]
    assert (await store.get(Run, "T-1.1")).code == winner.code


async def test_2_a_noun_without_a_version_is_not_updated(store: SqlStore) -> None:
    await store.commit(Insert(an_order("o-1")))
    with pytest.raises(ValueError, match="no version"):
        await store.commit(Update(an_order("o-1")))


# 3. Keys and unique rules


async def test_3_a_key_that_is_there_conflicts_unless_once(store: SqlStore) -> None:
    await store.commit(Insert(a_task()))
    with pytest.raises(ConflictError):
        await store.commit(Insert(a_task(title="again")))
    await store.commit(Insert(a_task(title="again"), once=True))
    assert [task.title for task in await store.find(Task)] == ["Fix the cart"]


PAIRS: list[tuple[str, Noun, Noun]] = [
    ("live run per task", a_run(), a_run(id=RunId("T-1.2"))),
    ("live workspace per run", a_workspace(), a_workspace(id=WorkspaceId("other"))),
    ("live session per run", a_session(), a_session(id=SessionId("other"))),
    (
        "thread per task",
        a_thread(task_id=TaskId("T-1")),
        a_thread(id=ThreadId("web:web:2"), task_id=TaskId("T-1")),
    ),
    ("row per message", said(), said(key="delivery-2")),
    ("open decision per request", a_decision(), a_decision(id=DecisionId("s:2"))),
    ("current copy per workspace", a_copy(), a_copy(id=CopyId("c-2"), state=CopyState.WANTED)),
    (
        "live terminal per session",
        a_terminal(session_id=SESSION),
        a_terminal(id=TerminalId("t-2"), session_id=SESSION, state=TerminalState.WAITING),
    ),
]


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(
    ("first", "second"), [pair[1:] for pair in PAIRS], ids=[p[0] for p in PAIRS]
)
async def test_3_there_is_only_one(store: SqlStore, first: Noun, second: Noun, once: bool) -> None:
    await store.commit(Insert(first))
    with pytest.raises(ConflictError):
        await store.commit(Insert(second, once=once))
    assert len(await store.find(type(first))) == 1


ENDED: list[tuple[Noun, Noun]] = [
    (a_run(state=RunState.ENDED), a_run(id=RunId("T-1.2"))),
    (a_workspace(state=WorkspaceState.GONE), a_workspace(id=WorkspaceId("other"))),
    (a_workspace(run_id=None), a_workspace(id=WorkspaceId("other"), run_id=None)),
    (a_session(state=SessionState.ENDED), a_session(id=SessionId("other"))),
    (a_thread(), a_thread(id=ThreadId("web:web:2"))),
    (a_decision(state=DecisionState.ANSWERED), a_decision(id=DecisionId("s:2"))),
    (a_copy(state=CopyState.RESTORED), a_copy(id=CopyId("c-2"), state=CopyState.WANTED)),
    (
        a_terminal(session_id=SESSION, state=TerminalState.EXITED),
        a_terminal(id=TerminalId("t-2"), session_id=SESSION),
    ),
]


@pytest.mark.parametrize(("first", "second"), ENDED)
async def test_3_what_is_over_makes_room(store: SqlStore, first: Noun, second: Noun) -> None:
    await store.commit(Insert(first), Insert(second))
    assert len(await store.find(type(first))) == 2


async def test_p1_3_one_message_under_eleven_delivery_ids_is_stored_once(store: SqlStore) -> None:
    results = await asyncio.gather(
        *(store.commit(Insert(said(key=f"delivery-{n}"))) for n in range(11)),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, ConflictError) for result in results) == 10
    assert len(await store.find(Said)) == 1


async def test_3_a_broken_rule_of_another_kind_is_no_conflict(store: SqlStore) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        await store.commit(Insert(replace(a_task(), kind="party")))  # type: ignore[arg-type]


# 4. Limits

THREE = AtMost(number=3, where=(("asked_by", "ana"), ("state", ("queued", "active"))), code="busy")


async def test_n12_4_fifty_at_once_never_pass_a_limit(store: SqlStore) -> None:
    def insert(number: int) -> Insert:
        return Insert(a_task(id=TaskId(f"T-{number}")), limits=(THREE,))

    results = await asyncio.gather(
        *(store.commit(insert(n), Wake("task", f"T-{n}")) for n in range(50)),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, QuotaError)]
    assert len(await store.find(Task)) == 3
    assert len(refused) == 47
    assert {error.code for error in refused} == {"busy"}
    assert len(await due(store, "task")) == 3


@pytest.mark.postgres
async def test_n12_4_two_replicas_never_pass_a_limit_together(postgres_url: str) -> None:
    async with open_store(postgres_url) as one, open_store(postgres_url) as two:

        async def submit(number: int) -> bool:
            task = a_task(id=TaskId(f"T-{number}"))
            try:
                await (one, two)[number % 2].commit(Insert(task, limits=(THREE,)))
            except QuotaError:
                return False
            return True

        assert sum(await asyncio.gather(*(submit(n) for n in range(50)))) == 3
        assert len(await one.find(Task)) == 3


async def test_4_what_ended_and_what_others_asked_for_does_not_count(store: SqlStore) -> None:
    for number in range(3):
        await store.commit(Insert(a_task(id=TaskId(f"D-{number}"), state=TaskState.DONE)))
        await store.commit(Insert(a_task(id=TaskId(f"B-{number}"), asked_by=PersonId("bo"))))
    await store.commit(Insert(a_task(), limits=(THREE,)))


async def test_4_writing_again_what_is_there_is_no_matter_of_limits(store: SqlStore) -> None:
    for number in range(3):
        await store.commit(Insert(a_task(id=TaskId(f"T-{number}")), limits=(THREE,)))
    await store.commit(Insert(a_task(id=TaskId("T-1")), once=True, limits=(THREE,)))


async def test_4_a_row_that_comes_under_a_limit_again_is_counted_too(store: SqlStore) -> None:
    over = [a_task(id=TaskId(f"D-{n}"), state=TaskState.DONE) for n in range(9)]
    await store.commit(*(Insert(task) for task in over), Insert(a_task()))
    again = [replace(task, state=TaskState.QUEUED) for task in over]
    results = await asyncio.gather(
        *(store.commit(Update(task, limits=(THREE,))) for task in again), return_exceptions=True
    )
    assert sum(isinstance(result, QuotaError) for result in results) == 7
    assert len(await store.find(Task, state=TaskState.QUEUED)) == 2, "and the active one"
    known = (await store.find(Task, state=TaskState.QUEUED))[-1]
    await store.commit(Update(replace(known, title="Renamed"), limits=(THREE,)))
    with pytest.raises(ConflictError):
        await store.commit(Update(known, limits=(THREE,)))


# 5. Claims


async def test_5_a_lost_claim_writes_nothing(store: SqlStore) -> None:
    claim = await claimed(store)
    await store.commit(Insert(a_task()), claim=claim)
    await SqlWork(store.database).give_back(claim, due_in_s=0)
    with pytest.raises(LostLease):
        await store.commit(Insert(a_task(id=TaskId("T-2"))), Tell(a_fact()), claim=claim)
    (again,) = await SqlWork(store.database).claim(ReplicaId("r"), ["run"], limit=1)
    with pytest.raises(LostLease):
        await store.commit(Insert(a_task(id=TaskId("T-2"))), claim=claim)
    await store.commit(claim=again)
    assert len(await store.find(Task)) == 1
    assert await store.events(after=0, limit=9) == []


# 6. Events


async def test_6_nobody_finds_a_lower_number_later(store: SqlStore) -> None:
    """Readers go on from the last number they saw and still find everything."""
    total = 120
    seen: list[int] = []

    async def write(start: int) -> None:
        for number in range(start, total, 6):
            await store.commit(Tell(a_fact(data={"n": number})), Wake("run", f"r{number}"))

    async def read() -> list[int]:
        after, numbers = 0, []
        while len(numbers) < total:
            for event in await store.events(after=after, limit=7):
                assert event.seq > after
                after = event.seq
                numbers.append(event.data["n"])
        return numbers

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(3)]
        for start in range(6):
            group.create_task(write(start))
    for reader in readers:
        seen = reader.result()
        assert sorted(seen) == list(range(total))


@pytest.mark.postgres
async def test_6_a_slow_replica_holds_nobody_back_and_appears_after_what_was_seen(
    postgres_url: str,
) -> None:
    async with open_store(postgres_url) as slow, open_store(postgres_url) as fast:
        written, go_on = asyncio.Event(), asyncio.Event()

        async def job(tx: Tx) -> None:
            await write(tx, [Tell(a_fact("run.slow"))], None)
            written.set()
            await go_on.wait()

        await fast.now()  # It is connected: a silent transaction is soon ended.
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(slow.database.write(job))
            await written.wait()
            await fast.commit(Tell(a_fact("run.fast")))
            (seen,) = await fast.events(after=0, limit=9)
            go_on.set()
        assert seen.kind == "run.fast"
        (late,) = await fast.events(after=seen.seq, limit=9)
        assert late.kind == "run.slow"


@pytest.mark.postgres
async def test_6_two_replicas_number_the_same_log(postgres_url: str) -> None:
    async with open_store(postgres_url) as one, open_store(postgres_url) as two:

        async def write_some(start: int) -> None:
            for number in range(start, 60, 4):
                await (one, two)[number % 2].commit(Tell(a_fact(data={"n": number})))

        async def read_all(store: SqlStore) -> list[tuple[int, int]]:
            seen: list[tuple[int, int]] = []
            while len(seen) < 60:
                after = seen[-1][0] if seen else 0
                found = await store.events(after=after, limit=9)
                seen += [(event.seq, event.data["n"]) for event in found]
            return seen

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            readers = [group.create_task(read_all(store)) for store in (one, two)]
            for start in range(4):
                group.create_task(write_some(start))
    assert readers[0].result() == readers[1].result()


async def test_6_events_of_one_task_are_read_alone(store: SqlStore) -> None:
    for number in range(6):
        await store.commit(Tell(a_fact(task_id=TaskId(f"T-{number % 2}"), data={"n": number})))
    events = await store.events(after=0, limit=2, task_id=TaskId("T-1"))
    assert [event.data["n"] for event in events] == [1, 3]
    events = await store.events(after=events[-1].seq, limit=9, task_id=TaskId("T-1"))
    assert [event.data["n"] for event in events] == [5]


# 7. The journal


async def test_7_each_offset_is_stored_once_whatever_is_repeated(store: SqlStore) -> None:
    events = [an_event(offset, "message.text", text=f"t{offset}") for offset in range(20)]
    await asyncio.gather(*(store.append(events[n : n + 7]) for n in range(20)))
    await store.append([replace(events[3], data={"text": "another"})])
    stored = await store.session_events(SESSION, after=-1, limit=100)
    assert list(stored) == events
    assert list(await store.session_events(SESSION, after=16, limit=2)) == events[17:19]


async def test_7_many_callers_share_one_transaction(store: SqlStore) -> None:
    writes = 0
    write = store.database.write

    async def counting(job: Callable[[Tx], Any]) -> Any:
        nonlocal writes
        writes += 1
        return await write(job)

    store.database.write = counting  # type: ignore[method-assign]
    await asyncio.gather(*(store.append([an_event(n, "notice")]) for n in range(200)))
    assert len(await store.session_events(SESSION, after=-1, limit=500)) == 200
    assert writes <= 3


async def test_7_a_caller_that_goes_away_takes_nobody_with_it(store: SqlStore) -> None:
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(store.append([an_event(n, "notice")])) for n in range(50)]
        await asyncio.sleep(0)
        for caller in callers[::5]:
            caller.cancel()
    offsets = {event.offset for event in await store.session_events(SESSION, after=-1, limit=99)}
    assert {n for n in range(50) if n % 5} <= offsets


async def test_7_one_bad_event_fails_its_caller_alone(store: SqlStore) -> None:
    good = [store.append([an_event(n, "notice")]) for n in range(10)]
    bad = store.append([replace(an_event(99, "notice"), data={"x": {1, 2}})])
    results = await asyncio.gather(*good, bad, return_exceptions=True)
    assert results[:-1] == [None] * 10
    assert isinstance(results[-1], TypeError)


# 8. Rows that cannot be read

BROKEN: list[tuple[sa.Table, Noun, Noun, dict[str, object]]] = [
    (RUN, a_run(), a_run(id=RunId("T-2.1"), task_id=TaskId("T-2")), {"measured": "{"}),
    (RUN, a_run(), a_run(id=RunId("T-2.1"), task_id=TaskId("T-2")), {"budget_usd": "dear"}),
    (
        WORKSPACE,
        a_workspace(),
        a_workspace(id=WorkspaceId("w2"), run_id=None),
        {"steps": '{"no": "list"}'},
    ),
]


@pytest.mark.parametrize(("table", "bad", "good", "damage"), BROKEN)
async def test_c5_8_a_row_that_cannot_be_read_is_left_out_and_reported_once(
    store: SqlStore, table: sa.Table, bad: Noun, good: Noun, damage: dict[str, object]
) -> None:
    await store.commit(Insert(bad), Insert(good))
    key = next(iter(table.columns))
    await execute(store, sa.update(table).where(key == bad.id).values(damage))  # type: ignore[union-attr]
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert list(await store.find(type(good))) == [good]
    (line,) = logs
    assert (line["event"], line["table"], line["key"]) == ("row.unreadable", table.name, bad.id)  # type: ignore[union-attr]
    assert store.unreadable == {table.name: 1}
    with pytest.raises(ValueError, match=next(iter(damage))):
        await store.get(type(bad), bad.id)  # type: ignore[union-attr]
    await store.commit(Update(good))


async def test_c5_8_a_broken_event_breaks_no_other(store: SqlStore) -> None:
    await store.commit(*(Tell(a_fact(data={"n": n})) for n in range(3)))
    assert len(await store.events(after=0, limit=9)) == 3
    await execute(store, sa.update(EVENT).where(EVENT.c.seq == 2).values(data="["))
    with structlog.testing.capture_logs():
        assert [event.data["n"] for event in await store.events(after=0, limit=9)] == [0, 2]


# 9. What was written is what is read


async def test_9_times_come_back_in_utc_and_money_exactly(store: SqlStore) -> None:
    there = datetime(2026, 3, 29, 2, 30, 0, 123457, tzinfo=timezone(timedelta(hours=5.5)))
    run = a_run(started_at=there, budget_usd=Decimal("0.100000000000000000001"))
    await store.commit(Insert(run))
    back = await store.get(Run, run.id)
    assert back == run
    assert back.started_at is not None
    assert back.started_at.tzinfo is UTC
    assert str(back.budget_usd) == "0.100000000000000000001"


async def test_9_a_time_without_a_zone_is_refused(store: SqlStore) -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises((ValueError, sa.exc.StatementError), match="zone"):
        await store.commit(Insert(a_run(started_at=naive)))


def nouns() -> st.SearchStrategy[Noun]:
    text = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
    json = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=8,
    )
    objects = st.dictionaries(text, json, max_size=3)
    times = st.floats(-1e9, 1e11).map(at)
    money = st.decimals(allow_nan=False, allow_infinity=False, places=9)
    number = st.floats(allow_nan=False, allow_infinity=False)
    runs = st.builds(
        a_run,
        reason=text,
        measured=st.none() | objects,
        started_at=st.none() | times,
        budget_usd=money,
        paused_s=number,
        nudges=st.integers(-(2**63), 2**63 - 1),
        state=st.sampled_from(RunState),
    )
    workspaces = st.builds(
        a_workspace,
        notes=st.lists(text, max_size=3).map(tuple),
        steps=st.lists(st.dictionaries(text, text, max_size=3), max_size=3).map(tuple),
        keep_until=st.none() | times,
        active_at=st.none() | times,
        discarded_by=st.none() | text,
        size=st.sampled_from(["small", "medium", "large"]),
    )
    decisions = st.builds(
        a_decision,
        allow=st.none() | st.booleans(),
        answers=st.none() | st.dictionaries(text, text, max_size=3),
        questions=st.lists(objects, max_size=2).map(tuple),
        is_sent=st.booleans(),
    )
    terminals = st.builds(
        a_terminal,
        title=text,
        error=text,
        exit_code=st.none() | st.integers(-(2**31), 2**31),
        state=st.sampled_from(TerminalState),
        is_hidden=st.booleans(),
        session_id=st.none() | st.just(SESSION),
    )
    copies = st.builds(
        a_copy,
        left_out=st.lists(text, max_size=3).map(tuple),
        size_bytes=st.integers(0, 2**63 - 1),
        made_at=st.none() | times,
        state=st.sampled_from(CopyState),
    )
    recordings = st.builds(
        a_recording,
        error=text,
        size_bytes=st.integers(0, 2**63 - 1),
        expires_at=st.none() | times,
        state=st.sampled_from(RecordingState),
    )
    chats = st.builds(a_chat, title=text, is_closed=st.booleans())
    return runs | workspaces | decisions | terminals | copies | recordings | chats


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noun=nouns())
async def test_9_what_was_written_is_what_is_read(database_url: str, noun: Noun) -> None:
    async with open_store(database_url) as store:
        await store.commit(Insert(noun))
        assert list(await store.find(type(noun))) == [noun]
        await execute(store, sa.delete(TABLES[type(noun)]))


async def test_9_what_no_column_holds_is_replaced_and_not_refused(store: SqlStore) -> None:
    await store.commit(Insert(a_prompt(text="a\0b\ud800c")))
    (prompt,) = await store.find(type(a_prompt()))
    assert prompt.text == "a\ufffdb?c"
    await store.append([an_event(0, "message.text", text="a\0b\ud800c")])
    (event,) = await store.session_events(SESSION, after=-1, limit=1)
    assert event.data["text"].startswith("a\0b")


# Looking things up


# Promise 10: snapshots


async def test_10_what_is_committed_while_a_snapshot_is_read_is_not_seen_in_it(
    store: SqlStore, database_url: str
) -> None:
    task, run = a_task(), a_run()
    await store.commit(Insert(task), Insert(run))
    ended = replace(run, state=RunState.ENDED)
    finished = replace(task, pull_number=7, state=TaskState.DONE)

    async def look(reader: Reader) -> tuple[int, RunState]:
        known = await reader.get(Task, task.id)
        commit_elsewhere(database_url, Update(finished), Update(ended))
        (its_run,) = await reader.find(Run, task_id=task.id)
        return known.pull_number, its_run.state

    assert await store.snapshot(look) == (0, run.state)
    assert (await store.get(Task, task.id)).pull_number == 7
    assert (await store.get(Run, run.id)).state is RunState.ENDED


async def test_10_a_snapshot_has_what_was_committed_before_it(store: SqlStore) -> None:
    for number in range(5):
        await store.commit(Insert(a_task(id=TaskId(f"T-{number}"))))
        found = await store.snapshot(lambda reader: reader.find(Task))
        assert len(found) == number + 1


async def test_10_nothing_is_written_in_a_snapshot(store: SqlStore) -> None:
    await store.commit(Insert(a_task()))
    with pytest.raises(sa.exc.DBAPIError):
        await store.database.snapshot(lambda tx: tx.run(sa.delete(TABLES[Task])))
    assert await store.find(Task)


async def test_10_what_fails_in_a_snapshot_reaches_the_caller_and_the_next_one_works(
    store: SqlStore,
) -> None:
    for _ in range(12):  # More often than there are connections.
        with pytest.raises(NotFoundError):
            await store.snapshot(lambda reader: reader.get(Task, "T-0"))
    assert await store.snapshot(lambda reader: reader.find(Task)) == []


# How rows are found


async def test_find_takes_values_any_of_several_and_null(store: SqlStore) -> None:
    await store.commit(
        *(
            Insert(a_workspace(id=WorkspaceId(f"w{n}"), run_id=RunId(f"r{n}") if n else None))
            for n in range(4)
        )
    )
    assert [w.id for w in await store.find(Workspace, run_id=None)] == ["w0"]
    assert [w.id for w in await store.find(Workspace, run_id=("r1", "r3"))] == ["w1", "w3"]
    ready = (WorkspaceState.READY, WorkspaceState.GONE)
    assert len(await store.find(Workspace, state=ready, run_id="r2")) == 1
    assert await store.find(Workspace, state=()) == []
    with pytest.raises(ValueError, match="colour"):
        await store.find(Workspace, colour="red")


async def test_find_returns_the_oldest_first_or_the_newest(store: SqlStore) -> None:
    for number in (2, 0, 1):
        await store.commit(Insert(a_task(id=TaskId(f"T-{number}"), created_at=at(number))))
    assert [task.id for task in await store.find(Task)] == ["T-0", "T-1", "T-2"]
    newest = await store.find(Task, newest_first=True, limit=2)
    assert [task.id for task in newest] == ["T-2", "T-1"]


async def test_find_takes_columns_with_any_name(store: SqlStore) -> None:
    await store.commit(Insert(said()))
    assert len(await store.find(Said, key="delivery-1")) == 1
    await store.commit(Insert(an_order("o-1")))
    assert len(await store.find(NodeOrder, kind="x")) == 1


async def test_get_says_what_is_not_there(store: SqlStore) -> None:
    with pytest.raises(NotFoundError, match=r"There is no agent session x\."):
        await store.get(AgentSession, "x")


async def test_every_noun_has_its_table_and_comes_back(store: SqlStore) -> None:
    person = Person(id=PersonId("ana"), name="Ana", role="admin", created_at=NOW)
    key = DoorKey(
        id="k",
        kind="pass",
        person_id=PersonId("ana"),
        workspace_id=WorkspaceId("wabcdefg"),
        created_at=NOW,
        expires_at=at(60),
    )
    plain = (a_project(), person, a_node(), a_thread(), said(), a_post(), a_terminal(), key)
    for noun in plain:
        await store.commit(Insert(noun))  # type: ignore[arg-type]
        assert list(await store.find(type(noun))) == [noun]  # type: ignore[type-var]
    assert (await store.get(Project, "web")).repo.owner == "acme"


# Numbers, money, orders, lanes


async def test_live_terminals_of_a_workspace_are_found_and_counted(store: SqlStore) -> None:
    live = (("workspace_id", WorkspaceId("wabcdefg")), ("state", LIVE))
    limit = AtMost(number=2, where=live, code="terminals")
    over = a_terminal(id=TerminalId("t-over"), state=TerminalState.EXITED)
    elsewhere = a_terminal(id=TerminalId("t-else"), workspace_id=WorkspaceId("wother00"))
    await store.commit(Insert(over), Insert(elsewhere))
    for n in range(2):
        await store.commit(Insert(a_terminal(id=TerminalId(f"t-{n}")), limits=(limit,)))
    with pytest.raises(QuotaError) as full:
        await store.commit(Insert(a_terminal(id=TerminalId("t-3")), limits=(limit,)))
    assert full.value.code == "terminals"
    found = await store.find(Terminal, workspace_id=WorkspaceId("wabcdefg"), state=LIVE)
    assert [terminal.id for terminal in found] == ["t-0", "t-1"]


async def test_numbers_are_given_once(store: SqlStore) -> None:
    numbers = await asyncio.gather(*(store.next_number("task") for _ in range(40)))
    assert sorted(numbers) == list(range(1, 41))
    assert await store.next_number("other") == 1


async def test_money_adds_up_whoever_books_it(store: SqlStore) -> None:
    await asyncio.gather(
        *(
            store.book("T-1.1", f"m{n % 2}", usd_micros=n, tokens={"input_tokens": 1})
            for n in range(20)
        )
    )
    await store.book("T-2.1", "m", usd_micros=5, tokens={"input_tokens": 9})
    assert await store.spent("T-1.1", "T-2.1", "T-3.1") == {"T-1.1": 190, "T-2.1": 5}
    assert await store.spent() == {}


async def test_orders_of_a_node_are_numbered_without_a_gap_in_the_order_of_commits(
    store: SqlStore,
) -> None:
    async def write(number: int) -> None:
        node = NodeId(f"node-{number % 2}")
        order = an_order(f"o-{number}", node_id=node)
        await store.commit(Insert(order, once=True), Insert(order, once=True))

    await asyncio.gather(*(write(number) for number in range(20)))
    for node in ("node-0", "node-1"):
        orders = await store.find(NodeOrder, node_id=node)
        assert [order.seq for order in orders] == list(range(1, 11))


async def test_an_order_is_answered_once_and_wakes_its_subject(store: SqlStore) -> None:
    await store.commit(Insert(an_order("o-1")))
    answers = await asyncio.gather(
        *(
            store.answer_order("o-1", ok=True, result={"n": n}, at=at(n))  # type: ignore[arg-type]
            for n in range(5)
        )
    )
    assert sum(answers) == 1
    order = await store.get(NodeOrder, "o-1")
    assert order.result == {"n": answers.index(True)}
    assert order.answered_at == at(answers.index(True))
    assert await due(store, "run") == ["T-1.1"]
    assert not await store.answer_order("unknown", ok=True, at=NOW)  # type: ignore[arg-type]


async def test_a_post_wakes_its_lane_and_a_touch_asks_for_the_card_anew(store: SqlStore) -> None:
    await store.commit(Insert(a_post(state="sent", shown=1)))
    await store.commit(Insert(a_post(key="reply", kind="reply", state="sent", shown=1)))
    assert await due(store, "outbox") == ["web:web:1"]
    await execute(store, sa.update(WORK).values(due_ms=None))
    await store.commit(Touch(TaskId("T-1")))
    (card,) = await store.find(Post, kind="card")
    assert (card.wanted, card.shown, card.state, card.version) == (2, 1, "pending", 1)
    (reply,) = await store.find(Post, kind="reply")
    assert (reply.wanted, reply.state) == (1, "sent")
    assert await due(store, "outbox") == ["web:web:1"]


@pytest.mark.parametrize("state", ["sending", "dead"])
async def test_a_touch_leaves_a_post_on_its_way_or_dead(store: SqlStore, state: str) -> None:
    await store.commit(Insert(a_post(state=state)), Touch(TaskId("T-1")))
    (row,) = await rows(store, OUTBOX)
    assert (row["state"], row["wanted"]) == (state, 1 if state == "dead" else 2)


async def test_commits_that_wake_each_other_do_not_wait_in_a_ring(store: SqlStore) -> None:
    async def commit(number: int) -> None:
        keys = [f"r{n}" for n in range(6)]
        await store.commit(*(Wake("run", key) for key in keys[number % 6 :] + keys[: number % 6]))

    async with asyncio.timeout(60):
        await asyncio.gather(*(commit(number) for number in range(60)))
    assert len(await due(store, "run")) == 6


async def test_commits_that_update_the_same_rows_in_turn_end_in_conflicts_at_worst(
    store: SqlStore,
) -> None:
    tasks = [a_task(id=TaskId(f"T-{n}")) for n in range(4)]
    await store.commit(*(Insert(task) for task in tasks))

    async def commit(number: int) -> bool:
        order = tasks if number % 2 else tasks[::-1]
        try:
            await store.commit(*(Update(task) for task in order))
        except ConflictError:
            return False
        return True

    async with asyncio.timeout(60):
        assert sum(await asyncio.gather(*(commit(number) for number in range(10)))) == 1


async def test_the_database_tells_the_time(store: SqlStore) -> None:
    first = await store.now()
    assert abs((first - datetime.now(UTC)).total_seconds()) < 60
    assert first.tzinfo is UTC
    assert await store.now() >= first


async def test_session_events_keep_the_shape_of_the_wire(store: SqlStore) -> None:
    event = an_event(3, "tool.end", ok=True, nested={"a": [1, None]})
    await store.append([event])
    assert await store.session_events(SESSION, after=2, limit=1) == [event]
    assert isinstance(event, SessionEvent)


async def test_a_database_that_cannot_be_reached_is_an_outage() -> None:
    database = Database("postgresql+asyncpg://samovar@127.0.0.1:9/samovar")
    query = sa.select(1)
    try:
        for ask in (database.write, database.snapshot):
            with pytest.raises(UnavailableError):
                await ask(lambda tx: tx.rows(query))
        with pytest.raises(UnavailableError):
            await database.read(query)
    finally:
        await database.close()
