"""Rescue copies of real workspaces: stopped ones, seen again from inside by their user."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.wire import WorkspaceReady
from tests.fakes.node_world import NodeWorld, base_image, node_world

pytestmark = pytest.mark.docker

CONFIG = {
    ".devcontainer.json": json.dumps({"image": base_image(), "remoteUser": "dev"}),
    ".gitignore": "*.log\n",
    "a.txt": "a\n",
    "b.txt": "b\n",
}
WORK = """
set -e
git config user.email dev@example.com; git config user.name Dev
echo committed > new.txt; git add new.txt; git commit -qm mine
echo stashed > a.txt; git stash -q
git checkout -q -b side; echo side > side.txt; git add side.txt; git commit -qm side
git checkout -q -
echo staged > b.txt; git add b.txt; echo 'and again' >> b.txt
rm a.txt; echo untracked > u.txt; chmod 750 u.txt; echo ignored > x.log; ln -s nowhere broken
mkdir empty; ln u.txt twin.txt
echo '{}' > /run/samovar/claude/conversation.jsonl
"""
LOOK = """
git status --porcelain=v2 --branch --ignored; git stash list; git for-each-ref; git fsck 2>&1
git diff; git diff --cached; ls -lan --time-style=+ | grep -v ' \\.git$' | grep -v '^total'
find . ! -user dev; cat /run/samovar/claude/conversation.jsonl
git config remote.origin.pushurl
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


async def seen(world: NodeWorld, ready: WorkspaceReady) -> str:
    return (await world.sh(ready, LOOK)).text


async def test_n8_a_stopped_workspace_comes_back_in_another_one_as_its_user_saw_it(
    world: NodeWorld,
) -> None:
    ready = await world.create(CONFIG)
    done = await world.sh(ready, WORK)
    assert done.code == 0, done.complaint
    before = await seen(world, ready)
    await world.engine.stop(ready.container, grace_s=0)
    copy = await world.workspaces.capture(ready.workspace)
    assert copy.left == ()
    await world.workspaces.delete(ready.workspace)
    other = await world.workspaces.create(world.order())
    await world.engine.stop(other.container, grace_s=0)
    await world.workspaces.restore(other.workspace, copy.sha256)
    await world.workspaces.wake(other.workspace)
    assert await seen(world, other) == before
    amended = await world.sh(other, "git commit -qm more && git log --oneline | wc -l")
    assert amended.text == "3"


async def test_a_copy_is_made_of_a_workspace_whose_container_is_gone(world: NodeWorld) -> None:
    ready = await world.create(CONFIG)
    await world.sh(ready, "echo mine > mine.txt")
    await world.engine.remove(ready.container)
    await world.workspaces.close()
    await world.another_life().capture(ready.workspace)
