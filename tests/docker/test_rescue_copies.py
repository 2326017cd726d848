"""Rescue copies of real workspaces: stopped ones, seen again from inside by their user."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.memory.nodes import a_view
from agent import files
from agent.errors import NodeError
from agent.keep import capture as module
from agent.keep.site import Site
from agent.override import WORKSPACE_LABEL
from core.viewing import View
from core.wire import DropCopy, PutFile, WorkspaceReady
from tests.fakes.node_world import BRANCH, REPOSITORY, NodeWorld, base_image, node_world

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

DEVCONTAINER = {"image": base_image(), "remoteUser": "dev"}
CONFIG = {
    ".devcontainer.json": json.dumps({**DEVCONTAINER, "postCreateCommand": "ls -A > /tmp/seen"}),
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
mkdir -p /run/samovar/claude/projects/x
echo '{}' > /run/samovar/claude/projects/x/1.jsonl
"""
LOOK = """
git status --porcelain=v2 --branch --ignored; git stash list; git for-each-ref
git fsck --no-dangling 2>&1
git diff; git diff --cached; ls -lan --time-style=+ | grep -v ' \\.git$' | grep -v '^total'
find . /run/samovar/claude ! -user dev; cat /run/samovar/claude/projects/x/1.jsonl
git config remote.origin.pushurl
"""
PUT_BACK = "Put back: 2 commits, 1 stash, 2 changed files, 4 untracked files, 1 conversation."


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


async def seen(world: NodeWorld, ready: WorkspaceReady) -> str:
    return (await world.sh(ready, LOOK)).text


async def worked_in(world: NodeWorld) -> WorkspaceReady:
    ready = await world.create(CONFIG)
    done = await world.sh(ready, WORK)
    assert done.code == 0, done.complaint
    return ready


async def refusal(doing: object) -> str:
    with pytest.raises(NodeError) as refused:
        await doing  # type: ignore[misc]
    return refused.value.code


async def test_n8_a_stopped_workspace_comes_back_as_its_user_saw_it_and_its_hooks_see_the_work(
    world: NodeWorld,
) -> None:
    ready = await worked_in(world)
    before = await seen(world, ready)
    saved = await world.workspaces.save(world.saving(ready))
    assert (saved.left_out, saved.left_out_count) == ((), 0)
    assert (saved.branch, saved.base_commit) == (BRANCH, ready.base_commit)
    await world.workspaces.delete(ready.workspace)
    assert [path.name for path in world.layout.rescue.iterdir()] == [f"{saved.sha256}.copy"]
    world.forge.commit(REPOSITORY, {"theirs.txt": "meanwhile\n"})
    files.remove(world.settings.state / "uid")  # The new node knows of no remote user yet.
    back = await world.workspaces.create(world.restoring(ready, saved.sha256))
    assert back.restored == (PUT_BACK,)
    assert back.base_commit == ready.base_commit
    assert back.token_hash != ready.token_hash
    assert await seen(world, back) == before
    made = await world.sh(back, "cat /tmp/seen; git commit -qm more; git rev-list --count HEAD")
    assert {"u.txt", "new.txt", "empty"} <= set(made.text.splitlines())
    assert made.text.splitlines()[-1] == "3"
    assert await world.workspaces.create(world.restoring(ready, saved.sha256)) == back


async def test_a_copy_is_made_of_a_workspace_that_runs_or_whose_container_is_gone_the_same_one(
    world: NodeWorld,
) -> None:
    ready = await worked_in(world)
    background = "(while :; do date > beat.txt; sleep 0.01; done) >/dev/null 2>&1 &"
    await world.sh(ready, background)
    saved = await world.workspaces.save(world.saving(ready))
    stopped = await world.engine.inspect(ready.container)
    assert stopped is not None
    assert not stopped["State"]["Running"], "what beats on is ended for the copy"
    await world.engine.remove(ready.container)
    await world.workspaces.close()
    assert await world.another_life().save(world.saving(ready)) == saved
    assert world.copies() == [saved.sha256]


async def test_g4_without_docker_a_copy_can_be_made(world: NodeWorld) -> None:
    ready = await worked_in(world)
    await world.engine.stop(ready.container, grace_s=0)
    await world.workspaces.close()
    away = world.another_life(docker_host="unix:///nowhere")
    saved = await away.save(world.saving(ready))
    await away.close()
    world.another_life()
    assert world.copies() == [saved.sha256]
    await world.workspaces.delete(ready.workspace)
    kept = world.layout.rescue.glob("*-uncollected.tar.gz")
    assert list(kept), "who knows whether nothing ran any more"


