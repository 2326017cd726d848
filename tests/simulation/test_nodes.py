"""A machine's life with a death at every call, and two who want the same machine at once."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest

from adapters.memory.compute import MemoryCompute
from adapters.memory.forge import MemoryForge, MemoryRepository
from adapters.store.store import SqlStore
from adapters.store.work import SqlWork
from bot.commands import BotCommands
from bot.people import People
from core.access import Person
from core.errors import ConflictError, OutsideError, UnavailableError
from core.ids import NodeId, PersonId, ReplicaId, RunId, TaskId, ThreadId
from core.message import Thread
from core.node import Node, NodeState
from core.ports.store import Insert, Update, Wake
from core.ports.work import Claim
from core.reconcile.nodes import NodeReconciler, OrphanReconciler
from core.reconcile.runs import RunReconciler
from core.run import Run, RunState
from core.secret import Secret
from core.workspace import Workspace
from tests.fakes.clock import FakeClock
from tests.fakes.fuse import Fuse, Fused, Killed
from tests.fakes.nouns import CLOCKS, a_link, a_node, a_project, a_run, a_task, at

SUPPLIER = "memory"


class Supplied:
    """Our records and one supplier; every life of the process is a new replica."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.work = store, SqlWork(store.database)
        self.compute, self.clock = MemoryCompute(), FakeClock()
        self.lives = count()

    async def live(self, fuse: Fuse) -> bool:
        """Look at nodes until none is due; whether the process survived it."""
        replica = ReplicaId(f"r-{next(self.lives)}")
        await self.work.join(replica, url="", version="", lease_s=3600)
        fused: Any = Fused(self.store, fuse)
        supplier: Any = Fused(self.compute, fuse)
        look = NodeReconciler(
            store=fused,
            clock=self.clock,
            clocks=CLOCKS,
            computes={SUPPLIER: supplier},
            enrolment=_token,
        )
        try:
            await self._look_at_all(look, replica)
        except Killed:
            return False
        finally:
            await self.work.leave(replica)
        return not fuse.is_blown

    async def _look_at_all(self, look: NodeReconciler, replica: ReplicaId) -> None:
        for _ in range(20):
            claims = await self.work.claim(replica, ["node"], limit=10)
            if not claims:
                return
            for claim in claims:
                due_in_s: float | None = 0
                with suppress(OutsideError, ConflictError):
                    due_in_s = await look(claim)
                await self.work.give_back(claim, due_in_s=due_in_s)
        raise AssertionError("nodes are never at rest")

    async def put(self, node: Node) -> None:
        await self.store.commit(Update(node), Wake("node", node.id))

    async def node(self, node: NodeId) -> Node:
        return await self.store.get(Node, node)

    async def check_g1(self) -> None:
        """No machine without a live owner, none recorded as gone that is still there."""
        live = {n.id for n in await self.store.find(Node) if n.state is not NodeState.GONE}
        assert {server.node_id for server in await self.compute.servers()} <= live

    async def whole_life(self, node: NodeId, fuse: Fuse) -> bool:
        """Bring a node from the wish to its end; after a death another process goes on."""
        survived = await self._until(node, NodeState.BOOTING, fuse)
        await self.store.commit(Insert(a_link(node_id=node)), Wake("node", node))
        survived &= await self._until(node, NodeState.READY, fuse)
        await self.put((await self.node(node)).moved(NodeState.DRAINING, at=at(20)))
        return survived & await self._until(node, NodeState.GONE, fuse)

    async def _until(self, node: NodeId, state: NodeState, fuse: Fuse) -> bool:
        survived = await self.live(fuse)
        await self.check_g1()
        if not survived:
            await self.live(Fuse(10**9))
        await self.check_g1()
        assert (await self.node(node)).state is state
        return survived


async def _token(node: NodeId) -> Secret:
    return Secret(f"token of {node}")


@pytest.fixture
def supplied(store: SqlStore) -> Supplied:
    return Supplied(store)


def a_wish(name: str) -> Node:
    return a_node(
        id=NodeId(name), supplier=SUPPLIER, state=NodeState.REQUESTED, deadline_at=at(900)
    )


async def test_n2_g1_killed_at_every_call_there_is_one_machine_and_at_last_none(
    supplied: Supplied,
) -> None:
    for length in count():
        wish = a_wish(f"node-{length}")
        await supplied.store.commit(Insert(wish), Wake("node", wish.id))
        survived = await supplied.whole_life(wish.id, Fuse(length))
        assert supplied.compute.bill == length + 1, "each wish costs one machine"
        assert supplied.compute.rows == {}
        if survived:
            break
    assert length > 20


@pytest.mark.parametrize("lost", ["create", "destroy"])
async def test_n2_a_machine_whose_answer_was_lost_is_adopted(supplied: Supplied, lost: str) -> None:
    wish = a_wish("node-1")
    await supplied.store.commit(Insert(wish), Wake("node", wish.id))
    supplied.compute.lose_next[lost] = UnavailableError("Memory", "no answer")
    assert await supplied.whole_life(wish.id, Fuse(10**9))
    assert (supplied.compute.bill, supplied.compute.rows) == (1, {})


async def test_n2_g1_a_machine_of_a_wish_that_came_too_late_goes_again(supplied: Supplied) -> None:
    """Killed at every call of the making, and not started again before the deadline."""
    for length in count():
        wish = a_wish(f"node-{length}")
        deadline_at = supplied.clock.now() + timedelta(seconds=900)
        await supplied.store.commit(
            Insert(replace(wish, deadline_at=deadline_at)), Wake("node", wish.id)
        )
        survived = await supplied.live(Fuse(length))
        supplied.clock.advance(1000)
        await supplied.store.commit(Wake("node", wish.id))
        await supplied.live(Fuse(10**9))
        assert (await supplied.node(wish.id)).state is NodeState.GONE
        assert supplied.compute.rows == {}
        if survived:
            break
    assert length > 5
    assert supplied.compute.bill > 1


