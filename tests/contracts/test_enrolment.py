"""Port `Enrolment`: its promises, by number, on SQLite and on PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from adapters.store.links import SqlLinkStore, fingerprint
from adapters.store.schema import META
from adapters.store.store import SqlStore
from adapters.store.tickets import SqlEnrolment
from core.access import Ticket
from core.clocks import Clocks
from core.ids import NodeId
from core.node import Node, NodeState
from core.ports.store import Insert, Update
from core.wire import Credential, CredentialRequest
from tests.fakes.clock import FakeClock
from tests.fakes.nouns import a_node

LIFE = timedelta(seconds=Clocks().enrolment_s)


async def no_credential(node: NodeId, request: CredentialRequest) -> Credential:
    return Credential(number=request.number, code="none")


@pytest.fixture
def enrolment(store: SqlStore, clock: FakeClock) -> SqlEnrolment:
    return SqlEnrolment(store, clock=clock)


@pytest.fixture
def links(store: SqlStore, clock: FakeClock) -> SqlLinkStore:
    return SqlLinkStore(store, clock=clock, credential=no_credential)


async def ticket(
    store: SqlStore, clock: FakeClock, token: str = "once", *, node: NodeId | None = None
) -> None:
    now = clock.now()
    row = Ticket(
        id=fingerprint(token), kind="enrol", created_at=now, expires_at=now + LIFE, node_id=node
    )
    await store.commit(Insert(row))


async def redeem(
    enrolment: SqlEnrolment, token: str = "once", *, machine: str = "node token"
) -> NodeId | None:
    return await enrolment.redeem(
        token, token_hash=fingerprint(machine), name="laptop", cpus=4.0, memory_mb=8192
    )


async def test_c3_1_of_many_machines_with_one_token_one_becomes_a_node(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment
) -> None:
    await ticket(store, clock)
    results = await asyncio.gather(*(redeem(enrolment, machine=str(n)) for n in range(20)))
    assert sum(result is not None for result in results) == 1
    (node,) = await store.find(Node)
    assert (node.supplier, node.server, node.cpus) == ("joined", "laptop", 4.0)
    assert node.state is NodeState.BOOTING


async def test_c2_1_a_token_that_is_over_opens_nothing(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment
) -> None:
    await ticket(store, clock)
    clock.advance(LIFE.total_seconds() + 1)
    assert await redeem(enrolment) is None
    assert await redeem(enrolment, "unknown") is None
    assert await store.find(Node) == []


async def test_1_a_sign_in_link_enrols_nobody(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment
) -> None:
    now = clock.now()
    row = Ticket(id=fingerprint("s"), kind="sign_in", created_at=now, expires_at=now + LIFE)
    await store.commit(Insert(row))
    assert await redeem(enrolment, "s") is None


async def test_1_a_node_that_was_asked_for_gets_its_token(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment, links: SqlLinkStore
) -> None:
    await store.commit(Insert(a_node(state=NodeState.REQUESTED)))
    await ticket(store, clock, node=NodeId("node-1"))
    assert await redeem(enrolment) == "node-1"
    assert await links.node_by_token("node token") == "node-1"
    (node,) = await store.find(Node)
    assert (node.state, node.memory_mb) == (NodeState.REQUESTED, 8192)


@pytest.mark.parametrize("state", [NodeState.DELETING, NodeState.GONE])
async def test_1_a_node_that_nobody_wants_any_more_gets_none(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment, state: NodeState
) -> None:
    await store.commit(Insert(a_node(state=state)))
    await ticket(store, clock, node=NodeId("node-1"))
    assert await redeem(enrolment) is None


@pytest.mark.parametrize("node", [None, NodeId("node-1")])
async def test_c3_2_only_the_machine_that_spent_a_token_is_answered_again(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment, node: NodeId | None
) -> None:
    if node:
        await store.commit(Insert(a_node(state=NodeState.REQUESTED)))
    await ticket(store, clock, node=node)
    at_once = await asyncio.gather(*(redeem(enrolment) for _ in range(10)))
    assert len(set(at_once)) == 1
    assert at_once[0] is not None
    clock.advance(LIFE.total_seconds() + 1)
    assert await redeem(enrolment) == at_once[0]
    assert await redeem(enrolment, machine="another") is None
    assert await redeem(enrolment, machine="") is None
    assert [found.id for found in await store.find(Node)] == [at_once[0]]


async def test_c3_2_a_second_token_for_a_node_is_no_way_back_for_the_first_machine(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment, links: SqlLinkStore
) -> None:
    await store.commit(Insert(a_node(state=NodeState.REQUESTED)))
    await ticket(store, clock, node=NodeId("node-1"))
    await ticket(store, clock, "again", node=NodeId("node-1"))
    assert await redeem(enrolment, machine="first") == "node-1"
    assert await redeem(enrolment, "again", machine="second") == "node-1"
    assert await redeem(enrolment, machine="first") is None
    assert await links.node_by_token("first") is None


@pytest.mark.parametrize("state", [NodeState.DELETING, NodeState.GONE])
async def test_2_a_node_that_is_let_go_is_not_answered_again(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment, state: NodeState
) -> None:
    await ticket(store, clock)
    assert await redeem(enrolment) is not None
    (node,) = await store.find(Node)
    await store.commit(Update(replace(node, state=state)))
    assert await redeem(enrolment) is None


async def test_c4_3_the_old_token_is_good_until_the_new_one_was_used(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment, links: SqlLinkStore
) -> None:
    await ticket(store, clock)
    node, old = await redeem(enrolment), "node token"
    lost = await enrolment.renew(old)
    new = await enrolment.renew(old)
    assert lost is not None
    assert new is not None
    assert await links.node_by_token(lost) is None
    assert await links.node_by_token(old) == node
    assert set(await asyncio.gather(*(links.node_by_token(new) for _ in range(5)))) == {node}
    assert await links.node_by_token(new) == node
    assert await links.node_by_token(old) is None
    assert await enrolment.renew(old) is None


async def test_g5_no_token_lies_in_the_database(
    store: SqlStore, clock: FakeClock, enrolment: SqlEnrolment
) -> None:
    await ticket(store, clock)
    assert await redeem(enrolment) is not None
    new = await enrolment.renew("node token")
    assert new is not None
    for table in META.sorted_tables:
        for row in await store.database.read(sa.select(table)):
            for secret in ("once", "node token", new):
                assert secret not in [str(value) for value in row.values()]
