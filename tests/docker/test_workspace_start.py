"""Workspaces on a real Docker Engine by the real devcontainer CLI."""

import asyncio
import json
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent import devcontainer
from agent.errors import NodeError
from agent.override import WORKSPACE_LABEL
from tests.fakes.node_world import (
    BRANCH,
    REPOSITORY,
    NodeWorld,
    a_workspace_id,
    base_image,
    node_world,
)
from tests.fakes.serving import until

pytestmark = pytest.mark.docker


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


def config(**properties: object) -> str:
    return json.dumps({"image": base_image(), "remoteUser": "dev"} | properties)


async def test_w5_commands_run_as_the_remote_user_in_its_folder_with_its_environment(
    world: NodeWorld,
) -> None:
    ready = await world.create(
        {
            ".devcontainer/devcontainer.json": config(
                containerEnv={"FROM_CONTAINER": "1"},
                remoteEnv={"FROM_REMOTE": "2", "SEEN": "[${localEnv:HOME}]"},
                postCreateCommand='echo "$(id -un) $(pwd) $FROM_CONTAINER $FROM_REMOTE" > created',
                postStartCommand="echo started >> started",
                postAttachCommand="touch attached",
            ),
            "a.txt": "hello\n",
        }
    )
    assert (ready.user, ready.folder, ready.recovered) == ("dev", "/workspaces/web", "")
    said = await world.sh(
        ready, 'cat created started; ls attached; echo "$FROM_REMOTE $SEEN"; id -u'
    )
    assert said.text.splitlines() == ["dev /workspaces/web 1 2", "started", "2 []", "1000"]


async def test_the_working_tree_is_on_its_branch_and_belongs_to_the_remote_user(
    world: NodeWorld,
) -> None:
    ready = await world.create({".devcontainer.json": config(), "b/c.txt": "x"})
    script = "git status --porcelain --branch; stat -c %U . .git b/c.txt; git rev-parse HEAD"
    said = await world.sh(ready, script)
    assert said.text.splitlines() == [f"## {BRANCH}", "dev", "dev", "dev", ready.base_commit]
    assert ready.base == "main"
    assert ready.base_commit == world.forge.head(REPOSITORY, "main")


async def test_without_a_configuration_the_default_image_is_used(world: NodeWorld) -> None:
    ready = await world.create({"a.txt": ""})
    assert ready.recovered == ""
    said = await world.sh(ready, "cat /etc/os-release && ls a.txt")
    assert "bookworm" in said.text


async def test_a_dockerfile_with_its_own_user_and_a_local_feature(world: NodeWorld) -> None:
    ready = await world.create(
        {
            ".devcontainer/devcontainer.json": json.dumps(
                {
                    "build": {"dockerfile": "Dockerfile", "args": {"WHO": "lena"}},
                    "remoteUser": "lena",
                    "features": {"./marker": {"word": "tea"}},
                    "postCreateCommand": "touch mine && id -u > uid",
                }
            ),
            ".devcontainer/Dockerfile": (
                f"FROM {base_image()}\nARG WHO\nRUN useradd -m -u 1234 -s /bin/bash $WHO\n"
            ),
            ".devcontainer/marker/devcontainer-feature.json": json.dumps(
                {
                    "id": "marker",
                    "version": "1.0.0",
                    "options": {"word": {"type": "string", "default": "none"}},
                }
            ),
            ".devcontainer/marker/install.sh": "#!/bin/sh\necho $WORD > /usr/local/marker\n",
            "a.txt": "",
        }
    )
    assert (ready.user, ready.recovered) == ("lena", "")
    said = await world.sh(ready, "cat uid /usr/local/marker; stat -c %u a.txt .git/HEAD mine")
    assert said.text.split() == ["1234", "tea", "1234", "1234", "1234"]


async def test_a_named_configuration_is_found_and_an_unknown_one_is_an_error(
    world: NodeWorld,
) -> None:
    files = {".devcontainer/night/devcontainer.json": config(containerEnv={"SHIFT": "night"})}
    ready = await world.create(files, devcontainer="night")
    assert (await world.sh(ready, "echo $SHIFT")).text == "night"
    for name in ("day", "../..", "."):
        with pytest.raises(NodeError) as refused:
            await world.workspaces.create(world.order(devcontainer=name))
        assert refused.value.code == "unknown_devcontainer"
    assert "night" in refused.value.text