@pytest.mark.parametrize("state", NodeState)
async def test_g1_a_machine_is_an_orphan_only_when_no_record_wants_it(
    supplied: Supplied, state: NodeState
) -> None:
    node = a_node(id=NodeId("node-1"), supplier=SUPPLIER, state=state)
    await supplied.store.commit(Insert(node), Wake("orphans", "all"))
    for name in ("node-1", "node-of-nobody"):
        await supplied.compute.create(NodeId(name), size="small", enrolment=Secret("t"))
    replica = ReplicaId("r-0")
    await supplied.work.join(replica, url="", version="", lease_s=3600)
    (claim,) = await supplied.work.claim(replica, ["orphans"], limit=1)
    sweep = OrphanReconciler(store=supplied.store, computes={SUPPLIER: supplied.compute})
    await sweep(claim)
    left = {server.node_id for server in await supplied.compute.servers()}
    assert left == (set() if state is NodeState.GONE else {"node-1"})


# Two who want the same machine


class Interrupted:
    """A store before whose call `at` somebody else does all that he has to do."""

    def __init__(self, store: SqlStore, at: int, other: Callable[[], Awaitable[object]]) -> None:
        self._store, self._left, self._other = store, at, other

    @property
    def is_over(self) -> bool:
        """Whether there were fewer calls than that."""
        return self._left >= 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                await self._other()
            return await method(*arguments, **named)

        return call


@pytest.mark.parametrize("first", ["placement", "drain"])
async def test_n1_of_a_placement_and_a_drain_at_once_one_comes_first(
    store: SqlStore, first: str
) -> None:
    """A machine that is let go gets no new work, wherever in the other one of them comes."""
    clock, work, replica = FakeClock(), SqlWork(store.database), ReplicaId("r-1")
    await work.join(replica, url="", version="", lease_s=3600)
    ana = Person(id=PersonId("ana"), name="Ana", role="admin", created_at=clock.now())
    await store.commit(Insert(a_project()), Insert(ana))
    placed = []
    for number in count():
        node, run = a_node(id=NodeId(f"node-{number}")), await a_waiting_run(store, number)
        await store.commit(Insert(node), Insert(a_link(node_id=node.id, seen_at=clock.now())))
        (claim,) = await work.claim(replica, ["run"], limit=1)
        place = partial(placement, clock, claim)
        drain = partial(drained, clock, ana, node.id)
        outer, inner = (place, drain) if first == "placement" else (drain, place)
        interrupted = Interrupted(store, number, partial(inner, store))
        await outer(interrupted)
        if interrupted.is_over:
            break
        known = await store.get(Run, run.id)
        on_it: Sequence[Workspace] = await store.find(Workspace, node_id=node.id)
        assert (await store.get(Node, node.id)).state is NodeState.DRAINING
        placed.append(known.node_id == node.id)
        if placed[-1]:
            facts = [
                e.kind for e in await store.events(after=0, limit=10_000) if about(e, run, node)
            ]
            assert facts.index("run.preparing") < facts.index("node.draining")
            assert len(on_it) == 1
        else:
            assert (known.state, on_it) == (RunState.PLACING, [])
        await work.give_back(claim, due_in_s=None)
        await store.commit(Update(known.moved(RunState.ENDED, at=clock.now())))
    assert len(placed) >= 2
    assert not all(placed) if first == "placement" else all(placed)


async def placement(clock: FakeClock, claim: Claim, store: Any) -> None:
    """Look at the run, and once more when somebody was first."""
    look = runs(store, clock)
    try:
        await look(claim)
    except ConflictError:
        await look(claim)


async def drained(clock: FakeClock, by: Person, node: NodeId, store: Any) -> None:
    await commands(store, clock).delete_node(by, node)


def about(event: Any, run: Run, node: Node) -> bool:
    return event.subject in {f"run:{run.id}", f"node:{node.id}"}


async def a_waiting_run(store: SqlStore, number: int) -> Run:
    task = TaskId(f"T-{number}")
    thread = ThreadId(f"web:web:{number}")
    run = a_run(
        id=RunId(f"{task}.1"),
        task_id=task,
        state=RunState.PLACING,
        node_id=None,
        workspace_id=None,
        session_id=None,
        started_at=None,
    )
    await store.commit(
        Insert(Thread(id=thread, surface="web", channel="web", created_at=at(0), task_id=task)),
        Insert(a_task(id=task, thread=thread, branch=f"samovar/{task}-x")),
        Insert(run),
        Wake("run", run.id),
    )
    return run


def runs(store: Any, clock: FakeClock) -> RunReconciler:
    return RunReconciler(
        store=store,
        forge=MemoryForge(now=clock.now, repositories={"acme/web": MemoryRepository()}),
        clock=clock,
        clocks=CLOCKS,
        model="m",
        installation="i",
        supplier="",
        nodes_max=1,
        mint=lambda: NodeId("node-new"),
        page_url=lambda task: f"http://page/{task.id}",
    )


def commands(store: Any, clock: FakeClock) -> BotCommands:
    unused: Any = None
    return BotCommands(
        store=store,
        conversation=unused,
        cards=unused,
        people=People(store=store, clock=clock, clocks=CLOCKS),
        nodes_link=unused,
        files=unused,
        doors=unused,
        pulse=unused,
        clock=clock,
        clocks=CLOCKS,
    )
