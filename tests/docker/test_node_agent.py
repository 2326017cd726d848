"""The whole node agent as it is shipped: one file, real Docker, real Claude Code, killed twice."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.local import process
from adapters.local.compute import LocalCompute
from agent.docker import Engine
from agent.settings import Settings
from bot.agent_file import agent_file
from core.ids import NodeId, OrderId, RunId, SessionId
from core.secret import Secret
from core.wire import (
    Collect,
    CreateWorkspace,
    Credential,
    DeleteWorkspace,
    Order,
    OrderBody,
    StartSession,
    StopSession,
    to_json,
)
from tests.fakes.githost import git_host
from tests.fakes.node_link import ControlPlane, control_plane
from tests.fakes.node_world import REPOSITORY, a_workspace_id, base_image, node_settings
from tests.fakes.serving import until

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]

NODE = NodeId("node-0000d0c0")
SESSION = SessionId("5e55a0ae-0000-4000-8000-00000000d0c0")
RUN = RunId("T-1.1")


async def test_w7_a_workspace_and_its_session_survive_kills_of_the_node_agent(
    tmp_path: Path,
) -> None:
    settings = node_settings(tmp_path / "unused")
    engine = Engine(settings.docker_host)
    try:
        await _walk(tmp_path, settings, engine)
    finally:
        await engine.close()


async def _walk(tmp_path: Path, settings: Settings, engine: Engine) -> None:
    (tmp_path / "git").mkdir()
    (tmp_path / "agent.pyz").write_bytes(agent_file().data)
    workspace = a_workspace_id()
    bridge = await engine.bridge()
    async with control_plane() as plane, git_host(tmp_path / "git", host=bridge) as forge:
        forge.add(REPOSITORY, {"README.md": "hello\n"})
        plane.store.credentials[workspace] = Credential(
            number=0, username="reader", password="read-secret"
        )
        compute = LocalCompute(
            state=tmp_path / "nodes",
            url=plane.url,
            command=(sys.executable, "-I", "-S", str(tmp_path / "agent.pyz")),
            settings={
                "docker_host": settings.docker_host,
                "devcontainer_js": settings.devcontainer_js,
                "node_js": settings.node_js,
                "claude": str(settings.claude),
            },
            installation="test",
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            look_s=0.1,
        )
        create = CreateWorkspace(
            workspace=workspace,
            attempt=1,
            repository=REPOSITORY,
            url=forge.url(REPOSITORY),
            base="",
            branch="samovar/T-1-try",
            cpus=1.0,
            memory_mb=1024,
            devcontainer="",
            image=base_image(),
        )
        await compute.create(NODE, enrolment=Secret(plane.store.add_enrolment(NODE)))
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(compute.run())
            try:
                ordered = order(plane, create)
                await until(lambda: steps(plane), within_s=60)
                kill(tmp_path)
                ready = await answered(plane, ordered)
                assert ready["ok"], ready
                start = StartSession(
                    session=SESSION, run=RUN, workspace=workspace, model="m", frame="f"
                )
                assert (await answered(plane, order(plane, start)))["ok"]
                kill(tmp_path)
                await until(lambda: sessions(plane) == (SESSION,), within_s=60)
                collect = Collect(
                    workspace=workspace, run=RUN, message="m", author="a", email="a@b.c"
                )
                collected = await answered(plane, order(plane, collect))
                assert collected["ok"], collected
                assert collected["result"]["commits"] == 0
                stopped = await answered(plane, order(plane, StopSession(session=SESSION)))
                assert stopped["ok"], stopped
                states = [
                    event["data"]["state"]
                    for body in plane.store.bodies("session_events")
                    for event in body["events"]  # type: ignore[attr-defined]
                    if event["kind"] == "session.state"
                ]
                assert states[-1] == "ended"
                assert states.count("starting") <= 1, "adopted, never restarted"
            finally:
                gone = await answered(plane, order(plane, DeleteWorkspace(workspace=workspace)))
                keeping.cancel()
                await compute.destroy(NODE)
        assert gone["ok"], gone
        assert await engine.find({"samovar.workspace": workspace}) == []


def order(plane: ControlPlane, body: OrderBody) -> OrderId:
    count = plane.store.db.execute("SELECT count(*) FROM orders").fetchone()[0]
    made = Order(
        id=OrderId(f"run:{RUN}/{body.KIND}/{count}"),
        object=f"run:{RUN}",
        fence=1,
        kind=body.KIND,
        body=to_json(body),
    )
    plane.store.add_order(NODE, made)
    return made.id


async def answered(plane: ControlPlane, ident: OrderId) -> dict[str, Any]:
    await until(lambda: ident in plane.store.answers(), within_s=120)
    return plane.store.answers()[ident]


def steps(plane: ControlPlane) -> list[dict[str, object]]:
    return plane.store.bodies("workspace_step")


def sessions(plane: ControlPlane) -> tuple[SessionId, ...]:
    """Return what the node says that it drives, once it has linked again."""
    info = plane.link.connected().get(NODE)
    return info.status.sessions if info and info.status else ()


def kill(tmp_path: Path) -> None:
    pid = process.find(tmp_path / "nodes" / NODE)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
