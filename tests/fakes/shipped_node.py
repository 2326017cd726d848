"""The whole node agent as it is shipped, one file, under a control plane; it may be killed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.local import process
from adapters.local.compute import LocalCompute
from adapters.nodelink.files import NodeFiles
from agent.docker import Engine
from bot.agent_file import agent_file
from core.ids import NodeId, OrderId, RunId, WorkspaceId
from core.secret import Secret
from core.wire import CreateWorkspace, Credential, DeleteWorkspace, Order, OrderBody, to_json
from tests.fakes.githost import GitHost, git_host
from tests.fakes.node_link import ControlPlane, control_plane
from tests.fakes.node_world import REPOSITORY, a_workspace_id, base_image, node_settings
from tests.fakes.serving import until

NODE = NodeId("node-0000d0c0")
RUN = RunId("T-1.1")
ANSWER_S_MAX = 120


@dataclass
class ShippedNode:
    """One node with one workspace, `workspace`, in the state folder `state`."""

    state: Path
    plane: ControlPlane
    forge: GitHost
    engine: Engine
    workspace: WorkspaceId

    def creating(self) -> CreateWorkspace:
        return CreateWorkspace(
            workspace=self.workspace,
            attempt=1,
            repository=REPOSITORY,
            url=self.forge.url(REPOSITORY),
            base="",
            branch="samovar/T-1-try",
            cpus=1.0,
            memory_mb=1024,
            devcontainer="",
            image=base_image(),
        )

    def order(self, body: OrderBody) -> OrderId:
        count = self.plane.store.db.execute("SELECT count(*) FROM orders").fetchone()[0]
        made = Order(
            id=OrderId(f"run:{RUN}/{body.KIND}/{count}"),
            object=f"run:{RUN}",
            fence=1,
            kind=body.KIND,
            body=to_json(body),
        )
        self.plane.store.add_order(NODE, made)
        return made.id

    async def answered(self, ident: OrderId) -> dict[str, Any]:
        await until(lambda: ident in self.plane.store.answers(), within_s=ANSWER_S_MAX)
        return self.plane.store.answers()[ident]

    async def good(self, body: OrderBody) -> dict[str, Any]:
        """Have an order carried out well and return its result."""
        answer = await self.answered(self.order(body))
        assert answer["ok"], answer
        result: dict[str, Any] = answer["result"]
        return result

    def kill(self) -> None:
        pid = process.find(self.state)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def shipped_node(
    folder: Path, content: dict[str, str], *, files: NodeFiles | None = None
) -> AsyncIterator[ShippedNode]:
    """Run the node agent, started again whenever it ends, for the length of a `with` block."""
    settings = node_settings(folder / "unused")
    engine = Engine(settings.docker_host)
    (folder / "git").mkdir()
    (folder / "agent.pyz").write_bytes(agent_file().data)
    workspace = a_workspace_id()
    try:
        bridge = await engine.bridge()
        async with (
            control_plane(heartbeat_s=3, files=files) as plane,
            git_host(folder / "git", host=bridge) as forge,
        ):
            forge.add(REPOSITORY, content)
            plane.store.credentials[workspace] = Credential(
                number=0, username="reader", password="read-secret"
            )
            compute = LocalCompute(
                state=folder / "nodes",
                url=plane.url,
                command=(sys.executable, "-I", "-S", str(folder / "agent.pyz")),
                settings={
                    "docker_host": settings.docker_host,
                    "devcontainer_js": settings.devcontainer_js,
                    "node_js": settings.node_js,
                    "claude": str(settings.claude),
                },
                installation="test",
                env={"PATH": os.environ["PATH"], "HOME": str(folder)},
                look_s=0.1,
            )
            await compute.create(
                NODE, size="small", enrolment=Secret(plane.store.add_enrolment(NODE))
            )
            node = ShippedNode(folder / "nodes" / NODE, plane, forge, engine, workspace)
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(compute.run())
                try:
                    yield node
                finally:
                    await node.good(DeleteWorkspace(workspace=workspace))
                    keeping.cancel()
                    await compute.destroy(NODE)
    finally:
        await engine.close()