async def test_limits_are_those_of_the_kernel(world: NodeWorld) -> None:
    ready = await world.create({"a.txt": ""}, cpus=0.5, memory_mb=256)
    seen = await world.engine.inspect(ready.container)
    assert seen is not None
    host = seen["HostConfig"]
    assert (host["NanoCpus"], host["Memory"]) == (500_000_000, 256 << 20)
    assert (host["PidsLimit"], host["Init"]) == (4096, True)
    said = await world.sh(
        ready,
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
        " || cat /sys/fs/cgroup/memory.max",
    )
    assert said.text == str(256 << 20)


async def test_tools_and_objects_are_read_only_and_claude_runs(world: NodeWorld) -> None:
    ready = await world.create({"a.txt": ""})
    place = await world.workspaces.place(ready.workspace)
    said = await world.sh(
        ready,
        f"{place.claude} --version; for f in /opt/samovar/tools/x {place.claude}"
        ' "$(cat .git/objects/info/alternates)/x"; do (echo > "$f") 2>/dev/null && echo "$f"; done;'
        " touch /run/samovar/claude/x /run/samovar/s/x && echo $CLAUDE_CONFIG_DIR",
        user="0",
    )
    assert "Claude Code" in said.text.splitlines()[0]
    assert said.text.splitlines()[1:] == ["/run/samovar/claude"]


async def test_w4_a_broken_dockerfile_falls_back_to_the_default_and_then_to_the_last_good_image(
    world: NodeWorld,
) -> None:
    mark = f"tea-{a_workspace_id()}"
    broken = {
        ".devcontainer/devcontainer.json": '{"build": {"dockerfile": "Dockerfile"}}',
        ".devcontainer/Dockerfile": f"FROM {base_image()}\nRUN echo {mark} && exit 3\n",
    }
    ready = await world.create(broken)
    assert ready.recovered.startswith("the devcontainer failed: ")
    assert ready.recovered.endswith("the default image is used instead.")
    log = world.settings.state / "ws" / ready.workspace / "logs/build-1.log"
    assert mark in log.read_text()
    everything = await world.engine.client.containers.list(all=True)
    assert not [one for one in everything if mark in one["Command"]]

    good = config(containerEnv={"GOOD": "yes"})
    world.forge.commit(REPOSITORY, {".devcontainer/devcontainer.json": good})
    fine = await world.workspaces.create(world.order())
    assert fine.recovered == ""
    world.forge.commit(REPOSITORY, broken)
    again = await world.workspaces.create(world.order())
    assert again.recovered.endswith("the last good image is used instead.")
    assert (await world.sh(again, "echo $GOOD")).text == "yes"


async def test_w4_a_broken_feature_falls_back_keeps_its_log_and_says_so(world: NodeWorld) -> None:
    mark = f"tea-{a_workspace_id()}"
    ready = await world.create(
        {
            ".devcontainer/devcontainer.json": config(features={"./broken": {}}),
            ".devcontainer/broken/devcontainer-feature.json": json.dumps(
                {"id": "broken", "version": "1.0.0"}
            ),
            ".devcontainer/broken/install.sh": f"#!/bin/sh\necho {mark}; exit 3\n",
        }
    )
    assert ready.recovered.endswith("the default image is used instead.")
    log = world.settings.state / "ws" / ready.workspace / "logs/build-1.log"
    assert mark in log.read_text()
    assert (await world.sh(ready, "echo fine")).text == "fine"


async def test_w4_a_syntax_error_is_named_with_its_line(world: NodeWorld) -> None:
    ready = await world.create({".devcontainer.json": '{\n  // tea\n  "image": oops\n}'})
    assert "line 3" in ready.recovered
    assert "default image" in ready.recovered


