"""Docker itself ends while a node works: that is nobody's fault, and the work is done again."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress

import pytest

from agent.errors import NodeError
from tests.fakes.frail_engine import FrailEngine, frail_engine
from tests.fakes.node_world import NodeWorld, base_image, node_world
from tests.fakes.serving import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

SLOW = {
    ".devcontainer/devcontainer.json": json.dumps(
        {"build": {"dockerfile": "D"}, "remoteUser": "dev", "postCreateCommand": "true"}
    ),
    ".devcontainer/D": f"FROM {base_image()}\nRUN sleep 4\n",
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Generator[FrailEngine]:
    with frail_engine(tmp_path_factory.mktemp("none")) as frail:
        yield frail


@pytest.fixture
async def world(
    tmp_path_factory: pytest.TempPathFactory, engine: FrailEngine
) -> AsyncGenerator[NodeWorld]:
    async with node_world(tmp_path_factory.mktemp("node"), docker_host=engine.host) as opened:
        yield opened


async def test_w4_an_engine_that_ends_in_a_build_is_no_fault_of_the_devcontainer(
    world: NodeWorld, engine: FrailEngine
) -> None:
    async with asyncio.TaskGroup() as group:
        making = group.create_task(world.create(SLOW))
        await until(lambda: "RUN sleep" in _log(world))
        await engine.kill()
    assert making.result().recovered == ""
    assert (await world.sh(making.result(), "id -un")).text == "dev"


@pytest.mark.long
async def test_an_engine_that_ends_in_a_check_has_it_run_again(
    world: NodeWorld, engine: FrailEngine
) -> None:
    ready = await world.create(SLOW)
    await world.sh(ready, "git commit -q --allow-empty -m work")
    collected = await world.workspaces.collect(world.collecting(ready))
    order = world.checking(ready, collected.head, "touch /tmp/begun; sleep 6; echo fine")
    async with asyncio.TaskGroup() as group:
        checking = group.create_task(world.workspaces.check(order))
        await until(lambda: _has_begun(world))
        await engine.kill()
    assert [(one.exit_code, one.tail) for one in checking.result().results] == [(0, "fine")]


def _log(world: NodeWorld) -> str:
    logs = world.settings.state.glob("*/*/logs/build-1.log")
    return "".join(path.read_text() for path in logs)


async def _has_begun(world: NodeWorld) -> bool:
    for container in await world.engine.find({"samovar.check": ""}):
        with suppress(NodeError):  # It was made and does not run yet.
            done = await world.engine.run(container, ["ls", "/tmp"], user="0", folder="/")
            return "begun" in done.text
    return False
