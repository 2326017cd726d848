"""What people see of a workspace's files and changes, with the real git in a real container."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.browse import Change
from core.wire import WorkspaceReady
from tests.fakes.node_world import NodeWorld, base_image, node_world

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


def config() -> str:
    return json.dumps({"image": base_image(), "remoteUser": "dev"})


@pytest.fixture
async def ready(world: NodeWorld) -> WorkspaceReady:
    return await world.create({".devcontainer.json": config(), "src/app.py": "x = 1\n"})


async def test_changes_are_those_since_the_work_started(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    script = (
        "echo 'x = 2' > src/app.py && git commit -qam two && echo 'x = 3' > src/app.py"
        " && echo new > 'a b.txt' && echo staged > staged && git add staged"
    )
    await world.sh(ready, script)
    changes = await world.workspaces.changes(ready.workspace)
    assert changes.base == ready.base_commit
    assert set(changes.status) == {
        Change(path="src/app.py", index=".", tree="M"),
        Change(path="staged", index="A", tree="."),
        Change(path="a%20b.txt", index="?", tree="?"),
    }
    assert "-x = 1\n+x = 3\n" in changes.diff
    assert "+staged\n" in changes.diff


async def test_c10_what_git_is_configured_to_run_stays_inside_and_changes_nothing(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.sh(
        ready,
        "git config diff.external 'echo hooked'; git config core.fsmonitor 'touch /tmp/ran; false';"
        "echo '*.py diff=evil' > .gitattributes; git config diff.evil.textconv 'echo hooked';"
        "echo 'x = 9' > src/app.py",
    )
    changes = await world.workspaces.changes(ready.workspace)
    assert "+x = 9\n" in changes.diff
    assert "hooked" not in changes.diff
    assert (await world.sh(ready, "ls /tmp/ran || echo none")).text == "none"


async def test_files_are_seen_as_the_container_sees_them(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.sh(ready, "mkdir made && echo inside > made/file && ln -s /etc/passwd made/link")
    listing = await world.workspaces.folder(ready.workspace, "made/")
    assert {(each.name, each.kind) for each in listing.entries} == {
        ("file", "file"),
        ("link", "link"),
    }
    chunks = [chunk async for chunk in world.workspaces.file(ready.workspace, "made/file")]
    assert chunks == [b"inside\n"]


async def test_a_container_that_was_stopped_is_started_for_its_changes(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.engine.stop(ready.container)
    assert (await world.workspaces.changes(ready.workspace)).diff == ""
