"""A machine that dies, or hears nothing, after its one-time token was spent for it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.local import process
from adapters.local.compute import LocalCompute
from adapters.nodelink.server import NodeLink
from adapters.store.links import SqlLinkStore, fingerprint
from adapters.store.store import open_store
from adapters.store.tickets import SqlEnrolment
from adapters.system import SystemClock
from bot.agent_file import agent_file
from core.access import Ticket
from core.ids import NodeId, ReplicaId
from core.node import Node, NodeState
from core.ports.store import Insert
from core.secret import Secret
from core.wire import Credential, CredentialRequest
from tests.fakes.nouns import a_node
from tests.fakes.serving import serving, until

NODE, ONCE = NodeId("node-1"), "one-time"


@dataclass
class CutEnrolment:
    """Lets the first enrolment through and its answer not: `cut` is called in its place."""

    app: ASGIApp
    cut: Callable[[], None]
    asked: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].endswith("/enrol"):
            return await self.app(scope, receive, send)
        self.asked += 1
        if self.asked > 1:
            return await self.app(scope, receive, send)
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self.app(scope, receive, keep)
        assert answer[0]["status"] == 200, "the token is spent and the answer is ready"
        self.cut()
        await send(answer[0])
        raise ConnectionResetError("the answer is lost after its first line")


@dataclass
class Plane:
    link: NodeLink
    url: str
    enrolment: CutEnrolment
    tokens: SqlEnrolment


@asynccontextmanager
async def plane(database: str, cut: Callable[[], None]) -> AsyncGenerator[Plane]:
    """Serve the node link with our own records, and a node that is wished for."""

    async def none(_: NodeId, request: CredentialRequest) -> Credential:
        return Credential(number=request.number, code="none")

    clock = SystemClock()
    now = clock.now()
    async with open_store(database) as store:
        await store.commit(Insert(a_node(state=NodeState.REQUESTED)))
        await store.commit(
            Insert(
                Ticket(
                    id=fingerprint(ONCE),
                    kind="enrol",
                    created_at=now,
                    expires_at=now + timedelta(minutes=15),
                    node_id=NODE,
                )
            )
        )
        tokens = SqlEnrolment(store, clock=clock)
        link = NodeLink(
            SqlLinkStore(store, clock=clock, credential=none),
            tokens,
            replica=ReplicaId("r1"),
            agent_files={},
        )
        enrolment = CutEnrolment(link.app, cut)
        async with serving(enrolment) as url, asyncio.TaskGroup() as group:
            running = group.create_task(link.run())
            yield Plane(link, url, enrolment, tokens)
            running.cancel()
        assert [node.id for node in await store.find(Node)] == [NODE]


@pytest.mark.parametrize("how", ["killed", "unanswered"])
async def test_c3_a_node_agent_that_dies_after_its_token_was_spent_becomes_the_node(
    sqlite_url: str, tmp_path: Path, how: str
) -> None:
    (tmp_path / "samovar-agent.pyz").write_bytes(agent_file().data)
    folder = tmp_path / "nodes" / NODE

    def cut() -> None:
        assert not (folder / "node.json").exists()
        if how == "killed":
            agent = process.find(folder)
            assert agent is not None
            os.kill(agent, signal.SIGKILL)

    async with plane(sqlite_url, cut) as served:
        compute = LocalCompute(
            state=tmp_path / "nodes",
            url=served.url,
            command=(sys.executable, "-I", "-S", str(tmp_path / "samovar-agent.pyz")),
            settings={"docker_host": "unix:///nowhere"},
            installation="ours",
            env={"PATH": os.environ["PATH"]},
            look_s=0.05,
        )
        await compute.create(NODE, size="small", enrolment=Secret(ONCE))
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(compute.run())
                await until(lambda: NODE in served.link.connected())
                running.cancel()
            assert served.enrolment.asked == 2
            assert not (folder / "join.json").exists()
            stranger = await served.tokens.redeem(
                ONCE, token_hash="ab" * 32, name="x", cpus=1, memory_mb=1
            )
            assert stranger is None
        finally:
            await compute.destroy(NODE)
