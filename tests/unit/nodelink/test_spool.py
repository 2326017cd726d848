"""The spool: kept across kills, bounded, in order."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import agent.spool
from agent import database
from agent.spool import BATCH_BYTES, EVENT_BYTES_MAX, Spool
from core.ids import OrderId, RunId, SessionId, WorkspaceId
from core.wire import Order, OrderAnswer, SessionEvent, WorkspaceStep
from tests.fakes.serving import until

S = SessionId("s1")


def event(offset: int, text: str = "x", session: SessionId = S) -> SessionEvent:
    data = {"message": "m", "text": text}
    return SessionEvent(
        session=session, run=RunId("T-1.1"), offset=offset, kind="message.text", at="", data=data
    )


def step(n: int, text: str = "") -> WorkspaceStep:
    return WorkspaceStep(
        workspace=WorkspaceId("w"), attempt=n, step="fetch", state="done", at="", text=text
    )


def order(ident: str, *, fence: int = 1, about: str = "run:1") -> Order:
    return Order(id=OrderId(ident), object=about, fence=fence, kind="collect", body={"a": 1})


@asynccontextmanager
async def opened(folder: Path, **limits: int) -> AsyncGenerator[Spool]:
    spool = Spool(folder / "spool.db", **limits)
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()


async def reports(spool: Spool, after: int = 0) -> list[tuple[int, str, dict[str, Any]]]:
    rows = await spool.reports(after=after, bytes_max=10**9)
    return [(seq, kind, json.loads(body)) for seq, kind, body in rows]


async def test_reports_keep_their_order_and_numbers_are_never_used_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        name = spool.name
        await asyncio.gather(*(spool.put(step(n)) for n in range(100)))
        assert [body["attempt"] for _, _, body in await reports(spool)] == list(range(100))
        await spool.acknowledged(100)
        assert await reports(spool) == []
    async with opened(tmp_path) as spool:
        await spool.put(step(0))
        assert [seq for seq, _, _ in await reports(spool)] == [101]
        assert spool.name == name


async def test_events_and_cursor_are_one_and_a_repeated_offset_is_ignored(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        assert await spool.cursor(S) == (0, 0)
        await spool.store(S, [event(1), event(2)], cursor=(1, 20))
        await spool.store(S, [event(2), event(3)], cursor=(1, 30))
        await spool.store(S, [], cursor=(2, 0))
    async with opened(tmp_path) as spool:
        assert await spool.cursor(S) == (2, 0)
        found = [[e["offset"] for e in body["events"]] for _, _, body in await reports(spool)]
        assert found == [[1, 2], [3]]


async def test_events_are_split_into_batches_in_order(tmp_path: Path) -> None:
    events = [event(n, "y" * (BATCH_BYTES // 3)) for n in range(10)]
    async with opened(tmp_path) as spool:
        await spool.store(S, events, cursor=(1, 1))
        batches = [[e["offset"] for e in body["events"]] for _, _, body in await reports(spool)]
    assert [n for batch in batches for n in batch] == list(range(10))
    assert max(len(batch) for batch in batches) <= 3


async def test_an_event_that_is_too_long_is_cut_and_says_so(tmp_path: Path) -> None:
    many = {"list": ["z" * 100] * (EVENT_BYTES_MAX // 50), "text": "q"}
    strange = event(2)
    strange.data.clear()
    strange.data.update(many)
    async with opened(tmp_path) as spool:
        await spool.store(S, [event(1, "é" * EVENT_BYTES_MAX), strange], cursor=(1, 1))
        rows = await spool.reports(after=0, bytes_max=10**9)
    assert all(len(body.encode()) < EVENT_BYTES_MAX + 1000 for _, _, body in rows)
    first, second = (json.loads(body)["events"][0]["data"] for _, _, body in rows)
    assert first["cut"] > 2 * EVENT_BYTES_MAX
    assert "more characters]" in first["text"]
    assert list(second) == ["cut"]


async def test_half_of_a_surrogate_pair_does_not_stop_the_spool(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.store(S, [event(1, "cut \ud83d here")], cursor=(1, 1))
        await spool.accept(
            [(1, Order(id=OrderId("o"), object="o", fence=1, kind="k", body={"text": "\ud83d"}))]
        )
        [(_, _, body)] = await reports(spool)
    assert body["events"][0]["data"]["text"] == "cut ? here"


async def test_orders_are_kept_until_answered_and_the_answer_is_given_again(
    tmp_path: Path,
) -> None:
    answer = OrderAnswer(order=OrderId("a"), ok=True, result={"x": 1})
    async with opened(tmp_path) as spool:
        await spool.accept([(1, order("a")), (2, None), (3, order("b"))])
        await spool.answer(answer)
        await spool.answer(OrderAnswer(order=OrderId("a"), ok=False, code="late"))
        await spool.acknowledged(await spool.highest())
    async with opened(tmp_path) as spool:
        assert spool.received == 3
        assert [(seq, o.id) for seq, o in await spool.unanswered(after=0)] == [(3, "b")]
        await spool.accept([(4, order("a"))])
        [(_, kind, body)] = await reports(spool)
        assert (kind, body["order"], body["result"]) == ("order_answer", "a", {"x": 1})


async def test_orders_of_a_link_that_ended_meanwhile_are_known_at_the_next(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(spool.accept([(1, order("a"))]))
            await asyncio.sleep(0)
            accepting.cancel()
        assert spool.received == 0
        spool.orders_added.clear()
        await spool.settle()
        assert spool.received == 1, "else it is sent again, and answered twice"
        assert spool.orders_added.is_set()


async def test_a_lower_fence_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.accept([(1, order("a", fence=5))])
    async with opened(tmp_path) as spool:
        await spool.accept([(2, order("b", fence=4)), (3, order("c", fence=4, about="run:2"))])
        [(_, _, refused)] = await reports(spool)
        assert (refused["order"], refused["code"]) == ("b", "stale_fence")
        assert [o.id for _, o in await spool.unanswered(after=0)] == ["a", "c"]


async def test_notes_are_kept_per_session(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.note(S, "k", "1")
        await spool.note(S, "k", "2")
        await spool.note(SessionId("s2"), "k", "")
    async with opened(tmp_path) as spool:
        assert await spool.notes(S) == {"k": "2"}
        assert await spool.noted("k") == {S: "2"}


async def test_a_session_that_begins_anew_is_known_to_the_host_alone(tmp_path: Path) -> None:
    other = SessionId("s2")
    async with opened(tmp_path) as spool:
        for session in (S, other):
            await spool.store(session, [event(7, session=session)], cursor=(1, 20))
            await spool.note(session, "prompt.1", "go")
            await spool.note(session, "host.started", "order")
        for _ in range(2):
            await spool.begin_anew(S)
        assert await spool.cursor(S) == (0, 0)
        assert await spool.notes(S) == {"host.started": "order"}
        assert await spool.cursor(other) == (1, 20)
        assert len(await spool.notes(other)) == 2
        assert len(await reports(spool)) == 2, "what was stored is still told"


async def test_what_is_over_is_let_go_of_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.spool, "ANSWERS_KEPT", 2)
    live, here, over = SessionId("live"), SessionId("here"), SessionId("over")
    async with opened(tmp_path) as spool:
        await spool.accept([(n, order(f"o{n}")) for n in range(1, 6)])
        for n in range(1, 5):
            await spool.answer(OrderAnswer(order=OrderId(f"o{n}"), ok=True))
        for session in (live, here, over):
            await spool.note(session, "started", "x" if session == live else "")
            await spool.note(session, "prompt.1", "go")
            await spool.store(session, [], cursor=(0, 7))
        await spool.tidy(kept=[here], noted="started")
        assert await spool.notes(over) == {}
        assert await spool.cursor(over) == (0, 0)
        for session in (live, here):
            assert (await spool.notes(session))["prompt.1"] == "go"
            assert await spool.cursor(session) == (0, 7)
        assert [o.id for _, o in await spool.unanswered(after=0)] == ["o5"]
        before = len(await reports(spool))
        await spool.accept([(6, order("o4")), (7, order("o1"))])
        assert len(await reports(spool)) == before + 1, "o4 is answered again, o1 is forgotten"
        assert [o.id for _, o in await spool.unanswered(after=0)] == ["o5", "o1"]


async def test_a_full_disk_holds_the_writer_up_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "FULL_WAIT_S", 0.01)
    async with opened(tmp_path, pages_max=64) as spool, asyncio.TaskGroup() as group:

        async def write() -> None:
            for n in range(200):
                await spool.put(step(n, "w" * 2000))

        writing = group.create_task(write())
        await until(lambda: spool.is_full)
        seen: list[int] = []
        while not (writing.done() and len(seen) == 200):
            found = await reports(spool)
            seen += [body["attempt"] for _, _, body in found]
            if found:
                await spool.acknowledged(found[-1][0])
            await asyncio.sleep(0.005)
    assert seen == list(range(200))
    assert [r.message for r in caplog.records].count("spool.full") >= 1
    assert "spool.has_room_again" in [r.message for r in caplog.records]


async def test_one_bad_writer_does_not_spoil_the_group(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        bad = spool._database.do(lambda db: db.execute("nonsense").rowcount)
        results = await asyncio.gather(
            spool.put(step(1)), bad, spool.put(step(2)), return_exceptions=True
        )
        assert [type(result).__name__ for result in results] == [
            "NoneType",
            "OperationalError",
            "NoneType",
        ]
        assert [body["attempt"] for _, _, body in await reports(spool)] == [1, 2]


async def test_a_report_under_a_name_is_kept_once_also_after_it_was_acknowledged(
    tmp_path: Path,
) -> None:
    for _ in range(2):
        spool = Spool(tmp_path / "spool.db")
        await spool.open()
        for _ in range(2):
            await spool.put_once("exited:t-1", step(1))
        assert await spool.highest() == 1
        await spool.acknowledged(1)
        await spool.close()
    spool = Spool(tmp_path / "spool.db")
    await spool.open()
    await spool.forget("exited:t-1")
    await spool.put_once("exited:t-1", step(2))
    assert await spool.highest() == 2
    await spool.close()
