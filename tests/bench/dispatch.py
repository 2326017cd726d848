"""B17: how soon the node has the order on its disk, with real parts.

Once from the commit that makes a run due while a node is up, once from the hello of a node that a
run waits for. Store, engine, reconcilers and node link are those of the program, in one process;
the node is its half of the link with its spool, over a WebSocket on loopback. The engine polls
every 4 s and the link every second, so a poll on the path would be seen.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import structlog

from adapters.nodelink.server import NodeLink
from adapters.store.links import SqlLinkStore, fingerprint
from adapters.store.migrate import migrate
from adapters.store.store import SqlStore, open_store
from adapters.store.tickets import SqlEnrolment
from adapters.store.work import SqlWork
from adapters.system import SystemClock, boottime
from core.clocks import Clocks
from core.engine import Engine, Reconciler
from core.ids import NodeId, ReplicaId, RunId, TaskId, ThreadId
from core.message import Thread
from core.node import NodeState
from core.ports.files import Files
from core.ports.forge import Forge
from core.ports.nodes import Nodes
from core.ports.store import Insert, Wake
from core.reconcile.nodes import NodeReconciler
from core.reconcile.placing import Machines
from core.reconcile.runs import RunReconciler
from core.reconcile.tasks import AdmissionReconciler
from core.reconcile.workspaces import WorkspaceReconciler
from core.run import RunState
from core.secret import Secret
from core.wire import Credential, CredentialRequest, Hello
from tests.bench.row import Row, within
from tests.fakes.node_link import Agent, attached
from tests.fakes.nouns import a_node, a_project, a_run, a_task
from tests.fakes.serving import serving, until

ROUNDS, LIMIT_MS, LIMIT_S = 15, 50.0, 30
REPLICA = ReplicaId("bench")
CLOCKS = Clocks(poll_s=4)
CALM_S = 0.3


class _Links(SqlLinkStore):
    """Notes when a node's hello came in."""

    hello_at = 0.0

    async def connected(self, node: NodeId, hello: Hello, *, replica: ReplicaId) -> int:
        self.hello_at = time.perf_counter()
        return await super().connected(node, hello, replica=replica)


@dataclass(kw_only=True)
class _Bench:
    store: SqlStore
    links: _Links
    plane: NodeLink
    url: str
    folder: Path
    clock: SystemClock = field(default_factory=SystemClock)
    number: int = 0

    async def node(self, state: NodeState) -> tuple[NodeId, str]:
        self.number += 1
        node, token = NodeId(f"node-{self.number:08x}"), f"token-{self.number}"
        now = self.clock.now()
        row = a_node(
            id=node,
            supplier="joined",
            state=state,
            state_since=now,
            created_at=now,
            cpus=1000.0,
            memory_mb=10_000_000,
            token_hash=fingerprint(token),
        )
        await self.store.commit(Insert(row))
        return node, token

    async def ask(self) -> None:
        """Make a run due."""
        self.number += 1
        now, task = self.clock.now(), TaskId(f"T-{self.number}")
        thread, run = ThreadId(f"web:web:{self.number}"), RunId(f"{task}.1")
        await self.store.commit(
            Insert(Thread(id=thread, surface="web", channel="web", created_at=now, task_id=task)),
            Insert(a_task(id=task, thread=thread, branch=f"samovar/{task}")),
            Insert(
                a_run(
                    id=run,
                    task_id=task,
                    state=RunState.PLACING,
                    state_since=now,
                    created_at=now,
                    deadline_at=None,
                    started_at=None,
                    heard_at=None,
                    node_id=None,
                    workspace_id=None,
                    session_id=None,
                )
            ),
            Wake("run", run),
        )

    async def due_to_order(self, agent: Agent) -> float:
        await asyncio.sleep(CALM_S)
        agent.spool.orders_added.clear()
        began = time.perf_counter()
        await self.ask()
        await agent.spool.orders_added.wait()
        return (time.perf_counter() - began) * 1000

    async def ready_to_order(self) -> float:
        await self.ask()
        await asyncio.sleep(CALM_S)
        node, token = await self.node(NodeState.BOOTING)
        async with attached(self.url, token, self.folder / node, node=node) as agent:
            while agent.spool.received == 0:  # A link that begins rings, too.
                agent.spool.orders_added.clear()
                await agent.spool.orders_added.wait()
            took = time.perf_counter() - self.links.hello_at
        await until(lambda: not self.plane.connected())
        return took * 1000

    def reconcilers(self) -> Mapping[str, Reconciler]:
        """Return those of the program that are on the path."""
        store, clock = self.store, self.clock
        return {
            "admission": AdmissionReconciler(store=store),
            "node": NodeReconciler(
                store=store, clock=clock, clocks=CLOCKS, computes={}, enrolment=_no_enrolment
            ),
            "run": RunReconciler(
                store=store,
                forge=cast("Forge", None),  # Before the pull request nobody asks it.
                clock=clock,
                clocks=CLOCKS,
                model="m",
                installation="bench",
                supplier="",
                nodes_max=0,
                mint=lambda: NodeId(""),
                page_url=str,
            ),
            "workspace": WorkspaceReconciler(
                store=store,
                files=cast("Files", None),  # Nothing is stopped.
                nodes=cast("Nodes", None),
                machines=Machines(supplier="", nodes_max=0, mint=lambda: NodeId("")),
                clock=clock,
                clocks=CLOCKS,
                url=lambda repo: f"http://127.0.0.1:9/{repo}.git",
                image="base:1",
            ),
        }


async def _no_enrolment(_: NodeId) -> Secret:
    raise NotImplementedError


async def _no_credential(_: NodeId, request: CredentialRequest) -> Credential:
    return Credential(number=request.number, code="none")


def _silent(_: str, /, **__: object) -> None:
    """Nobody reads it."""


@asynccontextmanager
async def _bench(folder: Path) -> AsyncGenerator[_Bench]:
    url = f"sqlite:///{folder / 'bench.db'}"
    await migrate(url)
    clock = SystemClock()
    async with open_store(url) as store:
        links = _Links(store, clock=clock, credential=_no_credential)
        plane = NodeLink(
            links,
            SqlEnrolment(store, clock=clock),
            replica=REPLICA,
            agent_files={},
            heartbeat_s=CLOCKS.heartbeat_s,
        )
        await store.commit(Insert(a_project()))
        async with serving(plane.app) as address, asyncio.TaskGroup() as group:
            running = group.create_task(plane.run())
            bench = _Bench(store=store, links=links, plane=plane, url=address, folder=folder)
            engine = Engine(
                work=SqlWork(store.database),
                clock=clock,
                clocks=CLOCKS,
                reconcilers=bench.reconcilers(),
                replica=REPLICA,
                report=_silent,
                boottime=boottime,
            )
            async with engine.running():
                yield bench
            running.cancel()


async def _run(folder: Path) -> Sequence[Row]:
    async with asyncio.timeout(LIMIT_S), _bench(folder) as bench:
        ready = [await bench.ready_to_order() for _ in range(ROUNDS)]
        node, token = await bench.node(NodeState.READY)
        async with attached(bench.url, token, folder / node, node=node) as agent:
            await until(lambda: node in bench.plane.connected())
            due = [await bench.due_to_order(agent) for _ in range(ROUNDS)]
    return [
        within("B17 commit of a due run to the order on the node", due, LIMIT_MS),
        within("B17 hello of a new node to the order on it", ready, LIMIT_MS),
    ]


def main() -> Sequence[Row]:
    """Measure both ways."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="samovar-bench-") as folder:
        return asyncio.run(_run(Path(folder)))
