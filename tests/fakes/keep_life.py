"""One life of a node agent's workspaces that carries out orders of a list and may be killed.

Reads JSON on standard input; after every order it prints its answer as a line of JSON. Its fuse
counts calls that leave the process or its event loop. See `node_life`.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp

from agent.fetch import fetched
from agent.files import Layout
from agent.settings import Settings
from agent.workspaces import Workspaces
from core.ids import WorkspaceId
from core.wire import (
    CreateWorkspace,
    DeleteWorkspace,
    DropCopy,
    SaveWorkspace,
    WorkspaceStep,
    from_json,
    to_json,
)
from tests.fakes.node_life import Fuse

SAVED = "saved"
"""In `CreateWorkspace.restore`: the copy that was saved before."""


async def live(told: dict[str, Any]) -> None:
    fuse = Fuse(told["fuse"], after=told["after"])
    asyncio.create_subprocess_exec = fuse.around(asyncio.create_subprocess_exec)
    asyncio.to_thread = fuse.around(asyncio.to_thread)
    aiodocker.Docker._do_query = fuse.around(aiodocker.Docker._do_query)  # type: ignore[method-assign]
    settings = Settings(**told["settings"])

    async def credentials(_: WorkspaceId, scope: str) -> tuple[str, str]:
        return told["logins"][scope]

    async def tell(_: WorkspaceStep) -> None:
        return None

    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as tasks:
        workspaces = Workspaces(
            settings,
            credentials=credentials,
            copies=lambda sha256: fetched(
                client, "http://127.0.0.1:9", str, Layout(state=settings.state), sha256
            ),
            tell=tell,
            forward_url=lambda: "http://127.0.0.1:9",
        )
        running = tasks.create_task(workspaces.run())
        saved = told["saved"]
        for kind, body in told["orders"]:
            if body.get("restore") == SAVED:
                body["restore"] = saved
            answer = await _do(workspaces, kind, body)
            saved = answer.get("sha256", saved)
            print(json.dumps(answer), flush=True)
        print(json.dumps({"calls": fuse.calls}), flush=True)
        running.cancel()


async def _do(workspaces: Workspaces, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    match kind:
        case CreateWorkspace.KIND:
            return to_json(await workspaces.create(from_json(CreateWorkspace, body)))
        case SaveWorkspace.KIND:
            return to_json(await workspaces.save(from_json(SaveWorkspace, body)))
        case DropCopy.KIND:
            await workspaces.drop(from_json(DropCopy, body))
        case DeleteWorkspace.KIND:
            order = from_json(DeleteWorkspace, body)
            await workspaces.delete(order.workspace, discard=order.discard)
    return {}


if __name__ == "__main__":
    told = json.loads(sys.stdin.read())
    told["settings"] |= {
        "state": Path(told["settings"]["state"]),
        "claude": Path(told["settings"]["claude"]),
    }
    asyncio.run(live(told))
