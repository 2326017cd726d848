"""A node's terminals over given lines, with a real spool; one life after the other."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agent import files
from agent.errors import NodeError
from agent.place import Place
from agent.spool import Spool
from agent.terminal.line import Lines
from agent.terminal.terminals import Terminals
from core.ids import TerminalId, WorkspaceId
from core.viewing import View
from core.wire import OpenTerminal

WORKSPACE = WorkspaceId("ws-1")
TERMINAL = TerminalId("t-00000001")


class Life:
    """One life of a node agent's terminals.

    Levers: `is_gone` says that the workspace is not there; `changes` are of its place.
    """

    def __init__(self, state: Path, lines: Lines, spool: Spool, run_dir: Path) -> None:
        self.layout = files.Layout(state=state)
        self.spool = spool
        self.run_dir = run_dir
        self.is_gone = False
        self.changes: dict[str, Any] = {}
        self.layout.workspace(WORKSPACE).mkdir(parents=True, exist_ok=True)
        self.terminals = Terminals(
            layout=self.layout, lines=lines, place=self._place, wake=self._wake, reports=spool
        )

    async def _wake(self, workspace: WorkspaceId) -> None:
        self.known(workspace)

    async def _place(self, workspace: WorkspaceId) -> Place:
        return self.known(workspace)

    def known(self, workspace: WorkspaceId) -> Place:
        if self.is_gone:
            raise NodeError("workspace_gone", f"The workspace {workspace} is not on this node.")
        env = {"PATH": os.environ["PATH"], "HOME": "/", "SECRET_TOKEN": "hush-hush-hush"}
        place = Place(
            container="here",
            user="root",
            uid=os.getuid(),
            gid=os.getgid(),
            folder="/",
            env=env,
            run_dir=self.run_dir,
            config_dir="/",
            token="wst_0123456789",
            claude="",
        )
        return replace(place, **self.changes)

    def folder(self, terminal: TerminalId = TERMINAL) -> Path:
        return self.layout.workspace(WORKSPACE) / "terminals" / terminal

    def view(
        self, name: str = "Ada", *, writes: bool = True, terminal: TerminalId = TERMINAL
    ) -> Callable[[View], Awaitable[None]]:
        return partial(
            self.terminals.view,
            workspace=WORKSPACE,
            terminal=terminal,
            viewer=name,
            writes=writes,
        )

    async def reports(self) -> list[str]:
        """Return the bodies of the reports that wait for the control plane."""
        found = await self.spool.reports(after=0, bytes_max=2**20)
        return [body for _, _, body in found]


def an_order(*command: str, terminal: TerminalId = TERMINAL) -> OpenTerminal:
    return OpenTerminal(workspace=WORKSPACE, terminal=terminal, command=command)


@asynccontextmanager
async def living(state: Path, lines: Lines, run_dir: Path, **changes: Any) -> AsyncGenerator[Life]:
    """Live until the end of the block, then stop as a node agent does."""
    state.mkdir(parents=True, exist_ok=True)
    spool = Spool(state / "spool.db")
    await spool.open()
    life = Life(state, lines, spool, run_dir)
    life.changes = changes
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(life.terminals.run())
            await life.terminals.has_adopted.wait()
            try:
                yield life
            finally:
                running.cancel()
    finally:
        await spool.close()