async def test_w4_a_failing_lifecycle_command_leaves_a_workspace_that_says_so(
    world: NodeWorld,
) -> None:
    ready = await world.create(
        {".devcontainer.json": config(postCreateCommand="echo lost-tea >&2; exit 7")}
    )
    assert "lifecycle command failed" in ready.recovered
    assert (await world.sh(ready, "id -un")).text == "dev"
    log = world.settings.state / "ws" / ready.workspace / "logs/build-1.log"
    assert "lost-tea" in log.read_text()


async def test_w3_a_second_attempt_rebuilds_and_keeps_both_logs_and_the_work(
    world: NodeWorld,
) -> None:
    dockerfile = f"FROM {base_image()}\nRUN exit 3\n"
    ready = await world.create(
        {
            ".devcontainer/devcontainer.json": '{"build": {"dockerfile": "Dockerfile"}, '
            '"remoteUser": "dev"}',
            ".devcontainer/Dockerfile": dockerfile,
        }
    )
    assert ready.recovered
    await world.sh(
        ready, "echo work > work.txt; sed -i 's/exit 3/true/' .devcontainer/Dockerfile", user="0"
    )
    second = await world.workspaces.create(world.order(ready.workspace, attempt=2))
    assert (second.attempt, second.recovered) == (2, "")
    assert second.container != ready.container
    assert (await world.sh(second, "cat work.txt")).text == "work"
    assert await world.engine.inspect(ready.container) is None
    logs = world.settings.state / "ws" / ready.workspace / "logs"
    assert sorted(path.name for path in logs.iterdir()) == ["build-1.log", "build-2.log"]
    assert "--no-cache" in (logs / "build-2.log").read_text()


async def test_the_same_order_again_gives_the_same_answer_and_wakes_what_sleeps(
    world: NodeWorld,
) -> None:
    ready = await world.create({"a.txt": "", ".devcontainer.json": config()})
    order = world.order(ready.workspace)
    assert await world.workspaces.create(order) == ready
    await world.sh(ready, "echo kept > kept.txt")
    await world.engine.stop(ready.container, grace_s=0)
    assert await world.workspaces.create(order) == ready
    assert (await world.sh(ready, "cat kept.txt")).text == "kept"
    await world.engine.remove(ready.container)
    again = await world.workspaces.create(order)
    assert again.container != ready.container
    assert (await world.sh(again, "cat kept.txt")).text == "kept"


async def test_w7_another_life_of_the_agent_finds_containers_overlays_and_sockets(
    world: NodeWorld,
) -> None:
    ready = await world.create({"a.txt": "", ".devcontainer.json": config()})
    await world.sh(ready, "echo kept > kept.txt")
    await world.workspaces.close()
    await world.engine.stop(ready.container, grace_s=0)
    tree = world.settings.state / "ws" / ready.workspace / "src/web"
    os.system(f"umount {tree}")  # As a reboot does.
    life = world.another_life()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(life.run())
        assert await life.create(world.order(ready.workspace)) == ready
        said = await world.sh(ready, "cat kept.txt; git fetch && echo fetched")
        assert said.text.splitlines() == ["kept", "fetched"]
        running.cancel()
    assert list(life.ids()) == [ready.workspace]


async def test_delete_leaves_no_container_volume_mount_or_file(world: NodeWorld) -> None:
    mounts = ["type=volume,source=cache,target=/cache"]
    ready = await world.create({".devcontainer.json": config(mounts=mounts)})
    place = await world.workspaces.place(ready.workspace)
    volume = f"samovar-{ready.workspace}-cache"
    seen = await world.engine.inspect(place.container)
    assert seen is not None
    assert volume in [mount.get("Name") for mount in seen["Mounts"]]
    for _ in range(2):
        await world.workspaces.delete(ready.workspace)
    assert list(await world.engine.find({WORKSPACE_LABEL: ready.workspace})) == []
    assert str(world.settings.state) not in Path("/proc/mounts").read_text()
    assert list((world.settings.state / "ws").iterdir()) == []
    assert world.workspaces.ids() == []
    left = await world.engine.client.volumes.list(filters={"name": [volume]})
    assert not left["Volumes"]


