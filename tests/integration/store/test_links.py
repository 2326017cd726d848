"""What the links of nodes keep in our records: port `LinkStore` on both databases."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from adapters.store.links import SqlLinkStore, fingerprint
from adapters.store.schema import DEAD_LETTER, WORK
from adapters.store.store import SqlStore
from adapters.store.transaction import Tx
from core.errors import ConflictError
from core.ids import NodeId, OrderId, ReplicaId, SessionId, TaskId, TerminalId, WorkspaceId
from core.message import Post
from core.node import Link, Node, NodeState
from core.order import NodeOrder
from core.ports.store import Insert, Update
from core.session import SessionState
from core.terminal import Terminal, TerminalState
from core.wire import (
    PROTOCOL,
    Credential,
    CredentialRequest,
    Hello,
    NodeStatus,
    OrderAnswer,
    SessionEvents,
    TerminalExited,
    WorkspaceStep,
)
from core.workspace import Workspace
from tests.fakes.clock import FakeClock
from tests.fakes.nouns import (
    NOW,
    SESSION,
    a_node,
    a_session,
    a_terminal,
    a_workspace,
    an_answer,
    an_event,
)

NODE, A, B = NodeId("node-1"), ReplicaId("a"), ReplicaId("b")


async def credential(node: NodeId, request: CredentialRequest) -> Credential:
    return Credential(number=request.number, username=node)


@pytest.fixture
async def links(store: SqlStore, clock: FakeClock) -> SqlLinkStore:
    await store.commit(Insert(a_node(token_hash=fingerprint("token"))))
    return SqlLinkStore(store, clock=clock, credential=credential)


def hello(spool: str = "s1", **values: Any) -> Hello:
    return Hello(
        **{
            "protocol": PROTOCOL,
            "node": NODE,
            "version": "1.2",
            "spool": spool,
            "received": 0,
            "cpus": 4.0,
            "memory_mb": 8192,
            **values,
        }
    )


def status(**values: Any) -> NodeStatus:
    return NodeStatus(**{"load": 0.5, "memory_free_mb": 100, "disk_free_mb": 200, **values})


def an_order(name: str) -> NodeOrder:
    return replace(an_answer(name), ok=None)


def step(name: str = "fetch", **values: Any) -> WorkspaceStep:
    return WorkspaceStep(
        **{
            "workspace": WorkspaceId("wabcdefg"),
            "attempt": 1,
            "step": name,
            "state": "done",
            "at": NOW.isoformat(),
            **values,
        }
    )


def exited(**values: Any) -> TerminalExited:
    return TerminalExited(
        **{"workspace": WorkspaceId("wabcdefg"), "terminal": TerminalId("t-0000aaaa"), **values}
    )


def events(*offsets: int) -> SessionEvents:
    return SessionEvents(
        session=SESSION, events=tuple(an_event(offset, "notice") for offset in offsets)
    )


async def link(store: SqlStore) -> Link:
    (found,) = await store.find(Link)
    return found


async def woken(store: SqlStore) -> set[tuple[str, str]]:
    """Return what is due, and forget it."""
    rows = await store.database.read(sa.select(WORK).where(WORK.c.due_ms.is_not(None)))

    async def job(tx: Tx) -> None:
        await tx.run(sa.update(WORK).values(due_ms=None))

    await store.database.write(job)
    return {(row["kind"], row["key"]) for row in rows}


@pytest.mark.parametrize(
    ("token", "state", "expected"),
    [
        ("token", "ready", NODE),
        ("other", "ready", None),
        ("token", "gone", None),
        ("", "ready", None),
    ],
)
async def test_1_a_node_is_known_by_its_token_while_it_is_there(
    store: SqlStore, clock: FakeClock, token: str, state: str, expected: str | None
) -> None:
    node = a_node(token_hash=fingerprint("token"), state=NodeState(state))
    await store.commit(Insert(node))
    links = SqlLinkStore(store, clock=clock, credential=credential)
    assert await links.node_by_token(token) == expected


async def test_1_a_revoked_token_opens_nothing(store: SqlStore, links: SqlLinkStore) -> None:
    node = await store.get(Node, NODE)
    await store.commit(Update(replace(node, token_hash="")))
    assert await links.node_by_token("token") is None
    assert await links.node_by_token("") is None


async def test_2_a_new_spool_is_heard_from_its_beginning(
    store: SqlStore, links: SqlLinkStore, clock: FakeClock
) -> None:
    assert await links.connected(NODE, hello(), replica=A) == 0
    assert await woken(store) == {("node", NODE), ("admission", "all")}
    await links.dead_letter(NODE, 7, kind="x", body="{}", reason="no")
    await links.delivered(NODE, up_to=3)
    assert await links.connected(NODE, hello(), replica=B) == 7
    assert (await link(store)).delivered == 3
    assert await links.connected(NODE, hello("s2"), replica=B) == 0
    found = await link(store)
    assert (found.replica, found.agent, found.received, found.delivered) == (B, "1.2", 0, 0)
    assert found.seen_at == clock.now()


async def test_n5_3_a_beat_touches_no_activity(
    store: SqlStore, links: SqlLinkStore, clock: FakeClock
) -> None:
    await links.connected(NODE, hello(), replica=A)
    before = await store.get(Node, NODE)
    await woken(store)
    clock.advance(15)
    await links.beat(NODE, status(load=float("nan")))
    assert await store.get(Node, NODE) == before
    found = await link(store)
    assert (found.load, found.memory_free_mb, found.seen_at) == (0.0, 100, clock.now())
    assert await woken(store) == set()


async def test_4_an_old_replica_does_not_hang_up_for_the_new_one(
    store: SqlStore, links: SqlLinkStore
) -> None:
    await links.connected(NODE, hello(), replica=A)
    await links.connected(NODE, hello(), replica=B)
    await woken(store)
    await links.disconnected(NODE, replica=A)
    assert (await link(store)).replica == B
    assert await woken(store) == set()
    await links.disconnected(NODE, replica=B)
    assert (await link(store)).replica is None
    assert await woken(store) == {("node", NODE)}


async def test_5_unanswered_orders_are_pending_oldest_first(
    store: SqlStore, links: SqlLinkStore
) -> None:
    for name in ("o-1", "o-2", "o-3"):
        await store.commit(Insert(an_order(name)))
    await store.answer_order(OrderId("o-2"), ok=True, at=NOW)
    assert [(seq, order.id) for seq, order in await links.pending(NODE, after=0)] == [
        (1, "o-1"),
        (3, "o-3"),
    ]
    ((seq, order),) = await links.pending(NODE, after=1)
    assert (seq, order.object, order.fence) == (3, "run:T-1.1", 1)
    assert await links.pending(NodeId("node-2"), after=0) == []


async def test_6_an_answer_is_kept_and_wakes_who_asked(
    store: SqlStore, links: SqlLinkStore, clock: FakeClock
) -> None:
    await links.connected(NODE, hello(), replica=A)
    await store.commit(Insert(an_order("o-1")))
    await woken(store)
    answer = OrderAnswer(order=OrderId("o-1"), ok=False, code="disk_full", text="No room.")
    await links.received(NODE, 1, answer)
    order = await store.get(NodeOrder, "o-1")
    assert (order.ok, order.code, order.text) == (False, "disk_full", "No room.")
    assert order.answered_at == clock.now()
    assert await woken(store) == {("run", "T-1.1")}
    assert (await link(store)).received == 1


async def test_6_a_number_that_was_heard_changes_nothing(
    store: SqlStore, links: SqlLinkStore
) -> None:
    await links.connected(NODE, hello(), replica=A)
    await store.commit(Insert(an_order("o-1")), Insert(a_workspace()))
    await links.received(NODE, 5, step())
    await woken(store)
    await links.received(NODE, 5, OrderAnswer(order=OrderId("o-1"), ok=True))
    await links.received(NODE, 4, step("build"))
    assert (await store.get(NodeOrder, "o-1")).is_open
    assert len((await store.get(Workspace, "wabcdefg")).steps) == 1
    assert await woken(store) == set()


@pytest.mark.parametrize(
    "report",
    [
        OrderAnswer(order=OrderId("unknown"), ok=True),
        OrderAnswer(order=OrderId("neighbours"), ok=True),
        step(workspace=WorkspaceId("unknown")),
        step(workspace=WorkspaceId("neighbrs")),
        exited(terminal=TerminalId("t-unknown")),
        exited(terminal=TerminalId("t-neighbr"), workspace=WorkspaceId("neighbrs")),
        exited(terminal=TerminalId("t-neighbr")),
        SessionEvents(session=SessionId("unknown"), events=()),
        SessionEvents(session=SESSION, events=(replace(an_event(1, "x"), session="other"),)),  # type: ignore[arg-type]
    ],
)
async def test_6_a_report_about_what_is_not_the_nodes_can_never_be_taken(
    store: SqlStore, links: SqlLinkStore, report: Any
) -> None:
    await links.connected(NODE, hello(), replica=A)
    await store.commit(
        Insert(replace(an_order("neighbours"), node_id=NodeId("node-2"))),
        Insert(a_workspace(id=WorkspaceId("neighbrs"), run_id=None, node_id=NodeId("node-2"))),
        Insert(a_workspace()),
        Insert(a_session()),
        Insert(a_terminal(id=TerminalId("t-neighbr"), workspace_id=WorkspaceId("neighbrs"))),
    )
    with pytest.raises(ValueError):  # noqa: PT011  the kind is the promise
        await links.received(NODE, 1, report)
    assert (await link(store)).received == 0


@pytest.mark.parametrize(
    "state", [TerminalState.OPENING, TerminalState.OPEN, TerminalState.CLOSING]
)
@pytest.mark.parametrize(
    ("report", "noted"),
    [
        (exited(code=7), (7, "")),
        (exited(code=-9), (-9, "")),
        (exited(text="Its container was stopped."), (None, "Its container was stopped.")),
    ],
)
async def test_6_the_end_of_a_terminal_is_noted_with_its_event(
    store: SqlStore,
    links: SqlLinkStore,
    report: TerminalExited,
    noted: tuple[int | None, str],
    state: TerminalState,
) -> None:
    code, error = noted
    await links.connected(NODE, hello(), replica=A)
    await store.commit(Insert(a_workspace()), Insert(a_terminal(state=state)))
    await links.received(NODE, 1, report)
    await links.received(NODE, 1, report)
    (terminal,) = await store.find(Terminal)
    assert (terminal.state, terminal.exit_code, terminal.error) == ("exited", code, error)
    (event,) = await store.events(after=0, limit=9)
    assert (event.kind, event.subject, event.task_id) == (
        *("terminal.exited", f"terminal:{terminal.id}"),
        "T-1",
    )
    assert event.data == {"exit_code": code, "error": error}
    assert (await link(store)).received == 1


async def test_t2_6_a_terminal_that_has_ended_stays_as_it_is(
    store: SqlStore, links: SqlLinkStore
) -> None:
    await links.connected(NODE, hello(), replica=A)
    over = a_terminal(state=TerminalState.EXITED, error="The machine does not answer now.")
    await store.commit(Insert(a_workspace()), Insert(over))
    await links.received(NODE, 1, exited(code=7))
    assert await store.find(Terminal) == [over]
    assert await store.events(after=0, limit=9) == []
    assert (await link(store)).received == 1


async def test_6_steps_are_kept_with_their_attempt_and_the_card_is_shown_anew(
    store: SqlStore, links: SqlLinkStore
) -> None:
    await links.connected(NODE, hello(), replica=A)
    card = Post(
        key="card",
        lane="web:web:1",  # type: ignore[arg-type]
        surface="web",
        kind="card",
        state="sent",
        created_at=NOW,
        task_id=TaskId("T-1"),
    )
    await store.commit(Insert(a_workspace(attempt=2)), Insert(card))
    await woken(store)
    await links.received(NODE, 1, step("fetch", attempt=1))
    assert await woken(store) == set()
    await links.received(NODE, 2, step("build", attempt=2, text="Dockerfile"))
    workspace = await store.get(Workspace, "wabcdefg")
    assert workspace.steps == (
        {"step": "build", "state": "done", "at": NOW.isoformat(), "text": "Dockerfile"},
    )
    assert (await store.get(Post, "card")).wanted == 2
    assert await woken(store) == {("workspace", "wabcdefg"), ("outbox", "web:web:1")}
    assert (await link(store)).received == 2


async def test_6_no_step_is_lost_beside_writers_of_the_workspace(
    store: SqlStore, links: SqlLinkStore
) -> None:
    """Reconcilers write the whole row: their stale write conflicts and is decided again."""
    await links.connected(NODE, hello(), replica=A)
    await store.commit(Insert(a_workspace()))

    async def reconcile() -> None:
        written = 0
        while written < 10:
            workspace = await store.get(Workspace, "wabcdefg")
            try:
                await store.commit(Update(replace(workspace, container=f"c{written}")))
            except ConflictError:
                continue
            else:
                written += 1

    async def report() -> None:
        for number in range(1, 21):
            await links.received(NODE, number, step(f"s{number}"))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(reconcile())
        group.create_task(report())
    workspace = await store.get(Workspace, "wabcdefg")
    assert [one["step"] for one in workspace.steps] == [f"s{n}" for n in range(1, 21)]
    assert workspace.container == "c9"


@pytest.mark.parametrize("state", list(SessionState))
async def test_p7_6_events_of_a_known_session_are_taken_in_every_state(
    store: SqlStore, links: SqlLinkStore, state: SessionState
) -> None:
    await links.connected(NODE, hello(), replica=A)
    await store.commit(Insert(a_workspace()), Insert(a_session(state=state)))
    await woken(store)
    await links.received(NODE, 1, events(0, 1))
    await links.received(NODE, 2, events(1, 2))
    await links.received(NODE, 2, events(1, 2))
    stored = await store.session_events(SESSION, after=-1, limit=9)
    assert [event.offset for event in stored] == [0, 1, 2]
    assert await woken(store) == {("run", "T-1.1")}
    assert (await link(store)).received == 2


async def test_6_events_of_many_nodes_share_transactions(
    store: SqlStore, links: SqlLinkStore
) -> None:
    names = [NodeId(f"n{number}") for number in range(10)]
    for name in names:
        session = SessionId(f"s-{name}")
        workspace = WorkspaceId(f"w-{name}")
        await store.commit(
            Insert(a_workspace(id=workspace, run_id=None, node_id=name)),
            Insert(a_session(id=session, run_id=f"r-{name}", workspace_id=workspace)),
        )
        await links.connected(name, hello(node=name), replica=A)

    async def report(name: NodeId) -> None:
        session = SessionId(f"s-{name}")
        for number in range(1, 6):
            event = replace(an_event(number, "notice"), session=session)
            await links.received(name, number, SessionEvents(session=session, events=(event,)))

    async with asyncio.timeout(60):
        await asyncio.gather(*(report(name) for name in names))
    assert {one.received for one in await store.find(Link)} == {5}
    for name in names:
        assert len(await store.session_events(SessionId(f"s-{name}"), after=0, limit=9)) == 5


async def test_p7_7_what_cannot_be_read_is_kept_with_its_number(
    store: SqlStore, links: SqlLinkStore
) -> None:
    await links.connected(NODE, hello(), replica=A)
    for _ in range(2):
        await links.dead_letter(NODE, 3, kind="odd", body='{"a":"\\u0000\0"}', reason="what?")
    (letter,) = await store.database.read(sa.select(DEAD_LETTER))
    assert (letter["node_id"], letter["spool"], letter["seq"]) == (NODE, "s1", 3)
    assert letter["body"] == '{"a":"\\u0000\ufffd"}'
    assert (await link(store)).received == 3


async def test_8_wait_returns_when_there_is_an_order(store: SqlStore, links: SqlLinkStore) -> None:
    await links.wait(NODE)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = group.create_task(links.wait(NODE))
        await store.commit(Insert(an_order("o-1")))
        await waiting
    assert len(await links.pending(NODE, after=0)) == 1


async def test_credentials_come_from_whoever_gives_them(links: SqlLinkStore) -> None:
    request = CredentialRequest(number=3, workspace=WorkspaceId("w"), scope="read")
    assert (await links.credential(NODE, request)).username == NODE
