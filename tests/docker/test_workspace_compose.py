"""Devcontainers by Docker Compose, where the node has it."""

import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from agent.errors import NodeError
from tests.fakes.lacking import lacking
from tests.fakes.node_world import NodeWorld, base_image, node_world

pytestmark = pytest.mark.docker


def has_compose() -> bool:
    for command in (["docker", "compose", "version"], ["docker-compose", "version"]):
        try:
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return True
        except OSError:
            continue
    return False


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    if not has_compose():
        lacking("Docker Compose 2")
    async with node_world(tmp_path) as opened:
        yield opened


def composed(service: Mapping[str, object] | None = None, **top: object) -> dict[str, str]:
    """Return a repository whose service `app` has `service` added, with a second one beside it."""
    app = {
        "image": base_image(),
        "command": ["sleep", "infinity"],
        "volumes": ["..:/code:cached", "cache:/cache"],
        "environment": {"PRICE": "5$$"},
        "depends_on": ["side"],
        "env_file": ["own.env"],
    }
    document = {
        "services": {
            "app": app | dict(service or {}),
            "side": {"image": base_image(), "command": ["sleep", "infinity"]},
        },
        "volumes": {"cache": None},
    } | top
    return {
        ".devcontainer/devcontainer.json": json.dumps(
            {
                "dockerComposeFile": "compose.yml",
                "service": "app",
                "workspaceFolder": "/code",
                "remoteUser": "dev",
                "containerEnv": {"HERE": "yes"},
                "postCreateCommand": "id -un > who",
            }
        ),
        ".devcontainer/own.env": "OWN=1\n",
        ".devcontainer/compose.yml": json.dumps(document),
        "a.txt": "a",
    }


async def test_two_services_come_up_with_our_mounts_limits_and_environment(
    world: NodeWorld,
) -> None:
    ready = await world.create(composed())
    assert (ready.recovered, ready.user, ready.folder) == ("", "dev", "/code")
    said = await world.sh(
        ready,
        'cat who a.txt; echo " $OWN $HERE $PRICE $CLAUDE_CONFIG_DIR"; getent hosts side | wc -l;'
        " ls -d /run/samovar/claude; (echo > /opt/samovar/tools/x) 2>/dev/null || echo read-only",
        user="dev",
    )
    lines = said.text.splitlines()
    assert lines[:3] == ["dev", "a 1 yes 5$ /run/samovar/claude", "1"]
    assert lines[3:] == ["/run/samovar/claude", "read-only"]
    seen = await world.engine.inspect(ready.container)
    assert seen is not None
    assert seen["HostConfig"]["Memory"] == 512 << 20
    assert len(await world.engine.belonging(ready.workspace)) == 2

    await world.sh(ready, "echo b > b.txt")
    got = await world.workspaces.collect(world.collecting(ready))
    assert {change.path for change in got.files} == {"b.txt", "who"}
    command = "cat b.txt; getent hosts side | wc -l"
    checked = await world.workspaces.check(world.checking(ready, got.head, command))
    assert checked.results[0].tail.split() == ["b", "1"]

    for container in await world.engine.belonging(ready.workspace):
        await world.engine.stop(container, grace_s=0)
    again = await world.workspaces.create(world.order(ready.workspace))
    assert again == ready
    assert (await world.sh(ready, "getent hosts side | wc -l")).text == "1"
    await world.workspaces.delete(ready.workspace)
    assert list(await world.engine.belonging(ready.workspace)) == []
    named = {"name": [f"samovar-{ready.workspace}"]}
    assert not (await world.engine.client.volumes.list(filters=named))["Volumes"]
    assert not await world.engine.client.networks.list(filters=named)


@pytest.mark.parametrize(
    ("files", "code"),
    [
        (composed({"privileged": True}), "privileged"),
        (composed({"cap_add": ["SYS_ADMIN"]}), "capability"),
        (composed({"network_mode": "host", "depends_on": []}), "host_namespace"),
        (composed({"pid": "host"}), "host_namespace"),
        (composed({"volumes": ["/:/host"]}), "host_mount"),
        (composed({"volumes": ["../../..:/host"]}), "host_mount"),
        (composed({"volumes": ["/var/run/docker.sock:/s"]}), "docker_socket"),
        (composed({"ports": ["18099:80"]}), "published_port"),
        (composed({"devices": ["/dev/null:/dev/evil"]}), "device"),
        (composed({"env_file": ["/etc/os-release"]}), "outside_path"),
        (composed() | {".devcontainer/.env": "-> /etc/os-release"}, "outside_path"),
        (composed(include=[{"path": "x.yml", "env_file": "/etc/os-release"}]), "outside_path"),
        (composed({"build": {"context": "../../.."}}), "outside_path"),
        (composed({"post_start": [{"command": "id", "privileged": True}]}), "run_argument"),
        (composed(volumes={"cache": {"external": True}}), "shared_volume"),
        (
            composed(
                volumes={"cache": {"driver_opts": {"type": "none", "device": "/", "o": "bind"}}}
            ),
            "host_mount",
        ),
        (
            composed({"privileged": "${P}"}) | {".devcontainer/.env": "P=true\n"},
            "privileged",
        ),
    ],
)
async def test_w6_compose_files_may_not_reach_the_node(
    world: NodeWorld, files: Mapping[str, str], code: str
) -> None:
    with pytest.raises(NodeError) as refused:
        await world.create(files)
    assert refused.value.code == "policy_refused"
    assert f"[{code}]" in refused.value.text
    assert list(await world.engine.belonging(world.made[0])) == []
