"""The link over a real WebSocket: orders, answers, reports, heartbeats."""

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from core.ids import NodeId, RunId, SessionId, WorkspaceId
from core.wire import (
    CLOSE_REPLACED,
    CLOSE_UNREADABLE,
    CLOSE_VERSION,
    PROTOCOL,
    Credential,
    Frame,
    Hello,
    OrderAnswer,
    Report,
    SessionDelta,
    SessionEvent,
    WorkspaceStep,
    frame,
)
from tests.fakes.black_hole import black_hole
from tests.fakes.node_link import (
    NODE,
    Agent,
    ControlPlane,
    an_order,
    attached,
    control_plane,
    dialled,
)
from tests.fakes.serving import until

SESSION = SessionId("s1")


def a_step(n: int, text: str = "") -> WorkspaceStep:
    return WorkspaceStep(
        workspace=WorkspaceId("w"), attempt=n, step="fetch", state="done", at="", text=text
    )


def an_event(n: int) -> SessionEvent:
    return SessionEvent(
        session=SESSION, run=RunId("T-1.1"), offset=n, kind="progress", at="", data={"text": "t"}
    )


def a_hello(node: str = NODE) -> Hello:
    return Hello(
        protocol=PROTOCOL,
        node=NodeId(node),
        version="1",
        spool="x",
        received=0,
        cpus=1.0,
        memory_mb=1,
    )


def stored_offsets(plane: ControlPlane) -> list[int]:
    batches = plane.store.db.execute(
        "SELECT body FROM received WHERE kind = 'session_events' ORDER BY n"
    )
    return [event["offset"] for (body,) in batches for event in json.loads(body)["events"]]


async def emptied(agent: Agent) -> bool:
    return not await agent.spool.reports(after=0, bytes_max=1)


