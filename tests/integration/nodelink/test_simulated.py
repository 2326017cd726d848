"""A node in this process over the real link: random kills of either side, two sessions at once."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.nodelink.links import Links
from core.ids import NodeId, OrderId, ReplicaId, RunId, SessionId, WorkspaceId
from core.wire import (
    Collect,
    CreateWorkspace,
    Order,
    OrderBody,
    SendPrompt,
    StartSession,
    StopSession,
    to_json,
)
from tests.fakes.link_store import SqlLinkStore
from tests.fakes.node_parts import Commit, Killed, Say, World
from tests.fakes.serving import until
from tests.fakes.simulated_node import SimulatedNode

NODE = NodeId("node-0000aaaa")


class Plane:
    """A control plane whose `Links` can be replaced, as by a restart."""

    def __init__(self) -> None:
        self.store = SqlLinkStore()
        self.store.add_node(NODE)
        self.links: Links | None = None

    def start(self) -> None:
        self.links = Links(self.store, replica=ReplicaId("r"), heartbeat_s=0.3, lost=lambda _: None)

    def kill(self) -> None:
        if self.links is not None:
            self.links.stop()
        self.links = None

    async def done(self, body: OrderBody, number: int, run: str) -> dict[str, Any]:
        ident = OrderId(f"run:{run}/{body.KIND}/{number}")
        if ident not in self.idents():
            self.store.add_order(
                NODE,
                Order(id=ident, object=f"run:{run}", fence=1, kind=body.KIND, body=to_json(body)),
            )
        await until(lambda: ident in self.store.answers())
        return self.store.answers()[ident]

    def idents(self) -> list[str]:
        return [row[0] for row in self.store.db.execute("SELECT id FROM orders")]

    def events(self) -> list[dict[str, Any]]:
        rows = self.store.db.execute(
            "SELECT body FROM received WHERE kind = 'session_events' ORDER BY n"
        )
        return [event for (body,) in rows for event in json.loads(body)["events"]]


@asynccontextmanager
async def living(plane: Plane, folder: Path, world: World) -> AsyncGenerator[SimulatedNode]:
    node = SimulatedNode(NODE, folder, world, lambda: plane.links)
    plane.start()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(node.live_on())
        yield node
        running.cancel()


async def a_run(plane: Plane, number: int) -> dict[str, Any]:
    """Walk one run from its workspace to its collected commits."""
    workspace, run = WorkspaceId(f"ws00000{number}"), RunId(f"T-{number}.1")
    session = SessionId(f"5e55a0ae-0000-4000-8000-00000000000{number}")
    create = CreateWorkspace(
        workspace=workspace,
        attempt=1,
        repository="acme/web",
        url="http://forge/acme/web.git",
        base="main",
        branch=f"samovar/T-{number}-x",
        cpus=1.0,
        memory_mb=512,
        devcontainer="",
        image="base",
    )
    start = StartSession(session=session, run=run, workspace=workspace, model="m", frame="f")
    for body in (create, start, SendPrompt(session=session, prompt=f"p{number}", text="go")):
        answer = await plane.done(body, number, run)
        assert answer["ok"], answer
    await until(
        lambda: any(
            event["kind"] == "turn.end" and event["session"] == session for event in plane.events()
        )
    )
    collect = Collect(workspace=workspace, run=run, message="m", author="a", email="a@b")
    collected = await plane.done(collect, number, run)
    assert (await plane.done(StopSession(session=session), number, run))["ok"]
    return collected


def assert_whole(plane: Plane, world: World) -> None:
    for session, process in world.processes.items():
        stored = [event for event in plane.events() if event["session"] == session]
        assert [e["offset"] for e in stored] == [e.offset for e in process.journal]
        assert {e["run"] for e in stored} == {process.order.run}
        assert process.starts == 1
    assert world.live() == []


async def test_p3_two_sessions_on_one_node_keep_their_own_events(tmp_path: Path) -> None:
    world = World(script=lambda _: [Say(f"part {n}") for n in range(50)] + [Commit()])
    plane = Plane()
    async with living(plane, tmp_path, world):
        both = await asyncio.gather(a_run(plane, 1), a_run(plane, 2))
    assert [one["result"]["commits"] for one in both] == [1, 1]
    assert_whole(plane, world)


@pytest.mark.parametrize("seed", range(6))
async def test_w7_a_run_goes_through_random_kills_of_both_sides(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    world, plane = World(script=lambda _: [Say("x"), Commit(), Say("y"), Commit("more")]), Plane()
    kills = 0

    def fuse(_: str) -> None:
        nonlocal kills
        if chance.random() < 0.08 and kills < 12:
            kills += 1
            raise Killed

    world.fuse = fuse

    async def kill_the_plane() -> None:
        for _ in range(4):
            await asyncio.sleep(chance.uniform(0.02, 0.15))
            plane.kill()
            await asyncio.sleep(chance.uniform(0, 0.05))
            plane.start()

    async with living(plane, tmp_path, world), asyncio.TaskGroup() as group:
        group.create_task(kill_the_plane())
        collected = await a_run(plane, 1)
    assert collected["result"]["commits"] == 2
    assert_whole(plane, world)
