"""A node agent but for its link: orders in, answers out; real Docker, Claude Code and terminals."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from agent.claude.driver import ClaudeDriver
from agent.driver import AgentDriver, SessionSpec
from agent.host import Host
from agent.launcher import ContainerLauncher
from agent.place import Place
from agent.sessions import Sessions
from agent.spool import Spool
from agent.terminal.lines import ContainerLines
from agent.terminal.terminals import Terminals
from core.ids import OrderId
from core.wire import Order, OrderAnswer, OrderBody, SessionEvents, StartSession, to_json
from tests.fakes.node_world import NodeWorld
from tests.fakes.serving import until

WITHIN_S = 90.0


@dataclass
class KeepNode:
    """One life of a node; `model_url` is where its coding agents find their model."""

    world: NodeWorld
    spool: Spool
    terminals: Terminals

    async def order(self, body: OrderBody) -> dict[str, Any]:
        """Have an order carried out and return its answer."""
        number = self.spool.received + 1
        made = Order(
            id=OrderId(f"order/{number}"),
            object=f"order:{number}",
            fence=1,
            kind=body.KIND,
            body=to_json(body),
        )
        await self.spool.accept([(number, made)])
        found: list[dict[str, Any]] = []

        async def is_answered() -> bool:
            answers = await self.heard(OrderAnswer.TYPE)
            found[:] = [one for one in answers if one["order"] == made.id]
            return bool(found)

        await until(is_answered, within_s=WITHIN_S)
        return found[0]

    async def heard(self, kind: str) -> list[dict[str, Any]]:
        """Return the reports of a kind, oldest first."""
        reports = await self.spool.reports(after=0, bytes_max=2**30)
        return [json.loads(body) for _, one, body in reports if one == kind]

    async def events(self, session: str, kind: str) -> list[dict[str, Any]]:
        """Return a session's events of a kind."""
        batches = await self.heard(SessionEvents.TYPE)
        events = [event for batch in batches for event in batch["events"]]
        return [one for one in events if one["session"] == session and one["kind"] == kind]


@asynccontextmanager
async def keep_node(world: NodeWorld, model_url: str = "") -> AsyncIterator[KeepNode]:
    """Live until the end of the block, as a node agent on the world's state folder."""
    world.settings.state.mkdir(parents=True, exist_ok=True)
    spool = Spool(world.settings.state / "spool.db")
    await spool.open()
    workspaces = world.another_life()
    sessions = Sessions(
        spool=spool, place=workspaces.place, make=partial(_driver, world, spool, model_url)
    )
    terminals = Terminals(
        layout=world.layout,
        lines=ContainerLines(world.engine),
        place=workspaces.place,
        wake=workspaces.wake,
        reports=spool,
    )
    host = Host(spool=spool, workspaces=workspaces, sessions=sessions, terminals=terminals)
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(host.run())
            yield KeepNode(world, spool, terminals)
            running.cancel()
    finally:
        await spool.close()


def _driver(
    world: NodeWorld, spool: Spool, model_url: str, order: StartSession, place: Place
) -> AgentDriver:
    spec = SessionSpec(
        session=order.session,
        run=order.run,
        model=order.model,
        frame=order.frame,
        mode=order.mode,
        folder=place.folder,
        run_dir=place.run_dir,
        env={
            **place.env,
            "ANTHROPIC_BASE_URL": model_url,
            "ANTHROPIC_AUTH_TOKEN": place.token,
        },
        claude=place.claude,
        uid=place.uid,
        gid=place.gid,
        continues=order.continues,
    )
    launcher = ContainerLauncher(
        world.engine.client,
        place.container,
        user=place.user,
        wake=partial(world.workspaces.wake, order.workspace),
    )
    return ClaudeDriver(
        spec,
        launcher=launcher,
        journal=spool,
        publish=lambda _: None,
        now=lambda: datetime.now(UTC),
        pace=0.02,
    )
