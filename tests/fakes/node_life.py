"""One life of a node agent's workspaces, as a process of its own that can be killed.

Reads JSON on standard input, makes a workspace, works in it, publishes; prints JSON. Its fuse
counts calls that leave the process: programs started and requests to Docker. At call number
`fuse` it kills itself, before or after the call.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import aiodocker

from agent.errors import NodeError
from agent.settings import Settings
from agent.workspaces import Workspaces
from core.ids import RunId, WorkspaceId
from core.wire import Collect, CreateWorkspace, Push, RunChecks, WorkspaceStep, from_json

WORK = "[ -e work.txt ] || echo work > work.txt"


class Fuse:
    """Kills this process at its n-th call to the outside."""

    def __init__(self, length: int, *, after: bool) -> None:
        self.calls = 0
        self._length = length
        self._after = after

    def around(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def burning(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            now = self.calls == self._length
            if now and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = await call(*args, **kwargs)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return burning


async def live(told: dict[str, Any]) -> dict[str, Any]:
    fuse = Fuse(told["fuse"], after=told["after"])
    asyncio.create_subprocess_exec = fuse.around(asyncio.create_subprocess_exec)
    aiodocker.Docker._do_query = fuse.around(aiodocker.Docker._do_query)  # type: ignore[method-assign]

    async def credentials(_: WorkspaceId, scope: str) -> tuple[str, str]:
        return told["logins"][scope]

    async def tell(_: WorkspaceStep) -> None:
        return None

    def copies(_: str) -> NoReturn:
        raise NodeError("copy_missing", "There is none.")

    workspaces = Workspaces(
        Settings(**told["settings"]),
        credentials=credentials,
        copies=copies,
        tell=tell,
        forward_url=lambda: "http://127.0.0.1:9",
    )
    order = from_json(CreateWorkspace, told["order"])
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(workspaces.run())
        ready = await workspaces.create(order)
        place = await workspaces.place(order.workspace)
        await workspaces._engine.run(
            place.container, ["sh", "-c", WORK], user=place.user, folder=place.folder
        )
        run = RunId("T-1.1")
        got = await workspaces.collect(
            Collect(workspace=order.workspace, run=run, message="m", author="A", email="a@b")
        )
        checked = await workspaces.check(
            RunChecks(
                workspace=order.workspace,
                run=run,
                commit=got.head,
                commands=("cat work.txt",),
                time_limit_s=30,
            )
        )
        pushed = await workspaces.push(
            Push(workspace=order.workspace, run=run, commit=got.head, branch=order.branch)
        )
        running.cancel()
    return {
        "calls": fuse.calls,
        "container": ready.container,
        "head": pushed.commit,
        "commits": got.commits,
        "checks": [(c.exit_code, c.tail) for c in checked.results],
    }


if __name__ == "__main__":
    from pathlib import Path

    told = json.loads(sys.stdin.read())
    told["settings"] |= {
        "state": Path(told["settings"]["state"]),
        "claude": Path(told["settings"]["claude"]),
    }
    print(json.dumps(asyncio.run(live(told))))
