"""Opens PTYs in containers: held inside wherever there is a Python, else by `docker exec`."""

import asyncio
import logging
from collections import defaultdict
from contextlib import suppress
from importlib.resources import files

from agent.docker import CommandOverdue, Engine
from agent.errors import NodeError
from agent.launcher import INSIDE
from agent.terminal.exec_line import ExecLine, end_marked
from agent.terminal.held_line import FOLDER, AwayError, Door, HeldLine
from agent.terminal.holder import TAKEN
from agent.terminal.line import Line, Shell

log = logging.getLogger(__name__)

SOURCE = "SAMOVAR_HOLDER"
BOOT = f'import os; exec(os.environ.pop("{SOURCE}"))'
START = 'exec python3 -ISc "$1" "$2"'
START_S_MAX = 20.0
KILLED = 128
"""From here on an exit code says nothing of the program."""


def source() -> str:
    """Return the text of the holder, also from the one file that the node agent is."""
    return (files("agent.terminal") / "holder.py").read_text(encoding="utf-8")


class ContainerLines:
    """See `Lines`. Whether a container has a Python is found out once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._without: set[str] = set()
        self._starting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self, shell: Shell) -> Line:
        """See `Lines`."""
        if shell.container not in self._without:
            try:
                return await self._open_held(shell)
            except AwayError as error:
                about = {"terminal": shell.terminal, "reason": str(error)}
                log.info("terminal.not_held", extra=about)
        return await ExecLine.open(self._engine, shell)

    async def _open_held(self, shell: Shell) -> Line:
        with suppress(AwayError):
            return await HeldLine.open(shell)
        async with self._starting[shell.container]:
            try:
                return await HeldLine.open(shell)
            except AwayError:
                await self._start_holder(shell)
            return await HeldLine.open(shell)

    async def _start_holder(self, shell: Shell) -> None:
        path = f"{INSIDE}/{FOLDER}/{Door.of(shell).name}"
        try:
            done = await self._engine.run(
                shell.container,
                ["/bin/sh", "-c", START, "sh", BOOT, path],
                user=shell.user,
                folder="/",
                environment={SOURCE: source()},
                time_limit_s=START_S_MAX,
            )
        except CommandOverdue as error:
            raise AwayError(str(error)) from error
        if done.code:
            if done.code < KILLED and done.code != TAKEN:
                self._without.add(shell.container)
            raise AwayError(f"{done.code}: {done.complaint}")

    async def find(self, shell: Shell, *, after: int) -> Line | None:
        """See `Lines`."""
        found = await HeldLine.find(shell, after=after)
        if found is None:
            with suppress(NodeError):
                await end_marked(self._engine, shell)
        return found
