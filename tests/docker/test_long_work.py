"""Work that is large or takes long: nothing has a short limit, no credential must live as long."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.node_world import BRANCH, REPOSITORY, NodeWorld, base_image, node_world

pytestmark = pytest.mark.docker

CONFIG = {".devcontainer.json": json.dumps({"image": base_image(), "remoteUser": "dev"})}
LARGE = 200 * 2**20
"""Bytes that no packing makes smaller."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


async def test_c2_after_hours_every_transfer_uses_a_credential_of_its_own(
    world: NodeWorld,
) -> None:
    """The code host forgets the tokens of the beginning, as after one hour of three."""
    ready = await world.create(CONFIG)
    world.forge.commit(REPOSITORY, {"news.txt": "news"})
    world.forge.readers = {"reader": "second-read"}
    world.forge.writers = {"writer": "second-write"}
    world.logins = {"read": ("reader", "second-read"), "write": ("writer", "second-write")}
    fetched = await world.sh(ready, "git pull -q origin main && cat news.txt")
    assert fetched.text == "news"
    await world.sh(ready, "echo late > late.txt")
    got = await world.workspaces.collect(world.collecting(ready))
    world.forge.writers = {"writer": "third-write"}
    world.logins["write"] = ("writer", "third-write")
    await world.workspaces.push(world.pushing(ready, got.head))
    assert world.forge.head(REPOSITORY, BRANCH) == got.head


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_w10_a_repository_of_200_mb_is_fetched_worked_on_and_pushed_with_progress(
    world: NodeWorld,
) -> None:
    ready = await world.create({**CONFIG, "large.bin": os.urandom(LARGE)})
    told = [step.text for step in world.steps if step.step == "fetch" and step.state == "started"]
    assert [text for text in told if "%" in text or "Receiving" in text], told
    said = await world.sh(ready, "stat -c %s large.bin; echo small > small.txt")
    assert said.text == str(LARGE)
    got = await world.workspaces.collect(world.collecting(ready))
    assert {change.path for change in got.files} == {"small.txt"}
    await world.workspaces.push(world.pushing(ready, got.head))
    assert world.forge.head(REPOSITORY, BRANCH) == got.head
