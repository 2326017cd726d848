"""Hostile devcontainers, each really tried on a real Docker Engine (W6)."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from agent import compose
from agent.errors import NodeError
from agent.override import WORKSPACE_LABEL
from agent.policy import devcontainer_id
from tests.fakes.node_world import NodeWorld, base_image, node_world

pytestmark = pytest.mark.docker


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


def config(**properties: object) -> str:
    return json.dumps({"image": base_image(), "remoteUser": "dev"} | properties)


def feature(**properties: object) -> Mapping[str, str]:
    return {
        ".devcontainer/devcontainer.json": config(features={"./evil": {}}),
        ".devcontainer/evil/devcontainer-feature.json": json.dumps(
            {"id": "evil", "version": "1.0.0"} | properties
        ),
        ".devcontainer/evil/install.sh": "#!/bin/sh\ntrue\n",
    }


async def test_w6_all_that_can_be_taken_out_at_once_has_no_effect(
    world: NodeWorld, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    ready = await world.create(
        {
            ".devcontainer.json": config(
                initializeCommand=f"touch {mark}",
                privileged=True,
                capAdd=["SYS_ADMIN"],
                securityOpt=["seccomp=unconfined"],
                appPort=[18080],
                mounts=[
                    "source=/,target=/host,type=bind",
                    "source=/var/run/docker.sock,target=/var/run/docker.sock,type=bind",
                ],
                runArgs=[
                    *["--privileged", "--net=host", "--pid", "host", "-v", "/:/host2"],
                    *["--device", "/dev/null:/dev/evil", "--cap-add=ALL", "--memory=64g"],
                    *["--label", f"{WORKSPACE_LABEL}=other", "-p", "18081:80"],
                ],
                workspaceFolder="/w,source=/etc",
                containerEnv={"LEAK": "${localEnv:PATH}${localEnv:HOME}"},
            )
        }
    )
    seen = await world.engine.inspect(ready.container)
    assert seen is not None
    host = seen["HostConfig"]
    assert (host["Privileged"], host["NetworkMode"], host["PidMode"]) == (False, "default", "")
    assert (host["CapAdd"], host["SecurityOpt"], host["Memory"]) == (None, None, 512 << 20)
    assert not host["PortBindings"]
    assert seen["Config"]["Labels"][WORKSPACE_LABEL] == ready.workspace
    said = await world.sh(ready, 'ls -d /host* /dev/evil /var/run/docker.sock; echo "[$LEAK]"')
    assert said.text == "[]"
    assert not mark.exists()
    assert len(ready.notes) == 16
    assert any("initializeCommand" in note for note in ready.notes)


@pytest.mark.parametrize(
    ("files", "code"),
    [
        (feature(privileged=True), "privileged"),
        (feature(capAdd=["SYS_ADMIN"]), "capability"),
        (feature(securityOpt=["seccomp=unconfined"]), "security_option"),
        (feature(mounts=[{"source": "/", "target": "/host", "type": "bind"}]), "host_mount"),
        (
            feature(mounts=["source=/var/run/docker.sock,target=/d.sock,type=bind"]),
            "docker_socket",
        ),
        (feature(mounts=["source=other,target=/o,type=volume"]), "shared_volume"),
        (
            {
                ".devcontainer/devcontainer.json": '{"build": {"dockerfile": "D"}}',
                ".devcontainer/D": "-> /etc/passwd",
            },
            "outside_path",
        ),
        (
            {
                **feature(),
                ".devcontainer/evil/shadow": "-> /etc/shadow",
            },
            "outside_path",
        ),
        ({".devcontainer/devcontainer.json": "-> /etc/passwd"}, "policy_refused"),
        (
            {".devcontainer.json": json.dumps({"dockerComposeFile": "../../x", "service": "a"})},
            "outside_path",
        ),
    ],
    ids=[
        "privileged-feature",
        "capability-feature",
        "security-feature",
        "mount-feature",
        "socket-feature",
        "volume-feature",
        "dockerfile-link",
        "feature-link",
        "configuration-link",
        "compose-outside",
    ],
)
async def test_w6_what_cannot_be_taken_out_is_refused_and_nothing_stays(
    world: NodeWorld, files: Mapping[str, str], code: str
) -> None:
    with pytest.raises(NodeError) as refused:
        await world.create(files)
    assert refused.value.code == "policy_refused"
    assert code in str(refused.value)
    assert list(await world.engine.find({WORKSPACE_LABEL: world.made[0]})) == []


async def test_w6_a_label_in_a_dockerfile_makes_no_container_privileged(world: NodeWorld) -> None:
    label = """LABEL devcontainer.metadata='[{"privileged":true}]'"""
    ready = await world.create(
        {
            ".devcontainer/devcontainer.json": '{"build": {"dockerfile": "Dockerfile"}}',
            ".devcontainer/Dockerfile": f"FROM {base_image()}\n{label}\n",
        }
    )
    seen = await world.engine.inspect(ready.container)
    assert seen is not None
    assert not seen["HostConfig"]["Privileged"]


async def test_a_project_may_permit_a_finding_by_its_code(world: NodeWorld) -> None:
    files = feature(capAdd=["SYS_PTRACE"])
    ready = await world.create(files, allow=("capability",))
    seen = await world.engine.inspect(ready.container)
    assert seen is not None
    assert seen["HostConfig"]["CapAdd"] in (["SYS_PTRACE"], ["CAP_SYS_PTRACE"])
    assert ready.recovered == ""


async def test_a_feature_may_have_a_volume_of_its_own_devcontainer(world: NodeWorld) -> None:
    volume = {"source": "dind-${devcontainerId}", "target": "/v", "type": "volume"}
    ready = await world.create(feature(mounts=[volume]))
    seen = await world.engine.inspect(ready.container)
    assert seen is not None
    given = seen["Config"]["Labels"]
    labels = {name: value for name, value in given.items() if name.startswith("samovar.")}
    names = [mount.get("Name") for mount in seen["Mounts"]]
    assert f"dind-{devcontainer_id(labels)}" in names


async def test_compose_without_the_plug_in_is_refused_in_a_sentence(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "COMMANDS", ())
    files = {
        ".devcontainer/devcontainer.json": json.dumps(
            {"dockerComposeFile": "compose.yml", "service": "app"}
        ),
        ".devcontainer/compose.yml": f"services: {{app: {{image: '{base_image()}'}}}}\n",
    }
    with pytest.raises(NodeError) as refused:
        await world.create(files)
    assert refused.value.code == "compose_missing"
