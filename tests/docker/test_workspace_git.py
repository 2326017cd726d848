"""Git between workspace, node and code host: credentials, refusals, progress."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import NodeError
from tests.fakes.lacking import lacking
from tests.fakes.node_world import BRANCH, REPOSITORY, NodeWorld, base_image, node_world

pytestmark = pytest.mark.docker

CONFIG = {".devcontainer.json": json.dumps({"image": base_image(), "remoteUser": "dev"})}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


async def test_c6_git_in_a_workspace_reads_its_own_repository_and_no_other(
    world: NodeWorld,
) -> None:
    world.forge.add("acme/other", {"x": ""})
    ready = await world.create(CONFIG)
    world.forge.commit(REPOSITORY, {"more.txt": "more"})
    own = await world.sh(ready, "git pull -q origin main && cat more.txt")
    assert own.text == "more"
    other = world.forge.url("acme/other")
    host = world.forge.base_url.split("//")[1]
    said = await world.sh(
        ready,
        f"""
        git ls-remote {other} 2>&1 | grep -c 'could not read\\|Authentication'
        ask() {{ printf "$1" | git credential fill 2>/dev/null | grep -c password; }}
        export GIT_TERMINAL_PROMPT=0
        ask 'protocol=https\\nhost={host}\\npath={REPOSITORY}.git\\n\\n'
        ask 'protocol=http\\nhost=evil.example\\npath={REPOSITORY}.git\\n\\n'
        ask 'protocol=http\\nhost={host}\\npath=acme/other.git\\n\\n'
        printf 'action=get\\nprotocol=http\\nhost=evil.example\\n\\n' > /tmp/q
        git credential-cache --socket /run/samovar/git.sock get < /tmp/q | grep -c password
        """,
    )
    assert said.text.split() == ["1", "0", "0", "0", "0"]
    assert set(world.scopes) == {"read"}


async def test_the_push_gate_gets_the_workspace_token_and_the_code_host_no_push(
    world: NodeWorld,
) -> None:
    gate = world.forge
    world.push_url = f"{gate.base_url.replace('127.0.0.1', 'localhost')}/gate"
    ready = await world.create(CONFIG)
    place = await world.workspaces.place(ready.workspace)
    said = await world.sh(ready, "git remote get-url --push origin")
    assert said.text == f"{world.push_url}/git/{REPOSITORY}.git"
    question = "protocol=http\\nhost={}\\npath=gate/git/acme/web.git\\n\\n"
    host = world.push_url.split("//")[1].split("/")[0]
    said = await world.sh(ready, f"printf '{question.format(host)}' | git credential fill")
    assert f"password={place.token}" in said.text.splitlines()
    shown = await world.sh(ready, "env; cat .git/config; cat /proc/1/environ /proc/*/cmdline")
    assert place.token not in shown.text
    assert "read-secret" not in shown.text
    pushed = await world.sh(ready, f"git push {world.forge.url(REPOSITORY)} HEAD:{BRANCH}")
    assert pushed.code != 0
    assert world.forge.head(REPOSITORY, BRANCH) == ""


async def test_the_push_address_follows_the_node_after_a_restart(world: NodeWorld) -> None:
    ready = await world.create(CONFIG)
    world.push_url = "http://127.0.0.1:10"
    await world.workspaces.close()
    life = world.another_life()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(life.run())
        await life.create(world.order(ready.workspace))
        said = await world.sh(ready, "git remote get-url --push origin")
        assert said.text == f"http://127.0.0.1:10/git/{REPOSITORY}.git"
        host = "protocol=http\\nhost=127.0.0.1:10\\n\\n"
        said = await world.sh(ready, f"printf '{host}' | git credential fill")
        assert "password=wst_" in said.text
        running.cancel()


@pytest.mark.parametrize(
    ("lever", "code"),
    [
        ("repository", "unknown_repository"),
        ("branch", "unknown_branch"),
        ("login", "clone_refused"),
        ("down", "forge_unreachable"),
        ("empty", "empty_repository"),
    ],
)
async def test_bad_input_ends_in_a_code_and_a_sentence(
    world: NodeWorld, lever: str, code: str
) -> None:
    world.forge.add(REPOSITORY, CONFIG)
    order = world.order()
    if lever == "repository":
        order = world.order(url=world.forge.url("acme/nothing"))
    if lever == "branch":
        order = world.order(base="no/such")
    if lever == "login":
        world.logins["read"] = ("reader", "wrong")
    if lever == "down":
        world.forge.answer_with = 502
    if lever == "empty":
        world.forge.git(REPOSITORY, "update-ref", "-d", "refs/heads/main")
    with pytest.raises(NodeError) as refused:
        await world.workspaces.create(order)
    assert refused.value.code == code
    assert "secret" not in refused.value.text
    assert "wrong" not in str([step.text for step in world.steps])
    failed = [step.step for step in world.steps if step.state == "failed"]
    assert failed == (["tree"] if lever == "branch" else ["fetch"])
    world.logins["read"] = ("reader", "read-secret")
    world.forge.answer_with = None
    if lever == "login":
        assert (await world.workspaces.create(order)).recovered == ""


async def test_a_full_disk_is_said(world: NodeWorld, tmp_path: Path) -> None:
    small = world.settings.state / "mirror"
    small.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=False
    )
    if mounted.returncode:
        lacking("a small file system, which this host may not mount")
    try:
        world.forge.add(REPOSITORY, {"big.bin": os.urandom(1 << 20)})
        with pytest.raises(NodeError) as full:
            await world.workspaces.create(world.order())
        assert full.value.code == "disk_full"
    finally:
        subprocess.run(["umount", small], check=True)


async def test_a_build_that_finds_no_room_is_no_reason_to_try_other_images(
    world: NodeWorld,
) -> None:
    build = f"FROM {base_image()}\nRUN dd if=/dev/zero of=/dev/shm/fill bs=1M\n"
    files = {
        ".devcontainer/devcontainer.json": json.dumps({"build": {"dockerfile": "Dockerfile"}}),
        ".devcontainer/Dockerfile": build,
    }
    with pytest.raises(NodeError) as full:
        await world.create(files)
    assert full.value.code == "disk_full"
    assert "that of Docker" in full.value.text


async def test_odd_names_are_data(world: NodeWorld) -> None:
    base, branch = "feature/$(touch-x);`id`'\"é", "samovar/T-2-$(id)"
    world.forge.add(REPOSITORY, CONFIG)
    world.forge.commit(REPOSITORY, {"a b'c\"$(id).txt": "x", "-n": "y", "ünï.txt": ""}, branch=base)
    ready = await world.workspaces.create(world.order(base=base, branch=branch))
    assert ready.base == base
    await world.sh(ready, 'echo new > "-rf"; echo new >> "./-n"')
    got = await world.workspaces.collect(world.collecting(ready))
    assert {change.path for change in got.files} == {"-rf", "-n"}
    pushed = await world.workspaces.push(world.pushing(ready, got.head, branch))
    assert world.forge.head(REPOSITORY, branch) == pushed.commit
