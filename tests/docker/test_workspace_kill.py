"""The node agent is killed anywhere between the first fetch and the push: the next life goes on."""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agent.override import WORKSPACE_LABEL
from tests.fakes.node_world import BRANCH, REPOSITORY, NodeWorld, base_image, node_world

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
FILES = {
    ".devcontainer/devcontainer.json": json.dumps(
        {"build": {"dockerfile": "D"}, "remoteUser": "dev", "postCreateCommand": "true"}
    ),
    ".devcontainer/D": f"FROM {base_image()}\n",
}
CALLS = 88
"""About as many calls as a whole life makes; the last lives of a sample may not burn at all."""
LIFE_S = 120


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        opened.forge.add(REPOSITORY, FILES)
        yield opened


async def life(world: NodeWorld, order: object, *, fuse: int, after: bool) -> dict[str, Any] | None:
    """Return what a life did, None if it was killed."""
    told = {
        "settings": {k: str(v) for k, v in asdict(world.settings).items() if v is not None},
        "order": asdict(order),  # type: ignore[call-overload]
        "logins": world.logins,
        "fuse": fuse,
        "after": after,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.node_life"),
        cwd=ROOT,
        env=dict(os.environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIFE_S):
        out, err = await process.communicate(json.dumps(told).encode())
    if process.returncode == -9:
        return None
    assert process.returncode == 0, err.decode()[-3000:]
    done: dict[str, Any] = json.loads(out)
    return done


async def hold(world: NodeWorld, kills: list[tuple[int, bool]]) -> int:
    order = world.order()
    for fuse, after in kills:
        await life(world, order, fuse=fuse, after=after)
    done = await life(world, order, fuse=10**9, after=False)
    assert done is not None
    assert done["checks"] == [[0, "work"]]
    assert done["commits"] == 1, "work is committed once"
    assert world.forge.head(REPOSITORY, BRANCH) == done["head"]
    again = await life(world, order, fuse=10**9, after=False)
    assert again is not None
    assert (again["head"], again["container"]) == (done["head"], done["container"])
    found = await world.engine.find({WORKSPACE_LABEL: order.workspace})
    assert list(found) == [done["container"]], "no container is left over"
    return int(done["calls"])


async def test_t1_a_killed_agent_goes_on_in_its_next_life(world: NodeWorld) -> None:
    chance = random.Random(20260101)
    for _ in range(2):
        points = sorted(chance.sample(range(1, CALLS), 4))
        await hold(world, [(point, chance.random() < 0.5) for point in points])
        world.forge.git(REPOSITORY, "update-ref", "-d", f"refs/heads/{BRANCH}")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("after", [False, True])
async def test_t1_there_is_no_call_at_which_a_kill_is_felt(world: NodeWorld, after: bool) -> None:
    for fuse in range(1, CALLS):
        await hold(world, [(fuse, after)])
        world.forge.git(REPOSITORY, "update-ref", "-d", f"refs/heads/{BRANCH}")
