"""A workspace is built again, by the configuration that lies in it, and keeps what it holds."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.override import WORKSPACE_LABEL
from core.wire import WorkspaceReady
from tests.fakes.node_world import NodeWorld, base_image, node_world

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

FOLDER = ".devcontainer"
BUILT = {"build": {"dockerfile": "Dockerfile"}, "remoteUser": "dev"}
FILES = {
    f"{FOLDER}/devcontainer.json": json.dumps(BUILT),
    f"{FOLDER}/Dockerfile": (
        f"FROM {base_image()}\nRUN cat /proc/sys/kernel/random/uuid > /built\n"
    ),
}
WORK = """
set -e
echo uncommitted > work.txt; git add work.txt
mkdir -p /run/samovar/claude/projects/x /run/samovar/s/1
echo '{}' > /run/samovar/claude/projects/x/1.jsonl; echo '{}' > /run/samovar/s/1/out.jsonl
"""
KEPT = "cat work.txt /run/samovar/claude/projects/x/1.jsonl; git status --porcelain"
AS_IT_WAS = ["uncommitted", "{}", "A  work.txt"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


async def worked_in(world: NodeWorld) -> tuple[WorkspaceReady, str]:
    ready = await world.create(FILES)
    done = await world.sh(ready, WORK)
    assert done.code == 0, done.complaint
    terminal = world.layout.workspace(ready.workspace) / "terminals/t-1"
    terminal.mkdir(parents=True)
    (terminal / "00.out").write_bytes(b"history")
    return ready, (await world.sh(ready, "cat /built")).text


async def rebuilt(world: NodeWorld, ready: WorkspaceReady) -> WorkspaceReady:
    again = await world.workspaces.create(world.order(ready.workspace, attempt=ready.attempt + 1))
    assert again.container != ready.container
    found = await world.engine.find({WORKSPACE_LABEL: ready.workspace})
    assert list(found) == [again.container]
    kept = await world.sh(again, KEPT)
    assert kept.text.splitlines()[:2] == AS_IT_WAS[:2]
    terminal = world.layout.workspace(ready.workspace) / "terminals/t-1/00.out"
    assert terminal.read_bytes() == b"history"
    return again


async def test_w3_a_rebuild_makes_the_image_anew_and_keeps_work_and_conversations(
    world: NodeWorld,
) -> None:
    ready, built = await worked_in(world)
    again = await rebuilt(world, ready)
    assert (again.attempt, again.recovered, again.restored) == (2, "", ())
    assert (await world.sh(again, KEPT)).text.splitlines() == AS_IT_WAS
    assert (await world.sh(again, "cat /built")).text != built
    same = await world.workspaces.create(world.order(ready.workspace, attempt=2))
    assert same == again, "the same attempt builds nothing"


async def test_w3_the_configuration_that_lies_in_the_workspace_counts(world: NodeWorld) -> None:
    ready, _ = await worked_in(world)
    config = json.dumps({**BUILT, "containerEnv": {"TEA": "green"}})
    edit = (
        f"echo 'RUN echo mine > /mine' >> {FOLDER}/Dockerfile;"
        f"echo '{config}' > {FOLDER}/devcontainer.json"
    )
    await world.sh(ready, edit)
    again = await rebuilt(world, ready)
    assert again.recovered == ""
    assert (await world.sh(again, "cat /mine; echo $TEA")).text == "mine\ngreen"


async def test_another_remote_user_owns_the_work_and_the_conversations(world: NodeWorld) -> None:
    ready, _ = await worked_in(world)
    config = json.dumps({**BUILT, "remoteUser": "lena"})
    edit = (
        f"echo 'RUN useradd -m -u 1234 -s /bin/bash lena' >> {FOLDER}/Dockerfile;"
        f"echo '{config}' > {FOLDER}/devcontainer.json"
    )
    await world.sh(ready, edit)
    again = await rebuilt(world, ready)
    assert again.user == "lena"
    others = "find . /run/samovar/claude /run/samovar/s ! -user lena"
    assert (await world.sh(again, others)).text == ""


async def test_w6_a_refused_configuration_costs_the_rebuild_and_not_the_workspace(
    world: NodeWorld,
) -> None:
    ready, _ = await worked_in(world)
    config = json.dumps({**BUILT, "features": {"./strong": {}}})
    feature = json.dumps({"id": "strong", "version": "1.0.0", "privileged": True})
    edit = (
        f"echo '{config}' > {FOLDER}/devcontainer.json; mkdir {FOLDER}/strong;"
        f"echo '{feature}' > {FOLDER}/strong/devcontainer-feature.json;"
        f"echo '#!/bin/sh' > {FOLDER}/strong/install.sh"
    )
    await world.sh(ready, edit)
    again = await rebuilt(world, ready)
    assert again.recovered.startswith("The devcontainer is refused: ")
    assert again.recovered.endswith("is used instead.")
    await world.sh(again, f"echo '{json.dumps(BUILT)}' > {FOLDER}/devcontainer.json")
    mended = await rebuilt(world, again)
    assert mended.recovered == ""


async def test_w3_a_rebuild_that_fails_leaves_a_workspace_that_can_be_mended(
    world: NodeWorld,
) -> None:
    ready, _ = await worked_in(world)
    await world.sh(ready, f"echo 'RUN exit 3' >> {FOLDER}/Dockerfile")
    again = await rebuilt(world, ready)
    assert "the last good image is used instead" in again.recovered
    await world.sh(again, f"sed -i '/exit 3/d' {FOLDER}/Dockerfile")
    assert (await rebuilt(world, again)).recovered == ""
