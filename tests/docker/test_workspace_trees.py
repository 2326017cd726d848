"""Overlays on ready trees: shared, renewed, collected; a clone where they are not possible."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent import overlay
from tests.fakes.node_world import REPOSITORY, NodeWorld, base_image, node_world
from tests.fakes.serving import until

pytestmark = pytest.mark.docker

CONFIG = {".devcontainer.json": json.dumps({"image": base_image(), "remoteUser": "dev"})}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


def trees(world: NodeWorld) -> set[str]:
    return {path.parent.name for path in (world.settings.state / "tree").glob("*/*/1000")}


async def test_two_workspaces_share_a_ready_tree_and_do_not_see_each_other(
    world: NodeWorld,
) -> None:
    one = await world.create(CONFIG | {"a.txt": "a"})
    two = await world.workspaces.create(world.order(branch="samovar/T-2-x"))
    await world.sh(one, "rm a.txt; echo one > one.txt")
    said = await world.sh(two, "git status --porcelain; cat a.txt; ls")
    assert said.text.splitlines() == ["aa.txt"]
    assert trees(world) == {one.base_commit}
    state = world.settings.state / "ws"
    assert {str(next(state.glob(f"{w.workspace}/src/web"))) for w in (one, two)} <= {
        line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()
    }


async def test_trees_are_renewed_and_unused_ones_collected(world: NodeWorld) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.workspaces.run())
        one = await world.create(CONFIG)
        second = world.forge.commit(REPOSITORY, {"second.txt": "2"})
        two = await world.workspaces.create(world.order())
        assert (await world.sh(two, "cat second.txt; git status --porcelain")).text == "2"
        await until(lambda: trees(world) == {one.base_commit, second})
        await world.workspaces.delete(one.workspace)
        await world.workspaces.delete(two.workspace)
        third = world.forge.commit(REPOSITORY, {"third.txt": "3"})
        three = await world.workspaces.create(world.order())
        await until(lambda: trees(world) == {second, third})
        assert (await world.sh(three, "cat third.txt; git fsck --connectivity-only")).code == 0
        running.cancel()


async def test_where_no_overlay_is_possible_a_clone_does_the_same(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: Path) -> bool:
        return False

    monkeypatch.setattr(overlay, "works", refuse)
    ready = await world.create(CONFIG | {"a.txt": "a"})
    assert str(world.settings.state) not in Path("/proc/mounts").read_text()
    said = await world.sh(ready, "git status --porcelain; cat a.txt; stat -c %U a.txt .git/HEAD")
    assert said.text.split() == ["adev", "dev"]
    await world.sh(ready, "echo b > b.txt")
    got = await world.workspaces.collect(world.collecting(ready))
    checked = await world.workspaces.check(world.checking(ready, got.head, "cat b.txt"))
    assert checked.results[0].tail == "b"
