"""Features from a registry: pulled by the CLI, judged by our policy."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import NodeError
from tests.fakes.node_world import NodeWorld, base_image, node_world
from tests.fakes.registry import Registry, registry

pytestmark = pytest.mark.docker

INSTALL = r"""#!/bin/sh
set -e
printf '#!/bin/sh\necho "tea is %s"\n' "$KIND" > /usr/bin/tea
chmod +x /usr/bin/tea
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def shelf(world: NodeWorld, tmp_path: Path) -> AsyncIterator[Registry]:
    async with registry(tmp_path / "registry", world.settings) as opened:
        yield opened


def using(feature: str, **options: object) -> dict[str, str]:
    config = {"image": base_image(), "remoteUser": "dev", "features": {feature: options}}
    return {".devcontainer/devcontainer.json": json.dumps(config)}


async def test_a_feature_from_a_registry_is_installed_with_its_options(
    world: NodeWorld, shelf: Registry
) -> None:
    kind = {"type": "string", "default": "black"}
    tea = await shelf.publish(
        "tea", INSTALL, options={"kind": kind}, containerEnv={"TEA": "/usr/bin/tea"}
    )
    assert "acme/features/tea" in await shelf.manifests()
    ready = await world.create(using(tea, kind="green"))
    assert (ready.recovered, ready.user) == ("", "dev")
    assert (await world.sh(ready, "$TEA; id -un")).text == "tea is green\ndev"


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"privileged": True}, "privileged"),
        ({"capAdd": ["SYS_ADMIN"]}, "capability"),
        (
            {"mounts": [{"type": "bind", "source": "/etc", "target": "/host"}]},
            "host_mount",
        ),
        (
            {
                "mounts": [
                    {
                        "type": "bind",
                        "source": "/var/run/docker.sock",
                        "target": "/var/run/docker.sock",
                    }
                ]
            },
            "docker_socket",
        ),
    ],
)
async def test_w6_what_a_feature_from_a_registry_adds_is_refused_before_it_is_built(
    world: NodeWorld, shelf: Registry, properties: dict[str, object], code: str
) -> None:
    evil = await shelf.publish("evil", "#!/bin/sh\ntouch /evil\n", **properties)
    with pytest.raises(NodeError) as refused:
        await world.create(using(evil))
    assert refused.value.code == "policy_refused"
    assert f"[{code}]" in refused.value.text
    assert [step.step for step in world.steps if step.state == "failed"] == ["policy"]


async def test_w4_a_feature_that_is_not_in_the_registry_falls_back(
    world: NodeWorld, shelf: Registry
) -> None:
    ready = await world.create(using(f"{shelf.address}/acme/features/absent:1"))
    assert "the default image is used instead" in ready.recovered
