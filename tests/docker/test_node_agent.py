"""The whole node agent as it is shipped: one file, real Docker, real Claude Code, killed twice."""

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.disk.files import DiskFiles
from adapters.nodelink.files import NodeFiles
from adapters.system import SecretBox, SystemClock
from core.ids import NodeId, SessionId
from core.rescue import bring_in
from core.wire import (
    Collect,
    DeleteWorkspace,
    DropCopy,
    SaveWorkspace,
    StartSession,
    StopSession,
)
from tests.fakes.serving import until
from tests.fakes.shipped_node import NODE, RUN, ShippedNode, shipped_node

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(300)]

SESSION = SessionId("5e55a0ae-0000-4000-8000-00000000d0c0")


async def test_w7_a_workspace_and_its_session_survive_kills_of_the_node_agent(
    tmp_path: Path,
) -> None:
    async with shipped_node(tmp_path, {"README.md": "hello\n"}) as node:
        ordered = node.order(node.creating())
        await until(lambda: node.plane.store.bodies("workspace_step"))
        node.kill()
        ready = await node.answered(ordered)
        assert ready["ok"], ready
        await node.good(
            StartSession(session=SESSION, run=RUN, workspace=node.workspace, model="m", frame="f")
        )
        node.kill()
        await until(lambda: sessions(node) == (SESSION,))
        collect = Collect(workspace=node.workspace, run=RUN, message="m", author="a", email="a@b.c")
        assert (await node.good(collect))["commits"] == 0
        await node.good(StopSession(session=SESSION))
        states = [
            event["data"]["state"]
            for body in node.plane.store.bodies("session_events")
            for event in body["events"]  # type: ignore[attr-defined]
            if event["kind"] == "session.state"
        ]
        assert states[-1] == "ended"
        assert states.count("starting") <= 1, "adopted, never restarted"
        await node.good(DeleteWorkspace(workspace=node.workspace))
        assert await node.engine.find({"samovar.workspace": node.workspace}) == []


def sessions(node: ShippedNode) -> tuple[SessionId, ...]:
    """Return what the node says that it drives, once it has linked again."""
    info = node.plane.link.connected().get(NODE)
    return info.status.sessions if info and info.status else ()


def is_saving(node: ShippedNode) -> bool:
    return any((node.state / "tmp").glob("copy-*/part"))


def links(node: ShippedNode) -> int:
    """Return how often the node has linked so far."""
    return node.plane.store.log.count(f"connected {NODE}")


async def test_n8_work_goes_to_the_file_store_and_back_though_the_node_agent_is_killed(
    tmp_path: Path,
) -> None:
    store = DiskFiles(tmp_path / "files", SecretBox({"1": b"k" * 32}))

    async def may_fetch(node: NodeId, _: str) -> bool:
        return node == NODE

    files = NodeFiles(store, may_fetch)
    async with shipped_node(tmp_path, {"README.md": "hello\n"}, files=files) as node:
        ready = await node.good(node.creating())
        work = ["sh", "-c", "head -c 40000000 /dev/urandom > large.bin; sha256sum large.bin"]
        done = await node.engine.run(
            ready["container"], work, user=ready["user"], folder=ready["folder"]
        )
        saving = node.order(SaveWorkspace(workspace=node.workspace, attempt=1))
        await until(lambda: is_saving(node) or saving in node.plane.store.answers())
        before = links(node)
        node.kill()
        saved = (await node.answered(saving))["result"]
        await until(lambda: links(node) > before and NODE in node.plane.link.connected())
        stored = await bring_in(store, node.plane.link, NODE, saved["sha256"], clock=SystemClock())
        assert stored.size_bytes == saved["size_bytes"] > 40_000_000
        await node.good(DropCopy(sha256=saved["sha256"]))
        await node.good(DeleteWorkspace(workspace=node.workspace))
        assert list((node.state / "rescue").iterdir()) == []
        back = node.order(replace(node.creating(), attempt=2, restore=saved["sha256"]))
        await until(lambda: list((node.state / "ws").glob("*/src/*/large.bin")))
        node.kill()
        result = (await node.answered(back))["result"]
        assert result["restored"] == ["Put back: 1 untracked file."]
        look = await node.engine.run(
            result["container"],
            ["sha256sum", "large.bin"],
            user=result["user"],
            folder=result["folder"],
        )
        assert look.text == done.text
