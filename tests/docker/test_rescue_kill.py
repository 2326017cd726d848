"""The node agent is killed anywhere between a save and the end of its restore (G4, N8)."""

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
from core.wire import (
    DeleteWorkspace,
    DropCopy,
    OrderBody,
    SaveWorkspace,
    WorkspaceReady,
    from_json,
    to_json,
)
from tests.fakes.keep_life import SAVED
from tests.fakes.node_world import REPOSITORY, NodeWorld, base_image, node_world

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
LIFE_S = 120
CALLS = 100
"""About as many calls as saving, deleting and restoring makes."""
WORK = """
set -e
echo committed > c.txt; git add c.txt; git commit -qm mine
echo stashed > a.txt; git stash -q
echo staged > s.txt; git add s.txt; echo untracked > u.txt
mkdir -p /run/samovar/claude/projects/x; echo '{}' > /run/samovar/claude/projects/x/1.jsonl
"""
LOOK = """
git log --format=%H; git stash list; git status --porcelain; cat u.txt s.txt
cat /run/samovar/claude/projects/x/1.jsonl hooks.txt
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        config = {
            "image": base_image(),
            "remoteUser": "dev",
            "postCreateCommand": "date > hooks.txt",
        }
        content = {
            ".devcontainer.json": json.dumps(config),
            ".gitignore": "hooks.txt\n",
            "a.txt": "a",
        }
        opened.forge.add(REPOSITORY, content)
        yield opened


class Lives:
    """Lives of a node agent; what was answered is remembered, as the control plane does."""

    def __init__(self, world: NodeWorld, kills: list[tuple[int, bool]]) -> None:
        self._world = world
        self._kills = kills
        self._kept = ""
        self.calls = 0

    async def do(self, *orders: OrderBody) -> list[dict[str, Any]]:
        """Have the orders carried out and return their answers, whoever dies meanwhile."""
        answers: list[dict[str, Any]] = []
        self._kept = ""
        while len(answers) < len(orders):
            fuse, after = self._kills.pop(0) if self._kills else (10**9, False)
            answers += await self._live(orders[len(answers) :], fuse=fuse, after=after)
        return answers

    async def _live(
        self, orders: tuple[OrderBody, ...], *, fuse: int, after: bool
    ) -> list[dict[str, Any]]:
        told = {
            "settings": {
                k: str(v) for k, v in asdict(self._world.settings).items() if v is not None
            },
            "orders": [(order.KIND, to_json(order)) for order in orders],
            "logins": self._world.logins,
            "saved": self._kept,
            "fuse": fuse,
            "after": after,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.keep_life"),
            cwd=ROOT,
            env=dict(os.environ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(LIFE_S):
            out, err = await process.communicate(json.dumps(told).encode())
        lines = [json.loads(line) for line in out.splitlines()]
        if process.returncode == 0:
            self.calls += lines.pop()["calls"]
        else:
            assert process.returncode == -9, err.decode()[-3000:]
        self._kept = next((line["sha256"] for line in lines if "sha256" in line), self._kept)
        return lines


async def hold(world: NodeWorld, kills: list[tuple[int, bool]]) -> int:
    """Save, delete and restore a workspace with these kills; return how many calls that takes."""
    lives = Lives(world, [])
    order = world.order()
    [made] = await lives.do(order)
    ready = from_json(WorkspaceReady, made)
    done = await world.sh(ready, WORK)
    assert done.code == 0, done.complaint
    before = (await world.sh(ready, LOOK)).text
    lives = Lives(world, kills)
    saved, _, back = await lives.do(
        SaveWorkspace(workspace=order.workspace, attempt=1),
        DeleteWorkspace(workspace=order.workspace),
        world.restoring(ready, SAVED),
    )
    kept = [path.name for path in world.layout.rescue.iterdir()]
    assert kept == [f"{saved['sha256']}.copy"], "one copy, however often it was begun"
    assert back["restored"] == [
        "Put back: 1 commit, 1 stash, 1 changed file, 2 untracked files, 1 conversation."
    ]
    after = await world.sh(from_json(WorkspaceReady, back), LOOK)
    assert after.text.splitlines()[:-1] == before.splitlines()[:-1]
    assert after.text != before, "the hooks ran after the work was back"
    found = await world.engine.find({WORKSPACE_LABEL: order.workspace})
    assert list(found) == [back["container"]]
    over = DeleteWorkspace(workspace=order.workspace, discard=True)
    await Lives(world, []).do(DropCopy(sha256=saved["sha256"]), over)
    assert list(world.layout.rescue.iterdir()) == [], "no copy is left"
    assert not list(world.layout.scratch.glob("copy-*")), "half a copy is left"
    return lives.calls


async def test_g4_a_kill_between_save_and_restore_loses_and_doubles_nothing(
    world: NodeWorld,
) -> None:
    chance = random.Random(20261129)
    points = sorted(chance.sample(range(1, CALLS), 5))
    await hold(world, [(point, chance.random() < 0.5) for point in points])


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("after", [False, True])
async def test_g4_there_is_no_call_of_save_or_restore_at_which_a_kill_is_felt(
    world: NodeWorld, after: bool
) -> None:
    for fuse in range(1, CALLS):
        await hold(world, [(fuse, after)])