async def test_what_is_left_out_is_said_by_name_and_counted(world: NodeWorld) -> None:
    ready = await world.create({**CONFIG, ".gitignore": "node_modules/\n"})
    many = "mkdir node_modules; for i in $(seq 150); do mkfifo pipe.$i; done"
    await world.sh(ready, many)
    saved = await world.workspaces.save(world.saving(ready))
    assert (len(saved.left_out), saved.left_out_count) == (100, 151)
    assert "node_modules is ignored by git and can be made again." in saved.left_out


async def test_a_workspace_that_changes_all_the_time_is_busy_and_stays_as_it_is(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = await worked_in(world)
    restless = world.layout.workspace(ready.workspace) / "src/web/restless.bin"
    compare = module._is_equal

    def late(site: Site, taken: module._Taken) -> bool:
        restless.write_bytes(os.urandom(64))  # By something on this host, which nobody stops.
        return compare(site, taken)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_is_equal", late)
        code = await refusal(world.workspaces.save(world.saving(ready)))
    assert (code, world.copies()) == ("workspace_busy", [])
    restless.unlink()
    await world.workspaces.wake(ready.workspace)
    assert (await world.sh(ready, "cat u.txt")).text == "untracked"
    await world.workspaces.save(world.saving(ready))


async def test_a_workspace_that_is_not_here_cannot_be_saved(world: NodeWorld) -> None:
    ready = await worked_in(world)
    await world.workspaces.delete(ready.workspace)
    assert await refusal(world.workspaces.save(world.saving(ready))) == "workspace_gone"


async def test_a_copy_that_is_missing_or_refused_leaves_nothing_half_there(
    world: NodeWorld,
) -> None:
    ready = await worked_in(world)
    saved = await world.workspaces.save(world.saving(ready))
    await world.workspaces.delete(ready.workspace)
    copy = world.layout.copy(saved.sha256)
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-9])
    restoring = world.restoring(ready, saved.sha256)
    assert await refusal(world.workspaces.create(restoring)) == "copy_refused"
    await nothing_is_there(world, ready)
    await world.workspaces.drop(DropCopy(sha256=saved.sha256))
    world.files_url = world.forge.url("").rstrip("/")  # Somebody answers, and has no such file.
    await world.workspaces.close()
    world.another_life()
    assert await refusal(world.workspaces.create(restoring)) == "copy_missing"
    await nothing_is_there(world, ready)
    copy.write_bytes(whole)
    back = await world.workspaces.create(restoring)
    assert back.restored == (PUT_BACK,)


async def nothing_is_there(world: NodeWorld, ready: WorkspaceReady) -> None:
    assert list(await world.engine.find({WORKSPACE_LABEL: ready.workspace})) == []
    assert not world.layout.workspace(ready.workspace).exists()
    assert str(world.layout.workspaces) not in Path("/proc/mounts").read_text()
    assert not list(world.layout.scratch.glob("*.*"))


async def test_a_copy_is_dropped_once_and_again_and_nothing_else_with_it(world: NodeWorld) -> None:
    ready = await worked_in(world)
    first = await world.workspaces.save(world.saving(ready))
    await world.sh(await world.workspaces.create(world.order(ready.workspace)), "echo 2 > u.txt")
    second = await world.workspaces.save(world.saving(ready))
    for name in (first.sha256, first.sha256, "../node.json", "", "*"):
        await world.workspaces.drop(DropCopy(sha256=name))
    assert world.copies() == [second.sha256]


async def test_g4_work_after_a_copy_is_kept_again_when_its_workspace_goes(world: NodeWorld) -> None:
    ready = await worked_in(world)
    saved = await world.workspaces.save(world.saving(ready))
    for _ in range(2):
        await world.workspaces.create(world.order(ready.workspace))
        await world.sh(ready, "echo more > more.txt")
        await world.workspaces.delete(ready.workspace)
    kept = [path.name.rpartition("-")[2] for path in world.layout.rescue.iterdir()]
    assert sorted(kept) == sorted([f"{saved.sha256}.copy", *["uncollected.tar.gz"] * 2])


