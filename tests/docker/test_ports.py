"""What listens in a real container, and connections to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import NodeError
from core.browse import Port
from core.wire import WorkspaceReady
from tests.fakes.node_world import NodeWorld, base_image, node_world
from tests.fakes.serving import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]
SERVE = "cd /tmp && (setsid python3 -m http.server {port} --bind {address} >/dev/null 2>&1 &)"
CONFIG = {
    "image": base_image(),
    "remoteUser": "dev",
    "portsAttributes": {
        "5173": {"label": "The shop"},
        "9229": {"onAutoForward": "ignore"},
    },
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def ready(world: NodeWorld) -> WorkspaceReady:
    return await world.create({".devcontainer.json": json.dumps(CONFIG)})


async def listen(world: NodeWorld, ready: WorkspaceReady, port: int, address: str) -> None:
    await world.sh(ready, SERVE.format(port=port, address=address))


async def ask(world: NodeWorld, ready: WorkspaceReady, port: int) -> bytes:
    sock = await world.workspaces.connect(ready.workspace, port)
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def numbers(world: NodeWorld, ready: WorkspaceReady) -> list[int]:
    return [one.number for one in (await world.workspaces.ports(ready.workspace)).ports]


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
async def test_what_listens_is_seen_and_reached_wherever_it_is_bound(
    world: NodeWorld, ready: WorkspaceReady, address: str
) -> None:
    assert await numbers(world, ready) == []
    await listen(world, ready, 5173, address)
    await until(lambda: has(world, ready, 5173))
    ports = await world.workspaces.ports(ready.workspace)
    assert ports.ports == (Port(number=5173, name="The shop"),)
    assert b"200 OK" in await ask(world, ready, 5173)


async def has(world: NodeWorld, ready: WorkspaceReady, port: int) -> bool:
    return port in await numbers(world, ready)


async def test_ports_come_and_go(world: NodeWorld, ready: WorkspaceReady) -> None:
    await listen(world, ready, 8000, "127.0.0.1")
    await listen(world, ready, 9229, "127.0.0.1")
    await until(lambda: has(world, ready, 8000))
    assert await numbers(world, ready) == [8000], "9229 was to be ignored"
    await world.sh(ready, "pkill -f http.server; true")

    async def is_gone() -> bool:
        return not await has(world, ready, 8000)

    await until(is_gone)
    with pytest.raises(NodeError) as refused:
        await world.workspaces.connect(ready.workspace, 8000)
    assert refused.value.code == "nothing_listens"


async def test_what_listens_on_the_host_or_in_another_workspace_is_not_reached(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    other = await world.workspaces.create(world.order())
    await listen(world, other, 8000, "0.0.0.0")
    await until(lambda: has(world, other, 8000))
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    ours = server.sockets[0].getsockname()[1]
    for port in (8000, ours):
        with pytest.raises(NodeError) as refused:
            await world.workspaces.connect(ready.workspace, port)
        assert refused.value.code == "nothing_listens"
    server.close()


async def test_a_container_that_does_not_run_says_so(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.engine.stop(ready.container)
    for asking in (
        world.workspaces.ports(ready.workspace),
        world.workspaces.connect(ready.workspace, 80),
    ):
        with pytest.raises(NodeError) as refused:
            await asking
        assert refused.value.code == "workspace_stopped"