async def test_g4_work_that_was_never_collected_is_kept_when_its_workspace_goes(
    world: NodeWorld,
) -> None:
    ready = await world.create({".devcontainer.json": config()})
    await world.workspaces.place(ready.workspace)
    await world.sh(ready, "echo precious > new.txt && git add new.txt && git commit -qm Work")
    await world.engine.remove((await world.workspaces.place(ready.workspace)).container)
    await world.workspaces.delete(ready.workspace)
    (kept,) = (world.settings.state / "rescue").iterdir()
    with tarfile.open(kept) as tar:
        names = tar.getnames()
    assert f"{ready.workspace}/new.txt" in names
    assert any("/.git/objects/" in name for name in names)
    again = await world.workspaces.create(world.order())
    await world.workspaces.place(again.workspace)
    await world.sh(again, "echo rubbish > new.txt")
    await world.workspaces.delete(again.workspace, discard=True)
    assert list((world.settings.state / "rescue").iterdir()) == [kept], "a person discarded it"


async def test_what_a_person_gave_up_is_removed_without_a_copy(world: NodeWorld) -> None:
    ready = await world.create({".devcontainer.json": config()})
    await world.workspaces.place(ready.workspace)
    await world.sh(ready, "echo unwanted > new.txt")
    await world.workspaces.delete(ready.workspace, discard=True)
    assert not list((world.settings.state / "rescue").glob("*"))
    assert world.workspaces.ids() == []


async def test_w2_a_shell_that_never_comes_up_costs_its_environment_and_not_the_workspace(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devcontainer, "PROBE_S", 0.01)
    ready = await world.create({".devcontainer.json": config()})
    assert [note for note in ready.notes if "could not be read" in note]
    assert ("probe", "failed") in {(step.step, step.state) for step in world.steps}
    assert (await world.sh(ready, "echo fine")).text == "fine"


async def test_w2_each_step_is_told_once_started_and_once_ended(world: NodeWorld) -> None:
    await world.create({".devcontainer.json": config()})
    ended = [step.step for step in world.steps if step.state == "done"]
    assert ended == ["fetch", "tree", "policy", "build", "start", "hooks", "probe"]
    assert {step.state for step in world.steps} == {"started", "done"}
    assert all(step.limit_s > 0 and step.then for step in world.steps if step.state == "started")


async def test_w4_a_container_that_somebody_kills_is_no_fault_of_the_devcontainer(
    world: NodeWorld,
) -> None:
    """Killed as soon as it runs, then in its lifecycle commands: it is brought up again."""
    slow = config(postCreateCommand="sleep 3; echo made >> made")
    async with asyncio.TaskGroup() as group:
        making = group.create_task(world.create({".devcontainer.json": slow}))
        await _kill_when(world, lambda: True)
        await _kill_when(world, lambda: ("hooks", "started") in _told(world))
    ready = making.result()
    assert (ready.recovered, ready.notes) == ("", ())
    assert (await world.sh(ready, "cat made")).text == "made"


def _told(world: NodeWorld) -> set[tuple[str, str]]:
    return {(step.step, step.state) for step in world.steps}


async def _kill_when(world: NodeWorld, is_time: Callable[[], bool]) -> None:
    """Kill the workspace's container once it runs and the time has come."""
    async with asyncio.timeout(60):
        while True:
            for container in await world.engine.belonging(world.made[0]) if world.made else ():
                seen = await world.engine.inspect(container)
                if seen and seen["State"]["Running"] and is_time():
                    await world.engine.client.containers.container(container).kill()
                    return
            await asyncio.sleep(0.01)


async def test_a_lost_container_whose_making_is_cut_short_is_made_by_the_next_who_needs_it(
    world: NodeWorld,
) -> None:
    ready = await world.create({".devcontainer.json": config()})
    await world.sh(ready, "git commit -q --allow-empty -m work")
    await world.engine.remove(ready.container)
    world.steps.clear()
    async with asyncio.TaskGroup() as group:
        waking = group.create_task(world.workspaces.wake(ready.workspace))
        await until(lambda: ("build", "started") in _told(world))
        waking.cancel()
    collected = await world.workspaces.collect(world.collecting(ready))
    assert collected.commits == 1