async def test_g4_what_an_earlier_life_of_a_workspace_left_is_set_aside_before_another_comes_back(
    world: NodeWorld,
) -> None:
    """The control plane went on with it elsewhere while this node was away."""
    ready = await worked_in(world)
    elsewhere = await world.workspaces.save(world.saving(ready))
    await world.workspaces.create(world.order(ready.workspace))
    await world.sh(ready, "echo never saved > lost.txt")
    here = await world.workspaces.save(world.saving(ready))
    await world.workspaces.drop(DropCopy(sha256=here.sha256))
    back = await world.workspaces.create(world.restoring(ready, elsewhere.sha256))
    assert back.restored[0] == PUT_BACK
    assert back.restored[1].endswith(f"is kept there, as the rescue copy {here.sha256}.")
    assert (await world.sh(back, "ls lost.txt 2>&1")).code != 0
    [aside] = set(world.copies()) - {elsewhere.sha256}
    assert aside == here.sha256
    again = world.order(ready.workspace, attempt=3, restore=aside)
    assert (await world.sh(await world.workspaces.create(again), "cat lost.txt")).text


async def test_a_workspace_that_is_still_here_as_it_was_saved_is_not_laid_out_again(
    world: NodeWorld,
) -> None:
    ready = await worked_in(world)
    saved = await world.workspaces.save(world.saving(ready))
    inode = (world.layout.workspace(ready.workspace) / "src/web/u.txt").stat().st_ino
    back = await world.workspaces.create(world.restoring(ready, saved.sha256))
    assert (back.attempt, back.restored) == (2, ())
    assert (world.layout.workspace(ready.workspace) / "src/web/u.txt").stat().st_ino == inode
    assert world.copies() == [saved.sha256]


async def test_restoring_many_at_once_each_gives_all(world: NodeWorld) -> None:
    ready = await worked_in(world)
    saved = await world.workspaces.save(world.saving(ready))
    orders = [world.order(restore=saved.sha256) for _ in range(2)]
    backs = await asyncio.gather(*(world.workspaces.create(order) for order in orders))
    for back in backs:
        assert back.restored == (PUT_BACK,)
        assert (await world.sh(back, "cat u.txt")).text == "untracked"


@asynccontextmanager
async def sending(world: NodeWorld, ready: WorkspaceReady) -> AsyncIterator[View]:
    """Be in the middle of sending a file."""
    ours, theirs = a_view()
    wanted = PutFile(ticket="", workspace=ready.workspace, path="sent", replaces=True)
    putting = asyncio.create_task(world.workspaces.put(wanted, theirs))
    await ours.receive()
    await ours.send(b"sent")
    yield ours
    await ours.send(b"")
    await putting


async def test_g4_a_file_that_comes_while_its_workspace_is_saved_is_refused_or_in_a_copy(
    world: NodeWorld,
) -> None:
    ready = await world.create(CONFIG)
    saved = await world.workspaces.save(world.saving(ready))
    async with sending(world, ready):
        pass
    assert (await world.workspaces.save(world.saving(ready))).sha256 != saved.sha256
    late = sending(world, ready)
    await late.__aenter__()
    await world.workspaces.save(world.saving(ready))
    assert await refusal(late.__aexit__(None, None, None)) == "workspace_stopped"
    await world.workspaces.delete(ready.workspace)
    assert not list(world.layout.rescue.glob("*-uncollected.tar.gz"))


async def test_n8_volumes_wait_on_the_node_for_the_copy_that_they_belong_to(
    world: NodeWorld,
) -> None:
    mounts = ["type=volume,source=data,target=/data"]
    config = json.dumps({"image": base_image(), "mounts": mounts})
    ready = await world.create({".devcontainer.json": config})
    await world.sh(ready, "echo 1 > /data/rows", user="root")
    saved = await world.workspaces.save(world.saving(ready))
    assert saved.left_out == ("data is a volume, which stays on its machine.",)
    for _ in range(2):
        await world.workspaces.delete(ready.workspace, keeps_volumes=True)
    back = await world.workspaces.create(world.restoring(ready, saved.sha256))
    assert "The volume data is as it was." in back.restored
    assert (await world.sh(back, "cat /data/rows")).text == "1"

    await world.sh(back, "echo more > more")
    await world.workspaces.save(world.saving(back))
    await world.workspaces.delete(ready.workspace, keeps_volumes=True)
    older = await world.workspaces.create(world.restoring(ready, saved.sha256))
    assert "The volume data is as it was." not in older.restored
    assert (await world.sh(older, "ls /data")).text == "", "those were of another time"