async def test_an_order_reaches_the_node_and_its_answer_comes_back(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    order = an_order(1)
    plane.store.add_order(NODE, order)
    async with attached(plane.url, token, tmp_path / "n") as agent:
        await until(lambda: agent.spool.received == 1)
        [(_, kept)] = await agent.spool.unanswered(after=0)
        assert kept == order
        await agent.spool.answer(OrderAnswer(order=order.id, ok=True, result={"x": 1}))
        await until(plane.store.answers)
        assert plane.store.answers()[order.id]["result"] == {"x": 1}
        await until(lambda: plane.store.statuses)
        assert list(plane.link.connected()) == [NODE]
    await until(lambda: not plane.link.connected())
    assert plane.store.log == [f"connected {NODE}", f"disconnected {NODE}"]


async def test_p5_reports_arrive_once_and_in_order_also_at_a_slow_sink(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    plane.store.delay_s["received"] = 0.0005
    async with attached(plane.url, token, tmp_path / "n") as agent:
        for first in range(0, 5000, 500):
            events = [an_event(n) for n in range(first, first + 500)]
            await agent.spool.store(SESSION, events, cursor=(1, first))
        for n in range(500):
            await agent.spool.put(a_step(n))
        await until(lambda: len(plane.store.bodies("workspace_step")) == 500)
        assert [body["attempt"] for body in plane.store.bodies("workspace_step")] == [*range(500)]
        assert stored_offsets(plane) == [*range(5000)]
        await until(lambda: emptied(agent))


async def test_p5_a_slow_store_holds_up_its_node_and_no_other(tmp_path: Path) -> None:
    other = NodeId("node-0000bbbb")
    gate = asyncio.Event()
    async with control_plane(heartbeat_s=0.5) as plane:
        take = plane.store.received

        async def held(node: NodeId, seq: int, message: Report) -> None:
            if node == NODE:
                await gate.wait()
            await take(node, seq, message)

        def pings_pass() -> bool:
            """Whether the held-up link has lasted for longer than a silent one may."""
            beats = "SELECT beats FROM node WHERE id = ?"
            (count,) = plane.store.db.execute(beats, (NODE,)).fetchone()
            return count >= 4 and set(plane.link.connected()) == {NODE, other}

        plane.store.received = held  # type: ignore[method-assign]
        one, two = plane.store.add_node(NODE), plane.store.add_node(other)
        async with (
            attached(plane.url, one, tmp_path / "n") as slow,
            attached(plane.url, two, tmp_path / "m", node=other) as quick,
        ):
            await asyncio.gather(*(slow.spool.put(a_step(n)) for n in range(2000)))
            await quick.spool.put(a_step(7))
            await until(lambda: plane.store.bodies("workspace_step"))
            await until(pings_pass)
            assert len(plane.store.bodies("workspace_step")) == 1
            gate.set()
            await until(lambda: len(plane.store.bodies("workspace_step")) == 2001)


async def test_p7_a_store_that_fails_for_a_while_loses_nothing(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    plane.store.fail.update(received=3, pending=2, wait=2, delivered=2, beat=2, connected=1)
    plane.store.add_order(NODE, an_order(1))
    async with attached(plane.url, token, tmp_path / "n") as agent:
        for n in range(5):
            await agent.spool.put(a_step(n))
        await until(lambda: len(plane.store.bodies("workspace_step")) == 5)
        await until(lambda: agent.spool.received == 1)
        assert [body["attempt"] for body in plane.store.bodies("workspace_step")] == [*range(5)]


async def test_p7_what_can_never_be_taken_is_buried_and_does_not_stop_the_rest(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    plane.store.poison = "evil"
    async with attached(plane.url, token, tmp_path / "n") as agent:
        await agent.spool.put(a_step(1))
        await agent.spool.put(a_step(2, "evil"))
        await agent.spool._database.do(
            lambda db: db.execute("INSERT INTO report (kind, body) VALUES ('odd', '{}')").rowcount
        )
        await agent.spool.put(a_step(3))
        await until(lambda: len(plane.store.bodies("workspace_step")) == 2)
        await until(lambda: emptied(agent))
    assert [(row[1], row[2]) for row in plane.store.dead()] == [(2, "workspace_step"), (3, "odd")]
    assert "evil" in str(plane.store.dead()[0][3])


async def test_w8_a_silent_link_is_dropped_by_both_ends_and_taken_up_again(
    tmp_path: Path,
) -> None:
    async with control_plane(heartbeat_s=0.2) as plane, black_hole(plane.url) as hole:
        token = plane.store.add_node(NODE)
        async with attached(hole.url, token, tmp_path / "n") as agent:
            await until(lambda: NODE in plane.link.connected())
            hole.swallow()
            plane.store.add_order(NODE, an_order(1))
            await agent.spool.put(a_step(1))
            await until(lambda: NODE not in plane.link.connected())
            hole.heal()
            await until(lambda: NODE in plane.link.connected())
            await until(lambda: agent.spool.received == 1)
            await until(lambda: plane.store.bodies("workspace_step"))
    assert len(plane.store.bodies("workspace_step")) == 1


async def test_a_node_that_dials_again_ends_its_older_link(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    async with attached(plane.url, token, tmp_path / "n"):
        await until(lambda: NODE in plane.link.connected())
        async with dialled(plane, token) as socket:
            await socket.send_str(frame(a_hello()).encode())
            assert Frame.decode(await socket.receive_str()).type == "welcome"
            await until(lambda: plane.store.log.count(f"connected {NODE}") >= 3)
            while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.data == CLOSE_REPLACED
    await until(lambda: not plane.link.connected())
    starts = [line.split()[0] for line in plane.store.log]
    assert starts == ["connected", "disconnected"] * (len(starts) // 2), "never two at once"


async def test_another_protocol_is_refused_with_a_code_and_a_reason(
    plane: ControlPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = plane.store.add_node(NODE)
    async with attached(plane.url, token, tmp_path / "n", protocol=PROTOCOL + 1):
        await until(lambda: "link.lost" in [r.message for r in caplog.records])
    lost = next(r for r in caplog.records if r.message == "link.lost")
    assert (lost.code, lost.reason) == (CLOSE_VERSION, f"protocol 2 instead of {PROTOCOL}")  # type: ignore[attr-defined]
    assert plane.store.log == []


async def test_c1_a_hello_for_another_node_is_refused(plane: ControlPlane) -> None:
    token = plane.store.add_node(NODE)
    async with dialled(plane, token) as socket:
        await socket.send_str(frame(a_hello("node-ffffffff")).encode())
        assert (await socket.receive()).data == CLOSE_UNREADABLE
    assert plane.store.log == []


async def test_a_spool_that_lost_its_memory_is_told_apart(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    plane.store.add_order(NODE, an_order(1))
    async with attached(plane.url, token, tmp_path / "one") as agent:
        await agent.spool.put(a_step(1))
        await agent.spool.put(a_step(2))
        await until(lambda: len(plane.store.bodies("workspace_step")) == 2)
    async with attached(plane.url, token, tmp_path / "two") as agent:
        await agent.spool.put(a_step(3))
        await until(lambda: len(plane.store.bodies("workspace_step")) == 3)
        await until(lambda: agent.spool.received == 1), "unanswered: it comes again"


async def test_a_spool_older_than_what_was_heard_of_it_takes_a_new_name(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    async with attached(plane.url, token, tmp_path / "n") as agent:
        name = agent.spool.name
        plane.store.db.execute("UPDATE node SET spool = ?, received = 50", (name,))
    async with attached(plane.url, token, tmp_path / "n") as agent:
        await agent.spool.put(a_step(1))
        plane.store.db.execute("UPDATE node SET received = 50")
        await until(lambda: agent.spool.name != name)
        await until(lambda: plane.store.bodies("workspace_step"))


async def test_credentials_are_asked_for_and_refused(plane: ControlPlane, tmp_path: Path) -> None:
    token = plane.store.add_node(NODE)
    plane.store.credentials["w1"] = Credential(number=0, username="x", password="y")
    async with attached(plane.url, token, tmp_path / "n") as agent:
        both = await asyncio.gather(
            agent.link.credential(WorkspaceId("w1"), "read"),
            agent.link.credential(WorkspaceId("w2"), "write"),
        )
        assert (both[0].password, both[1].code) == ("y", "not_found")


async def test_a_credential_is_asked_for_again_while_the_code_host_is_away(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    plane.store.credentials["w1"] = Credential(number=0, username="x", password="y")
    plane.store.fail["credential"] = 2
    async with attached(plane.url, token, tmp_path / "n") as agent:
        assert (await agent.link.credential(WorkspaceId("w1"), "read")).password == "y"
    assert plane.store.fail["credential"] == 0


async def test_a_credential_is_asked_for_again_after_a_reconnect(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    plane.store.credentials["w1"] = Credential(number=0, username="x", password="y")
    plane.store.delay_s["credential"] = 0.5
    async with attached(plane.url, token, tmp_path / "n") as agent, asyncio.TaskGroup() as group:
        asking = group.create_task(agent.link.credential(WorkspaceId("w1"), "read"))
        await until(lambda: NODE in plane.link.connected())
        await asyncio.sleep(0.1)
        plane.link.links.stop()
        assert (await asking).password == "y"


async def test_deltas_reach_who_listens_and_a_slow_listener_slows_nobody(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    async with (
        attached(plane.url, token, tmp_path / "n") as agent,
        aclosing(plane.link.deltas()) as heard,
        aclosing(plane.link.deltas()) as asleep,
        asyncio.TaskGroup() as group,
    ):
        await until(lambda: NODE in plane.link.connected())
        await until(lambda: plane.link.connected()[NODE].status)  # It has heard of the link too.
        first = group.create_task(anext(heard))
        other = group.create_task(anext(asleep))
        await asyncio.sleep(0)
        for n in range(3000):
            agent.link.delta(SessionDelta(session=SESSION, message="m", text=str(n)))
            if n % 100 == 0:
                await asyncio.sleep(0.001)
        assert (await first).text == "0"
        assert (await other).text == "0"


async def test_an_order_for_a_whole_frame_passes(plane: ControlPlane, tmp_path: Path) -> None:
    token = plane.store.add_node(NODE)
    big = replace(an_order(1), body={"text": "t" * (8 * 1024 * 1024)})
    plane.store.add_order(NODE, big)
    plane.store.add_order(NODE, an_order(2))
    async with attached(plane.url, token, tmp_path / "n") as agent:
        await until(lambda: agent.spool.received == 2)
        assert [o.id for _, o in await agent.spool.unanswered(after=0)] == [
            big.id,
            an_order(2).id,
        ]
